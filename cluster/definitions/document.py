"""The document of semantics.md §1 as pydantic models: shapes and single values, no references.

Each object is validated on its own, so that a fault in one hides none in another. `where` stays raw here
(`conditions.py` parses it), as do a destination's own keys (its kind's settings model does).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from cluster.limits import (
    PARTITIONS_MAX,
    RETENTION_MAX_MS,
)
from cluster.model.durations import format_duration, parse_duration

ID_FORM: Final = "1 to 128 of A-Z a-z 0-9 _ . - and no dot at the start"
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
#: What a canonical event holds (semantics.md §1): a path starts at one of these.
EVENT_ROOTS: Final = (
    "type", "event", "user_id", "anonymous_id", "group_id", "previous_id", "message_id", "source", "timestamp",
    "received_at", "properties", "traits", "context",
)
#: How long an alert is silent about a subject after it told of it, unless it says otherwise.
ALERT_COOLDOWN_DEFAULT_MS: Final = 3_600_000
SOURCE_KINDS: Final = ("http", "kafka", "file")


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        message = "not a valid id"
        raise ValueError(message)
    return text


def _positive_duration(value: object) -> int:
    duration_ms = parse_duration(value)
    if duration_ms == 0:
        message = "a duration above 0 is needed"
        raise ValueError(message)
    return duration_ms


def _retention(value: object) -> int:
    duration_ms = _positive_duration(value)
    if duration_ms > RETENTION_MAX_MS:
        message = f"a retention is at most {format_duration(RETENTION_MAX_MS)}"
        raise ValueError(message)
    return duration_ms


def _path(text: str) -> tuple[str, ...]:
    parts = tuple(text.split("."))
    if not all(parts):
        message = "a path is keys joined by single dots"
        raise ValueError(message)
    if parts[0] not in EVENT_ROOTS:
        message = f"no event has {parts[0][:40]!r} at its top"
        raise ValueError(message)
    return parts


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Id = Annotated[str, AfterValidator(_id)]
Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=1_000)]
Duration = Annotated[int, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[int, BeforeValidator(_positive_duration)]
Retention = Annotated[int, BeforeValidator(_retention)]
EventPath = Annotated[Name, AfterValidator(_path)]
ColumnType = Literal["string", "number", "boolean", "timestamp", "list"]


class Strict(BaseModel):
    """No unknown keys, no conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Labelled(Strict):
    """What every object has."""

    id: Id
    name: Text = ""
    description: Text = ""


class BasicAuthDocument(Strict):
    """`schema_registry.basic_auth`: the password is a secret."""

    username: Name
    password: Name


class SchemaRegistryDocument(Strict):
    """`sources[].schema_registry`: files (`ca`, `certificate`, `key`) are those of the nodes that run edges."""

    url: Annotated[list[Name], Field(min_length=1), BeforeValidator(_as_list)]
    basic_auth: BasicAuthDocument | None = None
    ca: Name | None = None
    certificate: Name | None = None
    key: Name | None = None


class SourceDocument(Labelled):
    """`sources[]`: the keys of all kinds; `kafka_sources.py` says which ones a topic needs and which not."""

    kind: Literal["http", "kafka", "file"]
    write_key: Name | None = None
    app_id: Annotated[list[Name], BeforeValidator(_as_list)] = Field(default_factory=list)
    brokers: Annotated[list[Name], BeforeValidator(_as_list)] = Field(default_factory=list)
    topics: Annotated[list[Name], BeforeValidator(_as_list)] = Field(default_factory=list)
    group: Name | None = None
    start: Literal["earliest", "latest"] | None = None
    config: dict[Name, Name] = Field(default_factory=dict)
    dead_letter_topic: Name | None = None
    format: Literal["json", "avro"] | None = None
    schema_registry: SchemaRegistryDocument | None = None


class TraitSourceDocument(Strict):
    """`parent_models[].traits.source`: its kind; the keys go to the kind's settings model (`trait_sources.py`)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: Name


class TraitColumnDocument(Strict):
    """`columns.*` of traits: `column` is the source's own name, the trait's unless given."""

    type: ColumnType
    column: Name | None = None
    pii: bool = False
    name: Text = ""
    description: Text = ""


def _said_path(text: str) -> tuple[str, ...]:
    parts = _path(text)
    if parts[0] != "traits" or len(parts) < 2:
        message = "what an identify call says of its user is in its traits"
        raise ValueError(message)
    return parts


class MainTraitColumnDocument(TraitColumnDocument):
    """`traits.columns.*`: of the main table, or with `source: identify` from identify calls, at `path` in them."""

    source: Literal["identify"] | None = None
    path: Annotated[Name, AfterValidator(_said_path)] | None = None


class TraitTableDocument(Strict):
    """`traits.tables[]`: another table with one row a user, joined by `key` (the parent's primary key if none)."""

    id: Id
    source: TraitSourceDocument
    key: Name | None = None
    columns: Annotated[dict[Name, TraitColumnDocument], Field(min_length=1)]


class RelatedColumnDocument(Strict):
    """`traits.related[].columns.*`: what quantifiers and filters read."""

    type: ColumnType
    column: Name | None = None


class RelatedTraitDocument(Strict):
    """`traits.related[].traits.*`: the labels; quantifier and filters are parsed by `trait_tables.py`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    pii: bool = False
    name: Text = ""
    description: Text = ""


class RelatedTableDocument(Strict):
    """`traits.related[]`: a table with any number of rows a user, found by `key`."""

    id: Id
    source: TraitSourceDocument
    key: Name | None = None
    columns: dict[Name, RelatedColumnDocument] = Field(default_factory=dict)
    traits: Annotated[dict[Name, RelatedTraitDocument], Field(min_length=1)]


class TraitsDocument(Strict):
    """`parent_models[].traits`. Without any source, those of tables only come from `usher replay --traits`."""

    source: TraitSourceDocument | None = None
    refresh: PositiveDuration | None = None
    columns: dict[Name, MainTraitColumnDocument] = Field(default_factory=dict)
    tables: list[TraitTableDocument] = Field(default_factory=list)
    related: list[RelatedTableDocument] = Field(default_factory=list)


class ParentModelDocument(Labelled):
    """`parent_models[]`."""

    primary_key: Name
    traits: TraitsDocument | None = None


class EventColumnDocument(Strict):
    """`event_models[].columns.*`."""

    path: EventPath
    type: ColumnType
    pii: bool = False
    name: Text = ""
    description: Text = ""


class ContractDocument(Strict):
    """`event_models[].contract`: `required` names columns of the model, `schema` is a JSON Schema of `properties`."""

    mode: Literal["allow", "warn", "block"] = "warn"
    required: list[Name] = Field(default_factory=list)
    schema_: Any = Field(default=None, alias="schema")


class EventModelDocument(Labelled):
    """`event_models[]`."""

    parent: Name
    source: Name | None = None
    type: Literal["track", "page", "screen", "identify", "group"] = "track"
    event: Name | None = None
    foreign_key: Annotated[list[EventPath], Field(min_length=1), BeforeValidator(_as_list)]
    timestamp: EventPath = ("timestamp",)  # type: ignore[assignment]
    columns: dict[Name, EventColumnDocument] = Field(default_factory=dict)
    retention: Retention | None = None
    contract: ContractDocument | None = None


class AudienceDocument(Labelled):
    """`audiences[]`."""

    parent: Name
    where: Any
    status: Literal["published", "draft", "paused", "archived"] = "published"


class DestinationDocument(Labelled):
    """`destinations[]`: the common keys; the others go to the kind's settings model."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: Name


class SyncDocument(Labelled):
    """`syncs[]`."""

    audience: Name
    destination: Name
    identifiers: Annotated[dict[Name, Name], Field(min_length=1)]
    on_exit: Literal["remove", "nothing", "archive"] = "remove"
    deliver: Literal["state", "changes"] | None = None
    initial: Literal["members", "none"] = "members"
    on_delete: Literal["keep", "remove"] = "keep"
    traits: list[Name] = Field(default_factory=list)
    batch_size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    batch_age: Duration | None = None
    min_stay: Duration | None = None
    cooldown: Duration | None = None
    debounce: Duration | None = None
    consent: Any = None
    log_pii: bool = False


class AlertChannelDocument(Labelled):
    """`alert_channels[]`: the common keys; the others go to the kind's model (`alerting.py`)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    kind: Literal["webhook", "slack", "email"]


class AlertDocument(Labelled):
    """`alerts[]`: the common keys; the others go to the rule's model (`alerting.py`)."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    rule: Literal["failure_rate", "backlog_age", "credentials", "audience_size", "no_events"]
    channels: Annotated[list[Name], BeforeValidator(_as_list), Field(min_length=1)]
    cooldown: Duration = ALERT_COOLDOWN_DEFAULT_MS


class SyncLogDocument(Strict):
    """`settings.sync_log`: how long and how much of each sync's log is kept."""

    keep: PositiveDuration | None = None
    max_bytes: Annotated[int, Field(ge=2**20, le=2**40)] | None = None


class DedupDocument(Strict):
    """`settings.dedup`."""

    horizon: Retention | None = None
    max_ids: Annotated[int, Field(ge=1, le=2**40)] | None = None


class SettingsDocument(Strict):
    """`settings`."""

    retention: Retention | None = None
    dedup: DedupDocument | None = None
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)] | None = None
    log_max_bytes: Annotated[int, Field(ge=1, le=2**62)] | None = None
    sync_log: SyncLogDocument | None = None


#: The sections that hold lists of objects, in the order they are checked, each with its model.
SECTIONS: Final[dict[str, type[Labelled]]] = {
    "sources": SourceDocument,
    "parent_models": ParentModelDocument,
    "event_models": EventModelDocument,
    "audiences": AudienceDocument,
    "destinations": DestinationDocument,
    "syncs": SyncDocument,
    "alert_channels": AlertChannelDocument,
    "alerts": AlertDocument,
}
TOP_KEYS: Final = ("version", "settings", *SECTIONS)

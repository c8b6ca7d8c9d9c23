"""Definitions as everybody inside reads them: checked, frozen, durations and times as int64 ms.

`cluster.definitions.parsing` makes these from a document; nothing else does. Inside, they are trusted.
Ids are unique per kind; mappings keep the document's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from cluster.definitions.alerting import Alert, AlertChannel
from cluster.definitions.trait_sources import TraitSource

ValueType = Literal["string", "number", "boolean", "timestamp", "list"]
Path: TypeAlias = tuple[str, ...]
#: A coerced operand: str, float, bool, int (timestamps and durations, ms) or a tuple of these.
Operand: TypeAlias = str | float | bool | int | tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Test:
    """One operator against its operand, both already checked against the column's `type`.

    `op` is a name of semantics.md §2 (`eq`, `not_in`, `between`, `within_last`, ...). `operand` is coerced:
    number float, timestamp int ms, duration int ms, list operators and `in` a tuple, `between` a pair,
    `is_set` a bool. `ignore_case` only for string and list.
    """

    op: str
    operand: Operand
    type: ValueType
    ignore_case: bool = False


@dataclass(frozen=True, slots=True)
class PropertyTest:
    """A filter's leaf: the column `column` of the event model satisfies `test`."""

    column: str
    test: Test


@dataclass(frozen=True, slots=True)
class FilterAll:
    """True when every child is."""

    children: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class FilterAny:
    """True when some child is."""

    children: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class FilterNot:
    """True when the child is not."""

    child: Filter


Filter: TypeAlias = PropertyTest | FilterAll | FilterAny | FilterNot


@dataclass(frozen=True, slots=True)
class Within:
    """Events with `t - duration_ms < ts <= t`."""

    duration_ms: int


@dataclass(frozen=True, slots=True)
class BetweenAgo:
    """Events with `t - until_ms < ts <= t - after_ms` (after_ms < until_ms)."""

    after_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Since:
    """Events with `time_ms <= ts <= t`."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class This:
    """Events since the local start of the day, week (Monday) or month that contains t."""

    unit: Literal["day", "week", "month"]
    tz: str


Window: TypeAlias = Within | BetweenAgo | Since | This


@dataclass(frozen=True, slots=True)
class All:
    """True when every child is."""

    children: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """True when some child is."""

    children: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True when the child is not."""

    child: Condition


@dataclass(frozen=True, slots=True)
class TraitTest:
    """The user's trait `trait` satisfies `test`."""

    trait: str
    test: Test


@dataclass(frozen=True, slots=True)
class EventCount:
    """The number of matching events in the window compares with `count` by `comparison`."""

    event: str
    comparison: Literal["at_least", "at_most", "exactly"]
    count: int
    window: Window
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class EventAggregate:
    """An aggregate over the matching events' `column` satisfies `comparison value`."""

    event: str
    aggregate: Literal["sum", "avg", "min", "max", "distinct"]
    column: str
    comparison: Literal["gt", "gte", "lt", "lte", "eq"]
    value: float
    window: Window
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a sequence, or one follow-up of an abandonment."""

    event: str
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class Sequence:
    """Matching events, one a step, in order, all within `within_ms`."""

    steps: tuple[Step, ...]
    within_ms: int


@dataclass(frozen=True, slots=True)
class Abandonment:
    """`event` happened at least `after_ms` ago, within `within_ms`, and no follow-up came."""

    event: str
    where: Filter | None
    within_ms: int
    not_followed_by: tuple[Step, ...]
    after_ms: int


@dataclass(frozen=True, slots=True)
class AudienceRef:
    """The user is a member of another audience at the same instant."""

    audience: str


Condition: TypeAlias = (
    All | AnyOf | Not | TraitTest | EventCount | EventAggregate | Sequence | Abandonment | AudienceRef
)


@dataclass(frozen=True, slots=True)
class SchemaRegistry:
    """Where the schemas of Avro records are. Empty texts: not given. `password` is a secret."""

    urls: tuple[str, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class KafkaTopics:
    """Topics that are read by a consumer group. `config`: the client's properties, which may be secret.

    `registry`: of Avro records; None: they are JSON. `dead_letter_topic` empty: what cannot be read goes to a file of
    the node that read it.
    """

    brokers: tuple[str, ...]
    topics: tuple[str, ...]
    group: str
    start: str = "earliest"
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    dead_letter_topic: str = ""
    registry: SchemaRegistry | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A sender of events. `write_key` is a secret: it is kept out of repr."""

    id: str
    kind: str
    write_key: str | None = field(default=None, repr=False)
    app_id: tuple[str, ...] = ()
    name: str = ""
    description: str = ""
    #: Of the kind `kafka`: what is read.
    kafka: KafkaTopics | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A declared column: a trait of a snapshot (`path` empty), or one with its path in the event that says it."""

    name: str
    type: ValueType
    path: Path = ()
    pii: bool = False


@dataclass(frozen=True, slots=True)
class TraitTable:
    """A table with one row a user. `columns` maps traits to the source's own columns; the main table's id is empty."""

    id: str
    source: TraitSource
    key: str
    columns: Mapping[str, str]


Quantifier: TypeAlias = Literal["count", "any", "all", "none", "sum", "avg", "min", "max", "distinct", "list"]


@dataclass(frozen=True, slots=True)
class RelatedTrait:
    """A trait of a user's rows in a related table, those that match `where`.

    `any`, `all` and `none` hold `test`; `sum` and those after it read `column`; `count` needs neither.
    """

    name: str
    quantifier: Quantifier
    column: str | None = None
    test: Filter | None = None
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class RelatedTable:
    """A table with any number of rows a user: its rows become traits when it is read.

    `columns` are those that quantifiers and filters read, with `path` holding the source's own name.
    """

    id: str
    source: TraitSource
    key: str
    columns: Mapping[str, Column]
    traits: tuple[RelatedTrait, ...]


@dataclass(frozen=True, slots=True)
class ParentModel:
    """A universe of users. `refresh_ms` None: read once and on change or command.

    `columns` has every trait, whichever table it comes from, and those that come with identify calls.
    """

    id: str
    primary_key: str
    columns: Mapping[str, Column]
    tables: tuple[TraitTable, ...] = ()
    related: tuple[RelatedTable, ...] = ()
    refresh_ms: int | None = None
    name: str = ""
    description: str = ""

    @property
    def sources(self) -> tuple[TraitSource, ...]:
        """Every source, in the document's order."""
        return (*(table.source for table in self.tables), *(table.source for table in self.related))

    @property
    def snapshot_columns(self) -> dict[str, Column]:
        """The traits that snapshots have, in the document's order."""
        return {name: column for name, column in self.columns.items() if not column.path}

    @property
    def identify_columns(self) -> dict[str, Column]:
        """The traits that come with identify calls (`source: identify`), in the document's order."""
        return {name: column for name, column in self.columns.items() if column.path}


@dataclass(frozen=True, slots=True)
class Contract:
    """What an event must be for its model: `required` columns are not missing, `properties` match `schema`.

    `allow`: events that break it are taken and counted; `warn`: and shown; `block`: the model does not take them.
    """

    mode: Literal["allow", "warn", "block"]
    required: tuple[str, ...] = ()
    schema: Any = None

    @property
    def blocks(self) -> bool:
        """Whether it decides what counts."""
        return self.mode == "block"


@dataclass(frozen=True, slots=True)
class EventModel:
    """A kind of event. `event` None: any name; `source` None: any source. `foreign_key`: first non-empty wins."""

    id: str
    parent: str
    source: str | None
    type: Literal["track", "page", "screen", "identify", "group"]
    event: str | None
    foreign_key: tuple[Path, ...]
    timestamp: Path
    columns: Mapping[str, Column]
    retention_ms: int
    name: str = ""
    description: str = ""
    contract: Contract | None = None


@dataclass(frozen=True, slots=True)
class Audience:
    """A condition over a parent model's users."""

    id: str
    parent: str
    where: Condition
    status: Literal["published", "draft", "paused", "archived"] = "published"
    name: str = ""
    description: str = ""

    @property
    def evaluated(self) -> bool:
        """Published and paused audiences are evaluated; drafts and archived ones are not."""
        return self.status in ("published", "paused")


@dataclass(frozen=True, slots=True)
class Destination:
    """Where changes go. `settings` is the kind's own validated settings model (secrets hidden in repr)."""

    id: str
    kind: str
    settings: Any
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Sync:
    """One audience to one destination. `deliver` and the batch figures are None where the kind's default holds."""

    id: str
    audience: str
    destination: str
    identifiers: Mapping[str, str]
    on_exit: Literal["remove", "nothing", "archive"] = "remove"
    deliver: Literal["state", "changes"] | None = None
    initial: Literal["members", "none"] = "members"
    on_delete: Literal["keep", "remove"] = "keep"
    traits: tuple[str, ...] = ()
    batch_size: int | None = None
    batch_age_ms: int | None = None
    min_stay_ms: int | None = None
    cooldown_ms: int | None = None
    debounce_ms: int | None = None
    consent: Any = None
    name: str = ""
    description: str = ""
    #: The sync log shows its users in clear.
    log_pii: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """Top-level settings, defaults filled in from `cluster.limits`."""

    retention_ms: int
    dedup_horizon_ms: int
    dedup_ids_max: int
    partitions: int
    log_bytes_max: int | None = None
    #: Of each sync's log; None: delivery's defaults.
    sync_log_keep_ms: int | None = None
    sync_log_bytes_max: int | None = None


@dataclass(frozen=True, slots=True)
class Definitions:
    """A whole checked document. `document` is its merged JSON form, secrets substituted: never log it."""

    settings: Settings
    sources: Mapping[str, Source]
    parent_models: Mapping[str, ParentModel]
    event_models: Mapping[str, EventModel]
    audiences: Mapping[str, Audience]
    destinations: Mapping[str, Destination]
    syncs: Mapping[str, Sync]
    document: Mapping[str, Any] = field(repr=False, default_factory=dict)
    alert_channels: Mapping[str, AlertChannel] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)

    def parent_retention_ms(self, parent: str) -> int:
        """Give the longest retention of the parent's event models (settings' own where it has none)."""
        own = [model.retention_ms for model in self.event_models.values() if model.parent == parent]
        return max(own, default=self.settings.retention_ms)

    def identify_models(self, parent: str) -> tuple[EventModel, ...]:
        """Give the event models whose rows say the parent's `identify_columns`, in the document's order."""
        return tuple(
            model for model in self.event_models.values() if model.parent == parent and model.type == "identify"
        )

    def identify_retention_ms(self, parent: str) -> int:
        """Give how long what an identify row says counts: the longest retention of the models that take such rows."""
        own = [model.retention_ms for model in self.identify_models(parent)]
        return max(own, default=self.settings.retention_ms)


@dataclass(frozen=True, slots=True)
class Published:
    """Definitions in force: `version` counts publications from 1, `audience_versions` each audience's own."""

    version: int
    definitions: Definitions
    audience_versions: Mapping[str, int]

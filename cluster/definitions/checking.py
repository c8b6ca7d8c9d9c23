"""A merged document's objects: each shape validated, references resolved, frozen classes made.

Two passes. The first validates every object and notes its `shape` even where it has faults, so that the second,
which resolves what refers to it, reports a fault once and not as many times as it is referred to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pydantic

from cluster.definitions import document as doc
from cluster.definitions.alerting import (
    ALERT_LABELS,
    CHANNEL_LABELS,
    CHANNEL_MODELS,
    RULE_MODELS,
    Alert,
    AlertChannel,
)
from cluster.definitions.conditions import AudienceShape, ModelShape, Scope, parse_condition
from cluster.definitions.cycles import audience_cycles
from cluster.definitions.faults import Faults, Place, listed, show
from cluster.definitions.kafka_sources import kafka_topics
from cluster.definitions.kinds import PRODUCT_KINDS, DestinationKind
from cluster.definitions.model import (
    Audience,
    Column,
    Contract,
    Definitions,
    Destination,
    EventModel,
    ParentModel,
    Settings,
    Source,
    Sync,
)
from cluster.definitions.plain_words import add_faults
from cluster.definitions.schemas import SCHEMA_FORM, schema_fault
from cluster.definitions.trait_tables import column_types, read_traits, said_traits, trait_types
from cluster.limits import (
    DEDUP_HORIZON_DEFAULT_MS,
    DEDUP_IDS_DEFAULT_MAX,
    PARTITIONS_DEFAULT,
    RETENTION_DEFAULT_MS,
)
from cluster.model.durations import parse_duration

#: What rules of alerts name, by their key and its section.
_NAMED_BY_RULES: Final = (
    ("syncs", "sync"), ("audiences", "audience"), ("event_models", "event model"), ("sources", "source"),
)  # fmt: skip


def build(document: Mapping[str, Any], kinds: Mapping[str, DestinationKind], faults: Faults) -> Definitions | None:
    """Give the definitions of a merged, substituted document; None when there are faults, which are then noted."""
    builder = _Builder(document, kinds, faults)
    definitions = builder.build()
    return None if faults.found else definitions


class _Builder:
    """The checks of one document. `_valid[section][index]` is the validated object, absent where it has faults."""

    def __init__(
        self, document: Mapping[str, Any], kinds: Mapping[str, DestinationKind], faults: Faults
    ) -> None:
        self._document = document
        self._kinds = kinds
        self._faults = faults
        self._raw = {section: _objects(document, section) for section in doc.SECTIONS}
        self._valid = {section: self._validate(section) for section in doc.SECTIONS}
        self._settings = self._read_settings()
        self._traits = {id_: trait_types(raw) for id_, raw in self._by_id("parent_models")}
        self._models = {id_: self._model_shape(raw) for id_, raw in self._by_id("event_models")}
        self._audiences = {
            id_: AudienceShape(self._known_parent(raw), _text(raw.get("status", "published")))
            for id_, raw in self._by_id("audiences")
        }
        self._audience_index = {read.id: index for index, read in self._valid["audiences"].items()}
        self._scopes: dict[tuple[str | None, bool], Scope] = {}
        #: Settings of destinations that have no fault, by id.
        self._kind_settings: dict[str, pydantic.BaseModel | None] = {}

    def build(self) -> Definitions:
        """Resolve every section."""
        definitions = Definitions(
            settings=self._settings,
            sources=self._sources(),
            parent_models=self._parent_models(),
            event_models=self._event_models(),
            audiences=self._audiences_built(),
            destinations=self._destinations(),
            syncs=self._syncs(),
            document=self._document,
            alert_channels=self._channels(),
            alerts=self._alerts(),
        )
        for path in audience_cycles(definitions.audiences):
            self._add_cycle(path)
        return definitions

    # --- first pass ------------------------------------------------------------------------------

    def _validate(self, section: str) -> dict[int, Any]:
        model, valid = doc.SECTIONS[section], {}
        for index, raw in self._raw[section]:
            place: Place = (section, index)
            if not isinstance(raw, dict):
                self._faults.add(place, "must be a mapping", allowed="a mapping")
                continue
            try:
                valid[index] = model.model_validate(raw)
            except pydantic.ValidationError as error:
                add_faults(error, model, raw, place, self._faults)
        return valid

    def _by_id(self, section: str) -> list[tuple[str, dict[str, Any]]]:
        """List the objects that can be referred to, faulty ones too."""
        return [
            (raw["id"], raw)
            for _, raw in self._raw[section]
            if isinstance(raw, dict) and isinstance(raw.get("id"), str)
        ]

    def _read_settings(self) -> Settings:
        raw = self._document.get("settings", {})
        try:
            read = doc.SettingsDocument.model_validate(raw)
        except pydantic.ValidationError as error:
            add_faults(error, doc.SettingsDocument, raw, ("settings",), self._faults)
            read = doc.SettingsDocument.model_construct(retention=_duration(raw, "retention"))
        dedup = read.dedup or doc.DedupDocument()
        sync_log = read.sync_log or doc.SyncLogDocument()
        return Settings(
            retention_ms=read.retention or RETENTION_DEFAULT_MS,
            dedup_horizon_ms=dedup.horizon or DEDUP_HORIZON_DEFAULT_MS,
            dedup_ids_max=dedup.max_ids or DEDUP_IDS_DEFAULT_MAX,
            partitions=read.partitions or PARTITIONS_DEFAULT,
            log_bytes_max=read.log_max_bytes,
            sync_log_keep_ms=sync_log.keep,
            sync_log_bytes_max=sync_log.max_bytes,
        )

    def _model_shape(self, raw: dict[str, Any]) -> ModelShape:
        own = "retention" in raw and raw["retention"] is not None
        retention_ms = _duration(raw, "retention") if own else self._settings.retention_ms
        return ModelShape(self._known_parent(raw), column_types(raw.get("columns", {})), retention_ms)

    def _known_parent(self, raw: dict[str, Any]) -> str | None:
        """Give the parent's id, None for one that is no parent: that is one fault, not one a reference."""
        parent = _text(raw.get("parent"))
        return parent if parent in self._traits else None

    # --- second pass -----------------------------------------------------------------------------

    def _sources(self) -> dict[str, Source]:
        sources: dict[str, Source] = {}
        key_of: dict[str, str] = {}
        taker_of: dict[str, str] = {}
        for index, read in self._valid["sources"].items():
            for application in read.app_id:
                if taker_of.setdefault(application, read.id) != read.id:
                    message = f"the source {show(taker_of[application])} has the same application"
                    self._faults.add(
                        ("sources", index, "app_id"), message, found=show(application),
                        allowed="an application of its own",
                    )  # fmt: skip
            if read.write_key is not None and key_of.setdefault(read.write_key, read.id) != read.id:
                message = f"the source {show(key_of[read.write_key])} has the same write key"
                self._faults.add(("sources", index, "write_key"), message, allowed="a write key of its own")
            sources[read.id] = Source(
                read.id, read.kind, read.write_key, tuple(read.app_id), read.name, read.description,
                kafka_topics(read, ("sources", index), self._faults),
            )  # fmt: skip
        return sources

    def _parent_models(self) -> dict[str, ParentModel]:
        return {
            read.id: self._parent_model(read, ("parent_models", index))
            for index, read in self._valid["parent_models"].items()
        }

    def _parent_model(self, read: doc.ParentModelDocument, place: Place) -> ParentModel:
        traits = read.traits or doc.TraitsDocument()
        found = read_traits(traits, read.primary_key, (*place, "traits"), self._faults)
        self._check_said(read.id, found.columns, (*place, "traits", "columns"))
        return ParentModel(
            id=read.id,
            primary_key=read.primary_key,
            columns=found.columns,
            tables=found.tables,
            related=found.related,
            refresh_ms=traits.refresh,
            name=read.name,
            description=read.description,
        )

    def _check_said(self, parent: str, columns: Mapping[str, Column], place: Place) -> None:
        """What identify calls say needs an event model that takes them: it says whose they are, and how long."""
        said = next((name for name, column in columns.items() if column.path), None)
        models = [raw for _, raw in self._by_id("event_models") if raw.get("parent") == parent]
        taken = any(raw.get("type") == "identify" for raw in models)
        if said is not None and not taken:
            message = f"no event model takes the identify calls of {parent}, so nothing says this trait"
            model = f"{{id: {parent}_identify, parent: {parent}, type: identify, foreign_key: user_id}}"
            self._faults.add((*place, said, "source"), message, allowed=f"an event model such as {model}")

    def _event_models(self) -> dict[str, EventModel]:
        return {
            read.id: self._event_model(read, ("event_models", index))
            for index, read in self._valid["event_models"].items()
        }

    def _event_model(self, read: doc.EventModelDocument, place: Place) -> EventModel:
        self._refer(read.parent, self._traits, "parent model", (*place, "parent"))
        if read.source is not None:
            self._refer(read.source, dict(self._by_id("sources")), "source", (*place, "source"))
        columns = {
            name: Column(name, column.type, column.path, column.pii)  # type: ignore[arg-type]
            for name, column in read.columns.items()
        }
        return EventModel(
            id=read.id,
            parent=read.parent,
            source=read.source,
            type=read.type,
            event=read.event,
            foreign_key=tuple(read.foreign_key),  # type: ignore[arg-type]
            timestamp=read.timestamp,  # type: ignore[arg-type]
            columns=columns,
            retention_ms=read.retention or self._settings.retention_ms,
            contract=self._contract(read, (*place, "contract")),
            name=read.name,
            description=read.description,
        )

    def _contract(self, read: doc.EventModelDocument, place: Place) -> Contract | None:
        contract = read.contract
        if contract is None:
            return None
        for index, name in enumerate(contract.required):
            self._refer(name, read.columns, "column of this event model", (*place, "required", index))
        if contract.schema_ is not None and (why := schema_fault(contract.schema_)):
            self._faults.add((*place, "schema"), f"not a usable JSON Schema: {why}", allowed=SCHEMA_FORM)
        return Contract(contract.mode, tuple(contract.required), contract.schema_)

    def _audiences_built(self) -> dict[str, Audience]:
        """Parse every audience's condition, also of those whose other keys have faults."""
        audiences: dict[str, Audience] = {}
        for index, raw in self._raw["audiences"]:
            if not isinstance(raw, dict):
                continue
            place: Place = ("audiences", index)
            read = self._valid["audiences"].get(index)
            scope = self._scope(raw)
            if read is not None:
                self._refer(read.parent, self._traits, "parent model", (*place, "parent"))
            if "where" not in raw:
                continue
            where = parse_condition(raw["where"], (*place, "where"), scope)
            if read is not None and where is not None:
                audiences[read.id] = Audience(
                    read.id, read.parent, where, read.status, read.name, read.description
                )
        return audiences

    def _scope(self, raw: dict[str, Any]) -> Scope:
        known = self._known_parent(raw)
        key = (known, raw.get("status") == "archived")
        if key not in self._scopes:
            traits = self._traits[known] if known is not None else None
            self._scopes[key] = Scope(known, traits, self._models, self._audiences, self._faults, key[1])
        return self._scopes[key]

    def _add_cycle(self, cycle: list[str]) -> None:
        """Note a cycle once, at the audience of it that comes first in the document."""
        index = self._audience_index[cycle[0]]
        message = f"the audience refers to itself: {' → '.join([*cycle[:10], cycle[0]])}"
        self._faults.add(("audiences", index, "where"), message, found=None, allowed="references without a cycle")

    def _destinations(self) -> dict[str, Destination]:
        destinations = {}
        for index, read in self._valid["destinations"].items():
            settings = self._destination_settings(read, index)
            self._kind_settings[read.id] = settings
            destinations[read.id] = Destination(read.id, read.kind, settings, read.name, read.description)
        return destinations

    def _destination_settings(
        self, read: doc.DestinationDocument, index: int
    ) -> pydantic.BaseModel | None:
        kind = self._kinds.get(read.kind)
        if kind is None:
            self._add_unknown_kind(read.kind, ("destinations", index, "kind"))
            return None
        return self._own("destinations", index, kind.settings_model, CHANNEL_LABELS)

    def _add_unknown_kind(self, kind: str, place: Place) -> None:
        available = listed(self._kinds)
        if kind in PRODUCT_KINDS:
            self._faults.add(place, f"{kind} is not available in this release", allowed=f"available: {available}")
            return
        hint = self._faults.suggestion(kind, self._kinds)
        self._faults.add(place, f"unknown kind of destination {show(kind)}{hint}", allowed=f"available: {available}")

    def _syncs(self) -> dict[str, Sync]:
        audiences = dict(self._by_id("audiences"))
        destinations = dict(self._by_id("destinations"))
        syncs = {}
        for index, read in self._valid["syncs"].items():
            place: Place = ("syncs", index)
            self._refer(read.audience, audiences, "audience", (*place, "audience"))
            self._refer(read.destination, destinations, "destination", (*place, "destination"))
            self._check_columns(read, audiences.get(read.audience), place)
            self._check_kind(read, destinations.get(read.destination), place)
            syncs[read.id] = _sync(read)
        return syncs

    def _check_columns(self, read: doc.SyncDocument, audience: dict[str, Any] | None, place: Place) -> None:
        """The columns a sync names are the parent's: traits, or for identifiers the primary key too."""
        parent = _text((audience or {}).get("parent"))
        traits = self._traits.get(parent) if parent else None
        if traits is None:
            return
        key = next(_text(raw.get("primary_key")) for id_, raw in self._by_id("parent_models") if id_ == parent)
        if key is None:
            return
        said = said_traits(next(raw for id_, raw in self._by_id("parent_models") if id_ == parent))
        columns = [key, *(name for name in traits if name not in said)]
        places: list[tuple[Place, str]] = [
            ((*place, "identifiers", field), at) for field, at in read.identifiers.items()
        ]
        places += [((*place, "traits", index), column) for index, column in enumerate(read.traits)]
        for at, column in places:
            if column in said:
                message = f"{show(column)} comes with identify calls: conditions can use it, syncs cannot send it yet"
                self._faults.add(at, message, allowed=listed(columns))
            else:
                self._refer(column, columns, f"column of {parent}", at)

    def _check_kind(self, read: doc.SyncDocument, destination: dict[str, Any] | None, place: Place) -> None:
        """What a sync asks of its destination is what the kind, under the destination's settings, can do."""
        kind = self._kinds.get(_text((destination or {}).get("kind")) or "")
        if kind is None:
            return
        if read.on_exit not in kind.exits:
            why = kind.exit_refusals.get(read.on_exit)
            message = f"a {kind.kind} destination cannot {read.on_exit} on exit{f': {why}' if why else ''}"
            allowed = ", ".join(exit_ for exit_ in ("remove", "nothing", "archive") if exit_ in kind.exits)
            self._faults.add((*place, "on_exit"), message, found=read.on_exit, allowed=allowed)
        known = kind.identifier_fields
        for field in read.identifiers if known is not None else ():
            self._refer(field, known, f"identifier of {kind.kind}", (*place, "identifiers", field))
        settings = self._kind_settings.get(read.destination)
        if settings is None:
            return
        fields = frozenset(read.identifiers)
        for key, message, allowed in kind.sync_faults(
            settings, fields=fields, on_exit=read.on_exit, deliver=read.deliver
        ):
            self._faults.add((*place, key), message, allowed=allowed)

    # --- alerts ----------------------------------------------------------------------------------

    def _channels(self) -> dict[str, AlertChannel]:
        channels = {}
        for index, read in self._valid["alert_channels"].items():
            own = self._own("alert_channels", index, CHANNEL_MODELS[read.kind], CHANNEL_LABELS)
            channels[read.id] = AlertChannel(read.id, read.kind, own, read.name, read.description)
        return channels

    def _alerts(self) -> dict[str, Alert]:
        channels, alerts = dict(self._by_id("alert_channels")), {}
        for index, read in self._valid["alerts"].items():
            place: Place = ("alerts", index)
            for number, channel in enumerate(read.channels):
                self._refer(channel, channels, "alert channel", (*place, "channels", number))
            rule = self._own("alerts", index, RULE_MODELS[read.rule], ALERT_LABELS)
            for section, noun in _NAMED_BY_RULES:
                known = dict(self._by_id(section))
                for number, id_ in enumerate(getattr(rule, section, None) or ()):
                    self._refer(id_, known, noun, (*place, section, number))
            alerts[read.id] = Alert(
                read.id, read.rule, rule, tuple(read.channels), read.cooldown, read.name, read.description
            )
        return alerts

    def _own(
        self, section: str, index: int, model: type[pydantic.BaseModel], labels: tuple[str, ...]
    ) -> pydantic.BaseModel | None:
        """Validate the keys of an object that are its kind's own; None where they have faults."""
        own = {key: value for key, value in self._document[section][index].items() if key not in labels}
        try:
            return model.model_validate(own)
        except pydantic.ValidationError as error:
            add_faults(error, model, own, (section, index), self._faults, also_allowed=labels)
            return None

    def _refer(self, name: str, known: Any, noun: str, place: Place) -> None:
        if name not in known:
            hint = self._faults.suggestion(name, known)
            self._faults.add(place, f"no {noun} {show(name)}{hint}", allowed=listed(known))


def _sync(read: doc.SyncDocument) -> Sync:
    return Sync(
        id=read.id,
        audience=read.audience,
        destination=read.destination,
        identifiers=dict(read.identifiers),
        on_exit=read.on_exit,
        deliver=read.deliver,
        initial=read.initial,
        on_delete=read.on_delete,
        traits=tuple(read.traits),
        batch_size=read.batch_size,
        batch_age_ms=read.batch_age,
        min_stay_ms=read.min_stay,
        cooldown_ms=read.cooldown,
        debounce_ms=read.debounce,
        consent=read.consent,
        log_pii=read.log_pii,
        name=read.name,
        description=read.description,
    )


def _objects(document: Mapping[str, Any], section: str) -> list[tuple[int, Any]]:
    return list(enumerate(document.get(section) or ()))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _duration(raw: object, key: str) -> int | None:
    """Read a duration whose fault, if it has one, is noted elsewhere."""
    try:
        return parse_duration(raw.get(key)) if isinstance(raw, dict) else None
    except ValueError:
        return None

"""Versions of definitions: what a publication changes, and the form of it that goes into logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cluster.definitions.canonical import canonical_json
from cluster.definitions.cycles import references
from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    Audience,
    Column,
    Condition,
    Contract,
    Definitions,
    EventAggregate,
    EventCount,
    EventModel,
    Filter,
    FilterAll,
    FilterAny,
    FilterNot,
    Not,
    ParentModel,
    PropertyTest,
    Published,
    Sequence,
    TraitTest,
)

_SECTIONS: Final = (
    "sources", "parent_models", "event_models", "audiences", "destinations", "syncs", "alert_channels",
    "alerts",
)  # fmt: skip
_EVALUATION_SECTIONS: Final = ("event_models", "audiences")


@dataclass(frozen=True, slots=True)
class Change:
    """One object that a publication adds, changes, removes or leaves; `kind` is a section's name or `settings`."""

    kind: str
    id: str
    change: Literal["added", "changed", "removed", "unchanged"]


def publish(previous: Published | None, definitions: Definitions) -> Published:
    """Count versions on from `previous`.

    An audience's version grows by 1 when its meaning changes, when it turns from evaluated into a draft, and when it
    comes back after it was archived or gone: a version never serves two lives, so no transition id can repeat. Ids
    that are gone keep their count in `audience_versions`.
    """
    if previous is None:
        return Published(1, definitions, dict.fromkeys(definitions.audiences, 1))
    changed = _changed_meanings(previous.definitions, definitions)
    versions = dict(previous.audience_versions)
    for id_, audience in definitions.audiences.items():
        version = versions.get(id_, 0)
        earlier = previous.definitions.audiences.get(id_)
        grows = version == 0 or id_ in changed or _is_new_life(earlier, audience)
        versions[id_] = version + 1 if grows else version
    return Published(previous.version + 1, definitions, versions)


def _is_new_life(earlier: Audience | None, audience: Audience) -> bool:
    if earlier is None or earlier.status == "archived":
        return audience.status != "archived"
    return earlier.evaluated and audience.status == "draft"


def evaluates_alike(before: Published, after: Published) -> bool:
    """Say whether an evaluator does the same under both.

    Then nothing differs but names, drafts, who of those that are evaluated is paused, and what only edges, loaders and
    delivery read.
    """
    return _evaluated(before) == _evaluated(after)


def _evaluated(published: Published) -> tuple[object, ...]:
    """Give what an evaluator's state and transitions are functions of, in order: hits name things by their place."""
    definitions = published.definitions
    audiences = [
        (each.id, each.parent, each.where, published.audience_versions[each.id])
        for each in definitions.audiences.values()
        if each.evaluated
    ]
    parents = [(each.id, each.primary_key, list(each.columns.items())) for each in definitions.parent_models.values()]
    models = [
        replace(each, name="", description="", contract=_blocking(each)) for each in definitions.event_models.values()
    ]
    columns = [list(each.columns) for each in models]
    settings = replace(definitions.settings, sync_log_keep_ms=None, sync_log_bytes_max=None)
    return settings, list(definitions.sources), parents, models, columns, audiences


def _blocking(model: EventModel) -> Contract | None:
    """Give a model's contract if it decides which events count."""
    return model.contract if model.contract is not None and model.contract.blocks else None


def _changed_meanings(before: Definitions, after: Definitions) -> set[str]:
    """Give the audiences of `after` whose meaning differs: their own, or that of one they refer to, near or far."""
    old, new = _Meanings(before), _Meanings(after)
    changed = {id_ for id_ in after.audiences if id_ not in before.audiences or old.of(id_) != new.of(id_)}
    referring: dict[str, list[str]] = {}
    for id_, audience in after.audiences.items():
        for target in references(audience.where):
            referring.setdefault(target, []).append(id_)
    waiting = list(changed)
    while waiting:
        for id_ in referring.get(waiting.pop(), ()):
            if id_ not in changed:
                changed.add(id_)
                waiting.append(id_)
    return changed


class _Meanings:
    """What the memberships of one document are functions of."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._retentions = {id_: definitions.parent_retention_ms(id_) for id_ in definitions.parent_models}

    def of(self, id_: str) -> tuple[object, ...]:
        """Give what compares equal where the audience itself means the same.

        Names and descriptions do not count, nor models and columns that the condition does not use.
        """
        audience = self._definitions.audiences[id_]
        parent = self._definitions.parent_models[audience.parent]
        used = _Used()
        used.add(audience.where)
        models = tuple(self._model(event, columns) for event, columns in sorted(used.columns.items()))
        traits = tuple((trait, self._trait(parent, parent.columns[trait])) for trait in sorted(used.traits))
        return audience.where, parent.id, parent.primary_key, self._retentions[parent.id], models, traits

    def _trait(self, parent: ParentModel, column: Column) -> tuple[object, ...]:
        if not column.path:
            return (column.type,)
        models = self._definitions.identify_models(parent.id)
        return column.type, column.path, tuple(self._model(model.id, set()) for model in models)

    def _model(self, event: str, columns: set[str]) -> tuple[object, ...]:
        model = self._definitions.event_models[event]
        contract = _blocking(model)
        columns = columns | set(contract.required if contract else ())
        used = tuple((name, model.columns[name].type, model.columns[name].path) for name in sorted(columns))
        fit = (model.source, model.type, model.event, model.foreign_key, model.timestamp, model.retention_ms)
        return event, fit, used, contract


class _Used:
    """The event models with their columns, and the traits, that a condition uses."""

    def __init__(self) -> None:
        self.columns: dict[str, set[str]] = {}
        self.traits: set[str] = set()

    def add(self, where: Condition) -> None:
        if isinstance(where, All | AnyOf):
            for child in where.children:
                self.add(child)
        elif isinstance(where, Not):
            self.add(where.child)
        elif isinstance(where, TraitTest):
            self.traits.add(where.trait)
        elif isinstance(where, EventCount | EventAggregate):
            self._event(where.event, where.where)
            if isinstance(where, EventAggregate):
                self.columns[where.event].add(where.column)
        elif isinstance(where, Sequence):
            for step in where.steps:
                self._event(step.event, step.where)
        elif isinstance(where, Abandonment):
            self._event(where.event, where.where)
            for step in where.not_followed_by:
                self._event(step.event, step.where)

    def _event(self, event: str, where: Filter | None) -> None:
        self.columns.setdefault(event, set()).update(_filter_columns(where))


def _filter_columns(where: Filter | None) -> Iterator[str]:
    if isinstance(where, PropertyTest):
        yield where.column
    elif isinstance(where, FilterAll | FilterAny):
        for child in where.children:
            yield from _filter_columns(child)
    elif isinstance(where, FilterNot):
        yield from _filter_columns(where.child)


def difference(previous: Definitions | None, new: Definitions) -> list[Change]:
    """List every object of both documents, settings first, then section by section; names count as changes."""
    changes = [Change("settings", "settings", _change(previous.settings if previous else None, new.settings))]
    for section in _SECTIONS:
        before: Mapping[str, Any] = getattr(previous, section) if previous else {}
        after: Mapping[str, Any] = getattr(new, section)
        ids = dict.fromkeys((*after, *before))
        changes.extend(Change(section, id_, _change(before.get(id_), after.get(id_))) for id_ in ids)
    return changes


def _change(before: object, after: object) -> Literal["added", "changed", "removed", "unchanged"]:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    return "unchanged" if before == after else "changed"


def document_for_evaluation(definitions: Definitions) -> dict[str, Any]:
    """Give the part of the document that evaluation depends on, fit for logs.

    It has no destinations, syncs, write keys or trait sources (whose paths and options may hold credentials: an
    evaluator is given snapshots). `parse_document` of it gives equal settings, event models and audiences, and the
    same parent models but for their tables.
    """
    document = definitions.document
    result: dict[str, Any] = {"version": 1, "settings": _settings(definitions)}
    # How a source's events come is nothing to evaluation; those of the kind http need nothing else said.
    result["sources"] = [{"id": source.id, "kind": "http"} for source in definitions.sources.values()]
    parents = definitions.parent_models
    result["parent_models"] = [_traits_alone(raw, parents[raw["id"]]) for raw in document.get("parent_models", ())]
    result.update({section: list(document.get(section, ())) for section in _EVALUATION_SECTIONS})
    return result


def _settings(definitions: Definitions) -> dict[str, Any]:
    """Write settings out whole: a later release's defaults must not change what a log means."""
    settings = definitions.settings
    written: dict[str, Any] = {
        "retention": f"{settings.retention_ms}ms",
        "dedup": {"horizon": f"{settings.dedup_horizon_ms}ms", "max_ids": settings.dedup_ids_max},
        "partitions": settings.partitions,
    }
    if settings.log_bytes_max is not None:
        written["log_max_bytes"] = settings.log_bytes_max
    return written


def _traits_alone(raw: Mapping[str, Any], parent: ParentModel) -> dict[str, Any]:
    """Give a parent model with its traits as columns: which table one comes from is the trait loader's business."""
    traits = raw.get("traits")
    if not traits:
        return dict(raw)
    columns = {column.name: _column_alone(column) for column in parent.columns.values()}
    return {**raw, "traits": {key: traits[key] for key in ("refresh",) if key in traits} | {"columns": columns}}


def _column_alone(column: Column) -> dict[str, Any]:
    said = {"source": "identify", "path": ".".join(column.path)} if column.path else {}
    return {"type": column.type, **({"pii": True} if column.pii else {}), **said}


__all__ = ["Change", "canonical_json", "difference", "document_for_evaluation", "evaluates_alike", "publish"]

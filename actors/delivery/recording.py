"""From changes to records: what identifies a user, and where that changes, the old removed and the new added.

`Told` is what a destination was last told of a user. It is written with the batch that tells it, and read when the
next change of the user becomes a record: an exit removes what was added, whatever the user's columns hold by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.delivery.changes import IDENTIFIERS, RESYNC, Change, Told
from actors.delivery.plans import SyncPlan
from cluster.model.transitions import transition_id
from destinations.contract import Unusable
from destinations.records import Record, Verb
from destinations.times import iso_ms


@dataclass(slots=True)
class Recorded:
    """Records in order; why changes became none, by their index; what is told of each user once they are durable."""

    records: list[Record] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)


def record(
    plan: SyncPlan,
    changes: Sequence[Change],
    columns: Mapping[str, Sequence[Any]],
    known: Mapping[str, Told],
    now_ms: int,
) -> Recorded:
    """Make records. `columns[c][i]` is trait column `c` of the user of `changes[i]`, None where it is missing.

    `known` is what was told of these users, where the sync remembers (`SyncPlan.remembers`); else it is empty.
    """
    made = Recorded()
    for index, change in enumerate(changes):
        told = made.told.get(change.user_id) or known.get(change.user_id)
        values = _Values(plan, columns, index, change)
        if change.kind == "entered":
            _enter(made, values, told, now_ms)
        else:
            _leave(made, values, told, now_ms)
    return made


@dataclass(frozen=True, slots=True)
class _Values:
    """A change, and its user's columns."""

    plan: SyncPlan
    columns: Mapping[str, Sequence[Any]]
    index: int
    change: Change

    def identify(self) -> Mapping[str, Any] | Unusable:
        """Give the user's identifiers as they are now."""
        values = {column: self.columns[column][self.index] for column in self.plan.identifier_columns}
        return identifiers_of(self.plan, self.change.user_id, values)

    def record(self, identifiers: Mapping[str, Any], verb: Verb, cause: str) -> Record:
        """Give a record of the change."""
        change = self.change
        traits = {column: self._value(column) for column in self.plan.sync.traits}
        id_ = transition_id(
            change.audience_id, change.audience_version, change.user_id, change.at_ms, change.n
        )
        return Record(
            id_, change.audience_id, change.audience_version, change.user_id, dict(identifiers), change.kind,
            change.at_ms, change.n, cause, traits, verb,
        )  # fmt: skip

    def _value(self, column: str) -> Any:
        if column == self.plan.parent.primary_key:
            return self.change.user_id
        return _shown(self.plan, column, self.columns[column][self.index])


def identifiers_of(plan: SyncPlan, user: str, values: Mapping[str, Any]) -> Mapping[str, Any] | Unusable:
    """Give what identifies a user of whom `values` are the sync's identifier columns."""
    raw = {
        name: user if column == plan.parent.primary_key else _shown(plan, column, values[column])
        for name, column in plan.sync.identifiers.items()
    }
    return plan.kind.identify(plan.settings, raw)


def _shown(plan: SyncPlan, column: str, value: Any) -> Any:
    """Give a column's value as destinations get it: whole numbers and times as people write them."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    declared = plan.parent.columns.get(column)
    if declared is not None and declared.type == "timestamp" and isinstance(value, int):
        return iso_ms(value)
    return value


def _enter(made: Recorded, values: _Values, told: Told | None, now_ms: int) -> None:
    plan, change = values.plan, values.change
    inside = told is not None and told.inside
    if change.cause == IDENTIFIERS and not inside:
        return  # who left meanwhile has no identifiers to change
    found = values.identify()
    new: Mapping[str, Any] = {} if isinstance(found, Unusable) else found
    old = told.identifiers if told is not None and inside else {}
    if change.cause == IDENTIFIERS and new == old:
        return
    replaced = plan.kind.replaced(plan.settings, old, new) if old else {}
    if replaced:
        made.records.append(values.record(replaced, "remove", IDENTIFIERS))
    if new:
        made.records.append(values.record(new, "add", change.cause))
    elif isinstance(found, Unusable) and change.cause != IDENTIFIERS:
        made.dropped[values.index] = found.reason
    if plan.remembers:
        made.told[change.user_id] = Told(
            True, change.audience_version, change.at_ms, change.n, dict(new), now_ms
        )


def _leave(made: Recorded, values: _Values, told: Told | None, now_ms: int) -> None:
    plan, change = values.plan, values.change
    if change.cause == RESYNC and (told is None or not told.inside or told.seen_ms >= change.at_ms):
        return  # somebody told of the user since the resync began
    if plan.remembers:
        made.told[change.user_id] = Told(
            False, change.audience_version, change.at_ms, change.n, {}, now_ms
        )
    if plan.sync.on_exit != "remove" and change.cause != RESYNC:
        return
    if told is not None and told.inside:
        if told.identifiers:
            made.records.append(values.record(told.identifiers, "remove", change.cause))
        else:
            made.dropped[values.index] = "nothing of the user was sent"
        return
    found = values.identify()
    if isinstance(found, Unusable):
        made.dropped[values.index] = found.reason
    else:
        made.records.append(values.record(found, "remove", change.cause))

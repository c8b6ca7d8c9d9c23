"""From changes to records: what identifies a user, and where that changes, the old removed and the new added.

`Told` is what a destination was last told of a user. It is written with the batch that tells it, and read when the
next change of the user becomes a record: an exit removes what was added, whatever the user's columns hold by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from actors.delivery.changes import IDENTIFIERS, RESYNC, Change, Told, own_cause
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
    values = _Values(plan, columns)
    for index, change in enumerate(changes):
        told = made.told.get(change.user_id) or known.get(change.user_id)
        if change.kind == "entered":
            _enter(made, values, index, change, told, now_ms)
        else:
            _leave(made, values, index, change, told, now_ms)
    return made


#: A name of the sync's, its column's values (None: it is the user's key), and whether these are times.
_Source: TypeAlias = tuple[str, Sequence[Any] | None, bool]


class _Values:
    """Where the records' values come from: looked up once for all of them."""

    def __init__(self, plan: SyncPlan, columns: Mapping[str, Sequence[Any]]) -> None:
        self.plan = plan
        self.remembers = plan.remembers
        self._identifiers = [self._source(name, column, columns) for name, column in plan.sync.identifiers.items()]
        self._traits = [self._source(column, column, columns) for column in plan.sync.traits]

    def identify(self, index: int, change: Change) -> Mapping[str, Any] | Unusable:
        """Give the identifiers of a change's user as they are now."""
        return self.plan.kind.identify(self.plan.settings, self._take(self._identifiers, index, change.user_id))

    def record(self, index: int, change: Change, identifiers: Mapping[str, Any], verb: Verb, cause: str) -> Record:
        """Give a record of a change."""
        id_ = transition_id(change.audience_id, change.audience_version, change.user_id, change.at_ms, change.n)
        return Record(
            id_, change.audience_id, change.audience_version, change.user_id, dict(identifiers), change.kind,
            change.at_ms, change.n, cause, self._take(self._traits, index, change.user_id), verb,
        )  # fmt: skip

    def _source(self, name: str, column: str, columns: Mapping[str, Sequence[Any]]) -> _Source:
        if column == self.plan.parent.primary_key:
            return name, None, False
        return name, columns[column], _holds_times(self.plan, column)

    @staticmethod
    def _take(sources: Sequence[_Source], index: int, user: str) -> dict[str, Any]:
        return {
            name: user if column is None else _shown(column[index], is_time=is_time)
            for name, column, is_time in sources
        }


def identifiers_of(plan: SyncPlan, user: str, values: Mapping[str, Any]) -> Mapping[str, Any] | Unusable:
    """Give what identifies a user of whom `values` are the sync's identifier columns."""
    raw = {
        name: user if column == plan.parent.primary_key else _shown(values[column], is_time=_holds_times(plan, column))
        for name, column in plan.sync.identifiers.items()
    }
    return plan.kind.identify(plan.settings, raw)


def _holds_times(plan: SyncPlan, column: str) -> bool:
    declared = plan.parent.columns.get(column)
    return declared is not None and declared.type == "timestamp"


def _shown(value: Any, *, is_time: bool) -> Any:
    """Give a column's value as destinations get it: whole numbers and times as people write them."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return iso_ms(value) if is_time and isinstance(value, int) else value


def _enter(made: Recorded, values: _Values, index: int, change: Change, told: Told | None, now_ms: int) -> None:
    plan = values.plan
    inside = told is not None and told.inside
    if change.cause == IDENTIFIERS and not inside:
        return  # who left meanwhile has no identifiers to change
    found = values.identify(index, change)
    new: Mapping[str, Any] = {} if isinstance(found, Unusable) else found
    old = told.identifiers if told is not None and inside else {}
    if change.cause == IDENTIFIERS and new == old:
        return
    replaced = plan.kind.replaced(plan.settings, old, new) if old else {}
    if replaced:
        made.records.append(values.record(index, change, replaced, "remove", IDENTIFIERS))
    if new:
        made.records.append(values.record(index, change, new, "add", own_cause(change)))
    elif isinstance(found, Unusable) and change.cause != IDENTIFIERS:
        made.dropped[index] = found.reason
    if values.remembers:
        made.told[change.user_id] = Told(True, change.audience_version, change.at_ms, change.n, dict(new), now_ms)


def _leave(made: Recorded, values: _Values, index: int, change: Change, told: Told | None, now_ms: int) -> None:
    plan = values.plan
    if change.cause == RESYNC and (told is None or not told.inside or told.seen_ms >= change.at_ms):
        return  # somebody told of the user since the resync began
    if values.remembers:
        made.told[change.user_id] = Told(False, change.audience_version, change.at_ms, change.n, {}, now_ms)
    if plan.sync.on_exit != "remove" and change.cause != RESYNC:
        return
    if told is not None and told.inside:
        if told.identifiers:
            made.records.append(values.record(index, change, told.identifiers, "remove", own_cause(change)))
        else:
            made.dropped[index] = "nothing of the user was sent"
        return
    found = values.identify(index, change)
    if isinstance(found, Unusable):
        made.dropped[index] = found.reason
    else:
        made.records.append(values.record(index, change, found, "remove", own_cause(change)))

"""The reference evaluator: the oracle that every other evaluator is held to.

It keeps every accepted event of every user, computes membership from scratch at every instant that may change
it, and writes the differences. It reads the raw definitions document and imports nothing of Usher.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tests.reference.admission import Admission, Verdict, row_time
from tests.reference.conditions import Language, User
from tests.reference.values import Moment, coerce, number_text

Row = Mapping[str, Any]
Transition = dict[str, Any]
#: Trait rows of each parent, keyed by parent model id.
Traits = Mapping[str, "Sequence[Row] | pa.Table"]


class ReferenceEvaluator:
    """One evaluator under `document`, published at `clock` (ms), with the snapshots that already hold.

    `sourceless_fits_all` is the law of replay; live, a row without source fits no model of one source.
    """

    def __init__(
        self, document: Row, traits: Traits, clock: int, *, sourceless_fits_all: bool = True
    ) -> None:
        self.clock = clock
        self._sourceless_fits_all = sourceless_fits_all
        #: In the order they were made.
        self.transitions: list[Transition] = []
        self._numbering: Counter[tuple[str, str, int]] = Counter()
        self._rows: list[tuple[Row, int | None]] = []
        self._snapshots: dict[str, Sequence[Row] | pa.Table] = dict(traits)
        self._users: dict[tuple[str, str], User] = {}
        self._take_document(document)
        for user in list(self._users.values()):
            self._settle(user, clock, "definition")

    @property
    def users(self) -> list[User]:
        """Every key known, in the universe or no longer."""
        return list(self._users.values())

    @property
    def counts(self) -> dict[str, int]:
        """Rows: `events`, `accepted`, and one count a reason of rejection."""
        return dict(self._admission.counts)

    @property
    def invalid_values(self) -> dict[str, int]:
        """Values that could not be read as their column's type, by event model."""
        return dict(self._admission.invalid_values)

    def event(self, row: Row, received_ms: int | None = None) -> str | None:
        """Take a row; gives the reason of its rejection. Live, `received_ms` is stamped on it."""
        time = row_time(row) if received_ms is None else received_ms
        if time is not None:
            self.clock = max(self.clock, time)  # "Every row moves the clock, accepted or not"
        clock = None if time is None else self.clock
        self._rows.append((row, clock))
        verdict = self._admission.take(row, clock)
        for parent, key in verdict.events:
            self._advance_user(self._user(parent, key), self.clock)
        users = self._apply(verdict)
        for user in users:
            self._settle(user, self.clock, "event")
        return verdict.reason

    def advance(self, to_ms: int) -> None:
        """A tick: everything due at or before the clock is made."""
        self.clock = max(self.clock, to_ms)
        for user in list(self._users.values()):
            self._advance_user(user, self.clock)

    def traits(self, parent: str, rows: Sequence[Row] | pa.Table, now_ms: int | None = None) -> None:
        """A new snapshot of one parent, taken whole; the members it changes get cause `traits`."""
        self.advance(self.clock if now_ms is None else now_ms)
        self._snapshots[parent] = rows
        self._load_traits(parent)
        for user in list(self._users.values()):
            self._settle(user, self.clock, "traits")

    def publish(self, document: Row, now_ms: int | None = None) -> None:
        """New definitions, as if they had always been there: only the difference, cause `definition`."""
        self.advance(self.clock if now_ms is None else now_ms)
        members = {identity: user.members for identity, user in self._users.items()}
        self._users = {}
        self._take_document(document)
        for (parent, key), before in members.items():
            self._user(parent, key).members = before
        # An audience that moved to another parent is left by its users before those of the other parent enter: they may
        # have the same keys, and kinds alternate.
        users = list(self._users.values())
        for user in users:
            self._settle(user, self.clock, "definition", user.members & self._language.members(user, self.clock))
        for user in users:
            self._settle(user, self.clock, "definition")

    def members(self) -> set[tuple[str, str]]:
        """Who is in what at the clock, as (audience id, user id)."""
        self.advance(self.clock)
        return {(audience, user.key) for user in self._users.values() for audience in user.members}

    def _take_document(self, document: Row) -> None:
        """Read the document, the snapshots under it and, from the start of the log, every row under it."""
        self._language = Language(document)
        self._admission = Admission(document, sourceless_fits_all=self._sourceless_fits_all)
        for parent in self._language.parents:
            self._load_traits(parent)
        for row, clock in self._rows:
            self._apply(self._admission.take(row, clock))

    def _load_traits(self, parent: str) -> None:
        rows = trait_rows(self._snapshots.get(parent, ()))
        model = self._language.parents[parent]
        columns = model.get("traits", {}).get("columns", {})
        for user in self._users.values():
            if user.parent == parent:
                user.traits = None
        for row in rows:
            key = row[model["primary_key"]]
            text = key if isinstance(key, str) else number_text(key)
            assert text is not None, row
            self._user(parent, text).traits = {
                name: coerce(row.get(name), column["type"]) for name, column in columns.items()
            }

    def _user(self, parent: str, key: str) -> User:
        identity = (parent, key)
        if identity not in self._users:
            self._users[identity] = User(key, parent, done_until=self.clock)
        return self._users[identity]

    def _apply(self, verdict: Verdict) -> list[User]:
        """Add a row's events to their users: to all models it fits, as one step."""
        users = []
        for (parent, key), events in verdict.events.items():
            user = self._user(parent, key)
            for event in events:
                user.add(event)
            users.append(user)
        return users

    def _advance_user(self, user: User, to_ms: int) -> None:
        """All changes due at or before to_ms are made, each stamped with its exact due time, in due order."""
        due = sorted(t for t in self._language.due_times(user) if user.done_until < t <= to_ms)
        for t in due:
            self._settle(user, t, "time")
        user.done_until = max(user.done_until, to_ms)

    def _settle(self, user: User, at: int, cause: str, becomes: set[str] | None = None) -> None:
        """Evaluate membership once for this instant (or take what it becomes) and write what changed."""
        now = self._language.members(user, at) if becomes is None else becomes
        for audience in sorted(user.members ^ now):
            kind = "entered" if audience in now else "exited"
            numbered = (audience, user.key, at)
            self.transitions.append({
                "audience_id": audience, "audience_version": 1, "user_id": user.key, "kind": kind,
                "at": at, "n": self._numbering[numbered], "cause": cause,
            })  # fmt: skip
            self._numbering[numbered] += 1
        user.members = now


def members_at(
    document: Row, rows: Iterable[Row], traits: Traits, times: Sequence[int]
) -> list[set[tuple[str, str]]]:
    """Give who is in what, as (audience id, user id), at times when these rows have all been taken live.

    Rows come in the order of their times, each at its own: membership follows from the set of them.
    """
    evaluator: ReferenceEvaluator | None = None
    for row in rows:
        time = row_time(row)
        assert time is not None, row
        if evaluator is None:
            evaluator = ReferenceEvaluator(document, traits, time, sourceless_fits_all=False)
        evaluator._apply(evaluator._admission.take(row, time))
    if evaluator is None:
        return [set() for _ in times]
    language, users = evaluator._language, evaluator.users
    return [{(audience, user.key) for user in users for audience in language.members(user, at)} for at in times]


@dataclasses.dataclass
class Outcome:
    """What a replay gives: transitions ordered by at, audience_id, user_id, n, and the counts of rows."""

    transitions: list[Transition]
    counts: dict[str, int]
    members: set[tuple[str, str]]


def replay(document: Row, rows: Iterable[Row], traits: Traits, until_ms: int | None = None) -> Outcome:
    """`usher replay` (semantics.md §4), from rows as dicts with the canonical event's keys."""
    evaluator: ReferenceEvaluator | None = None
    timeless = 0
    for row in rows:
        time = row_time(row)
        if evaluator is None:
            if time is None:
                timeless += 1  # before the clock starts: rejected, moves nothing
                continue
            if until_ms is not None and time > until_ms:
                break
            # "published ... at the clock of the first row that has a time, before that row"
            evaluator = ReferenceEvaluator(document, traits, time)
        elif until_ms is not None and time is not None and max(time, evaluator.clock) > until_ms:
            break  # "an earlier one ends the reading at the first row above it"
        evaluator.event(row)
    counts = Counter(evaluator.counts if evaluator else {})
    if timeless:
        counts.update(events=timeless, no_timestamp=timeless)
    if evaluator is None:
        return Outcome([], dict(counts), set())
    evaluator.advance(evaluator.clock if until_ms is None else until_ms)
    return Outcome(ordered(evaluator.transitions), dict(counts), evaluator.members())


def ordered(transitions: Iterable[Transition]) -> list[Transition]:
    """In replay's order: at, audience_id, user_id, n."""
    return sorted(transitions, key=lambda each: (each["at"], each["audience_id"], each["user_id"], each["n"]))


def without_instant_pairs(transitions: Iterable[Transition]) -> list[Transition]:
    """Drop pairs that enter and exit (or exit and enter) at one instant: its net is kept."""
    kept: dict[tuple[str, str, int], list[Transition]] = {}
    for each in ordered(transitions):
        instant = kept.setdefault((each["audience_id"], each["user_id"], each["at"]), [])
        if instant:
            instant.pop()
        else:
            instant.append(each)
    return ordered(each for instant in kept.values() for each in instant)


def trait_rows(snapshot: Sequence[Row] | pa.Table) -> list[Row]:
    """Rows of a snapshot; Arrow timestamps of any unit become ms, cut downwards."""
    if not isinstance(snapshot, pa.Table):
        return list(snapshot)
    columns = {}
    for name in snapshot.column_names:
        column = snapshot.column(name)
        if pa.types.is_timestamp(column.type):
            columns[name] = [_in_ms(value, column.type.unit) for value in column.cast(pa.int64()).to_pylist()]
        else:
            columns[name] = column.to_pylist()
    return [{name: values[i] for name, values in columns.items()} for i in range(snapshot.num_rows)]


def _in_ms(value: int | None, unit: str) -> Moment | None:
    if value is None:
        return None
    return Moment(value * 1000 if unit == "s" else value // {"ms": 1, "us": 1000, "ns": 1_000_000}[unit])

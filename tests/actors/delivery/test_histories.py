"""Random histories with failures and crashes at any point: the destination ends with the membership, in order.

The disk here is a list of writes of which a crash keeps any prefix that was not waited for; the rest is as in the
shell: batches are sent only when durable, and a restart stands on what is durable alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.delivery.changes import Change
from actors.delivery.instructions import Defer, Hold, Instruction, MoveCursors, Seal, Send, Settle, Split
from actors.delivery.machine import SyncMachine
from actors.delivery.rate_limit import TokenBucket
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Opened,
    Persisted,
    StoredBatch,
    SyncConfig,
    Tick,
)
from destinations.outcomes import Delivered, Outcome, Retry

USERS = {0: ("a", "b"), 1: ("c", "d", "e")}


@dataclass
class Disk:
    """What is durable."""

    cursors: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    batches: dict[int, tuple[str, tuple[Change, ...], int]] = field(default_factory=dict)
    next_order: int = 0
    held: bool = False


class World:
    def __init__(self, deliver: Literal["state", "changes"], batch_records: int) -> None:
        self.config = SyncConfig("s", deliver, "remove", batch_records, batch_age_ms=5, evaluators=(0, 1))
        self.now_ms = 1_764_518_400_000
        self.logs: dict[int, list[Change]] = {0: [], 1: []}
        self.disk = Disk()
        self.ids: dict[str, tuple[Change, ...]] = {}
        #: Every request as it arrived: (id, changes).
        self.arrived: list[tuple[str, tuple[Change, ...]]] = []
        #: False once the destination itself took some of a request and left what was before it.
        self.order_kept = True
        self.restart()

    # --- the process -------------------------------------------------------------------------------

    def restart(self) -> None:
        """Come up from the disk; everything else is gone."""
        self.writes: list[tuple[Callable[[Disk], None], tuple[str, ...]]] = []
        self.in_flight: dict[str, tuple[Change, ...]] = {}
        self.known = {id_: (order, changes) for order, (id_, changes, _) in self.disk.batches.items()}
        self.positions = dict(self.disk.cursors)
        self.machine = SyncMachine(
            self.config, bucket=TokenBucket(None), jitter=lambda: 0.3, incarnation=1,
            next_order=self.disk.next_order, held=self.disk.held,
            batches=[
                StoredBatch(id_, order, tuple(change.user_id for change in changes), attempts)
                for order, (id_, changes, attempts) in self.disk.batches.items()
            ],
        )  # fmt: skip
        for evaluator, position in self.positions.items():
            self.feed(Opened(evaluator, position))

    def feed(self, stimulus: Any) -> None:
        for instruction in self.machine.handle(stimulus, self.now_ms):
            self.perform(instruction)

    def perform(self, instruction: Instruction) -> None:
        match instruction:
            case Seal(batches, cursors):
                rows = {batch.order: (batch.id, tuple(batch.changes), 0) for batch in batches}

                def seal(disk: Disk) -> None:
                    disk.batches.update(rows)
                    disk.cursors.update(cursors)
                    disk.next_order = max(disk.next_order, max(rows) + 1)

                for order, (id_, changes, _) in rows.items():
                    self.known[id_] = (order, changes)
                self.writes.append((seal, tuple(batch.id for batch in batches)))
            case MoveCursors(cursors):
                self.writes.append((lambda disk: disk.cursors.update(cursors), ()))
            case Hold(held):
                self.writes.append((lambda disk: setattr(disk, "held", held), ()))
            case Send(batch_id):
                self.send(batch_id)
            case Settle(batch_id):
                order = self.known.pop(batch_id)[0]
                self.writes.append((lambda disk: disk.batches.pop(order, None) and None, ()))
            case Defer(batch_id, attempt):
                order, changes = self.known[batch_id]
                row = (batch_id, changes, attempt)
                self.writes.append((lambda disk: disk.batches.update({order: row}), ()))
            case Split(batch_id, new_id, attempt, kept):
                order, changes = self.known.pop(batch_id)
                rest = tuple(changes[index] for index in kept)
                self.known[new_id] = (order, rest)
                self.writes.append((lambda disk: disk.batches.update({order: (new_id, rest, attempt)}), (new_id,)))

    def send(self, batch_id: str) -> None:
        order, changes = self.known[batch_id]
        assert self.disk.batches[order][0] == batch_id, "sent before it was durable"
        assert self.ids.setdefault(batch_id, changes) == changes, "another content under the same id"
        users = {change.user_id for change in changes}
        for other in self.in_flight.values():
            assert users.isdisjoint(change.user_id for change in other), "two changes of a user in flight"
        self.in_flight[batch_id] = changes

    # --- what may happen ---------------------------------------------------------------------------

    def flip(self, evaluator: int, which: int) -> None:
        user = USERS[evaluator][which % len(USERS[evaluator])]
        log = self.logs[evaluator]
        kind = "exited" if user in self.members() else "entered"
        log.append(Change(evaluator, len(log) + 1, "aud", 1, user, kind, self.now_ms, 0, "event"))  # type: ignore[arg-type]

    def read(self, evaluator: int, count: int) -> None:
        position = self.positions[evaluator]
        changes = self.logs[evaluator][position : position + count]
        self.positions[evaluator] = position + len(changes)
        self.feed(Changes(evaluator, changes, self.positions[evaluator], len(changes) < count))

    def write(self, count: int) -> None:
        done, self.writes = self.writes[:count], self.writes[count:]
        for apply, _ in done:
            apply(self.disk)
        for _, ids in done:
            for batch_id in ids:
                self.feed(Persisted(batch_id))

    def answer(self, which: int, took: bool, told: bool, part: bool = False) -> None:
        """A request ends: the destination took it or not, and we were told so or not."""
        if not self.in_flight:
            return
        batch_id = list(self.in_flight)[which % len(self.in_flight)]
        changes = self.in_flight.pop(batch_id)
        if part:
            self.order_kept = False
            taken = changes[::2]
            self.arrived.append((batch_id, taken))
            outcomes: list[Outcome] = [
                Retry("busy") if index % 2 else Delivered() for index in range(len(changes))
            ]
        else:
            if took:
                self.arrived.append((batch_id, changes))
            outcomes = [Delivered() if took and told else Retry("500")] * len(changes)
        self.feed(Answered(batch_id, tuple(outcomes)))

    def pause(self, paused: bool) -> None:
        self.config = replace(self.config, paused=paused)
        self.feed(Configured(self.config, TokenBucket(None)))

    def crash(self, kept: int, arrived: int) -> None:
        """The process ends: a prefix of the writes was made, and some requests in flight were taken all the same."""
        for apply, _ in self.writes[:kept]:
            apply(self.disk)
        for batch_id, changes in list(self.in_flight.items())[:arrived]:
            self.arrived.append((batch_id, changes))
        self.restart()

    def settle_down(self) -> None:
        """From now on everything works."""
        self.pause(False)
        for _ in range(10_000):
            self.read(0, 50)
            self.read(1, 50)
            self.write(len(self.writes))
            self.answer(0, took=True, told=True)
            self.now_ms += 1_000
            self.feed(Tick())
            if not self.machine.backlog and not self.writes and not self.in_flight and not self.disk.batches:
                return
        message = "it never came to rest"
        raise AssertionError(message)

    # --- what must hold ----------------------------------------------------------------------------

    def members(self) -> set[str]:
        inside: set[str] = set()
        for log in self.logs.values():
            for change in log:
                (inside.add if change.kind == "entered" else inside.discard)(change.user_id)
        return inside

    def check(self, every_change: bool) -> None:
        first: dict[str, list[int]] = {}
        inside: set[str] = set()
        seen: set[tuple[str, int]] = set()
        for _, changes in self.arrived:
            for change in changes:
                (inside.add if change.kind == "entered" else inside.discard)(change.user_id)
                if (change.user_id, change.seq) not in seen:
                    seen.add((change.user_id, change.seq))
                    first.setdefault(change.user_id, []).append(change.seq)
        assert inside == self.members(), "the last arrival of each user is the membership"
        if self.order_kept:
            assert all(order == sorted(order) for order in first.values()), "a user's changes arrive in order"
        if every_change:
            wanted = {(change.user_id, change.seq) for log in self.logs.values() for change in log}
            assert seen == wanted, "every change arrives"
        assert all(self.disk.cursors[evaluator] <= len(log) for evaluator, log in self.logs.items())


STEPS = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 1), st.integers(0, 2)),
    st.tuples(st.just("flip"), st.integers(0, 1), st.integers(0, 2)),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("write"), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([1, 5, 700, 5_000])),
    st.tuples(st.just("crash"), st.integers(0, 4), st.integers(0, 4)),
)
PAUSES = st.tuples(st.just("pause"), st.booleans())


def lived(world: World, steps: list[tuple[Any, ...]]) -> World:
    for name, *values in steps:
        if name == "time":
            world.now_ms += values[0]
            world.feed(Tick())
        else:
            getattr(world, name)(*values)
    world.settle_down()
    return world


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=80), st.integers(1, 3))
def test_every_change_arrives_once_in_order_whatever_crashes(steps: list[tuple[Any, ...]], batch_records: int) -> None:
    lived(World("changes", batch_records), steps).check(every_change=True)


@settings(max_examples=200)
@given(st.lists(st.one_of(STEPS, PAUSES), max_size=80), st.sampled_from(["state", "changes"]), st.integers(1, 3))
def test_the_destination_ends_with_the_membership_whatever_crashes_and_pauses(
    steps: list[tuple[Any, ...]], deliver: Literal["state", "changes"], batch_records: int
) -> None:
    lived(World(deliver, batch_records), steps).check(every_change=False)

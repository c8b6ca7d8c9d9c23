"""A sync, its disk and its destination, to which a history of steps is done, crashes among them.

The disk here is a list of writes of which a crash keeps any prefix that was not waited for; the rest is as in the
shell: batches are sent only when durable, and a restart stands on what is durable alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from actors.delivery.breaker import NEVER
from actors.delivery.changes import Change
from actors.delivery.concurrency import SharedSlots
from actors.delivery.cutting import cut_records
from actors.delivery.flaps import Flaps
from actors.delivery.ids import part_id
from actors.delivery.instructions import (
    Dead,
    Defer,
    Fetch,
    Hold,
    Instruction,
    MoveCursors,
    Park,
    Revive,
    Seal,
    Send,
    Settle,
    Split,
)
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.outbox import ORDER_SPAN, stretches
from actors.delivery.rate_limit import Limiter
from actors.delivery.stimuli import (
    Answered,
    Changes,
    Configured,
    Fetched,
    Opened,
    Parked,
    Persisted,
    RetryAsked,
    Revived,
    Shares,
    StoredBatch,
    Suspended,
    SyncConfig,
    Tick,
)
from destinations.outcomes import Delivered, Divide, Outcome, Permanent, Retry

USERS = {0: ("a", "b"), 1: ("c", "d", "e")}
POISON = "d"


@dataclass(frozen=True)
class Row:
    """A durable batch."""

    id: str
    order: int
    span: int
    changes: tuple[Change, ...]
    attempts: int = 0

    def told(self) -> StoredBatch:
        users = tuple(change.user_id for change in self.changes)
        return StoredBatch(self.id, self.order, users, self.attempts, span=self.span)


@dataclass
class Letter:
    id: str
    changes: tuple[Change, ...]
    live: set[str]
    reviving: bool = False


@dataclass
class Disk:
    """What is durable."""

    cursors: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    batches: dict[int, Row] = field(default_factory=dict)
    next_order: int = 0
    held: bool = False
    suspended: bool = False
    letters: list[Letter] = field(default_factory=list)
    #: What waits: by user, when it is due and its number.
    room: dict[str, tuple[int, int, Change]] = field(default_factory=dict)
    numbered: int = 0
    #: By user: the last change that a batch tells.
    told: dict[str, Change] = field(default_factory=dict)

    def first_due_ms(self) -> int:
        return min((due for due, _, _ in self.room.values()), default=NEVER)


@dataclass(frozen=True)
class Kind:
    """What the destination is. `keyed`: entries and exits take different requests; `newest_counts`: it is a list."""

    deliver: Literal["state", "changes"]
    batch_records: int
    keyed: bool = False
    newest_counts: bool = True
    flaps: Flaps | None = None
    in_flight_max: int = 4


class World:
    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.config = SyncConfig(
            "s", kind.deliver, "remove", kind.batch_records, 5, (0, 1), False, kind.in_flight_max, kind.flaps
        )
        self.shares = Shares(Limiter("s"), SharedSlots("s"))
        self.now_ms = 1_764_518_400_000
        self.logs: dict[int, list[Change]] = {0: [], 1: []}
        self.disk = Disk()
        self.ids: dict[str, tuple[Change, ...]] = {}
        #: Every request as it arrived: (id, changes).
        self.arrived: list[tuple[str, tuple[Change, ...]]] = []
        #: False once the destination itself took some of a request and left what was before it.
        self.order_kept = True
        self.poisoned = True
        #: Changes of durable batches in the order of the batches, and when each was sealed.
        self.sealed: list[tuple[Change, ...]] = []
        self.told_at: dict[Change, int] = {}
        self.restart()

    # --- the process -------------------------------------------------------------------------------

    def restart(self) -> None:
        """Come up from the disk; everything else is gone."""
        #: What changes the disk, and what the machine is told once it has.
        self.writes: list[tuple[Callable[[Disk], None], Callable[[], list[Any]]]] = []
        self.in_flight: dict[str, tuple[Change, ...]] = {}
        self.known = {row.id: row for row in self.disk.batches.values()}
        self.positions = dict(self.disk.cursors)
        recovered = Recovered(
            1, self.disk.next_order, self.disk.held, self.disk.suspended,
            reviving=any(letter.reviving for letter in self.disk.letters),
            batches=[row.told() for row in self.disk.batches.values()],
            room_count=len(self.disk.room), room_due_ms=self.disk.first_due_ms(),
        )  # fmt: skip
        self.machine = SyncMachine(self.config, self.shares, recovered, jitter=lambda: 0.3)
        for evaluator, position in self.positions.items():
            self.feed(Opened(evaluator, position))

    def feed(self, stimulus: Any) -> None:
        for instruction in self.machine.handle(stimulus, self.now_ms):
            self.perform(instruction)

    def perform(self, instruction: Instruction) -> None:
        match instruction:
            case Seal():
                self.seal(instruction)
            case Park():
                self.park(instruction)
            case Fetch(limit):
                self.fetch(limit)
            case MoveCursors(cursors):
                self.put(lambda disk: disk.cursors.update(cursors))
            case Hold(held):
                self.put(lambda disk: setattr(disk, "held", held))
            case Send(batch_id):
                self.send(batch_id)
            case Settle(batch_id, dead=dead):
                row = self.known.pop(batch_id)
                self.put(lambda disk: settle(disk, row, dead, []))
            case Defer(batch_id, attempt):
                row = replace(self.known[batch_id], attempts=attempt)
                self.put(lambda disk: disk.batches.update({row.order: row}))
            case Split():
                self.split(instruction)
            case Revive():
                self.revive(instruction)

    def put(self, apply: Callable[[Disk], Any], *told: Any) -> None:
        self.writes.append((apply, lambda: list(told)))

    def seal(self, seal: Seal) -> None:
        now_ms = self.now_ms
        rows: list[Row] = []
        told = []
        for new in seal.batches:
            changes = tuple(new.changes)
            keys = [change.kind if self.kind.keyed else "" for change in changes]
            groups = cut_records(
                [change.user_id for change in changes], keys, [1] * len(changes), records_max=99, bytes_max=None
            )
            places = [(new.order, new.span)] if len(groups) == 1 else stretches(new.order, new.span, len(groups))
            parts = [
                Row(
                    new.id if len(groups) == 1 else part_id(new.id, str(number)), order, span,
                    tuple(changes[index] for index in indexes),
                )
                for number, ((_, indexes), (order, span)) in enumerate(zip(groups, places, strict=True))
            ]  # fmt: skip
            rows += parts
            told.append(Persisted(new.id, tuple(part.told() for part in parts)))

        def write(disk: Disk) -> None:
            disk.batches.update({row.order: row for row in rows})
            disk.cursors.update(seal.cursors)
            disk.next_order = max([disk.next_order, *(batch.order + ORDER_SPAN for batch in seal.batches)])
            for change in seal.left:
                if change.user_id in disk.room and disk.room[change.user_id][2] is change:
                    del disk.room[change.user_id]
            for batch in seal.batches:
                self.sealed.append(tuple(batch.changes))
                self.told_at.update(dict.fromkeys(batch.changes, now_ms))
            disk.told.update({change.user_id: change for batch in seal.batches for change in batch.changes})
            for letter in disk.letters:
                letter.live -= {change.user_id for row in rows for change in row.changes}

        self.known.update({row.id: row for row in rows})
        self.put(write, *told)

    def park(self, park: Park) -> None:
        now_ms, told = self.now_ms, []

        def write(disk: Disk) -> None:
            before = len(disk.room)
            for change in park.changes:
                if disk.room.pop(change.user_id, None) is None:
                    disk.numbered += 1
                    due = self.due_ms(disk, change, now_ms)
                    disk.room[change.user_id] = (due, disk.numbered, change)
            disk.cursors.update(park.cursors)
            told.append(Parked(len(disk.room) - before, disk.first_due_ms()))

        self.writes.append((write, lambda: told))

    def due_ms(self, disk: Disk, change: Change, now_ms: int) -> int:
        """As flap control says it, in other words than the code's."""
        flaps, last = self.kind.flaps, disk.told.get(change.user_id)
        if flaps is None:
            return now_ms
        waits = [now_ms, change.at_ms + flaps.debounce_ms]
        if last is not None and last.kind != change.kind:
            waits.append(last.at_ms + (flaps.cooldown_ms if last.kind == "exited" else flaps.min_stay_ms))
        return max(waits)

    def fetch(self, limit: int) -> None:
        now_ms, told = self.now_ms, []

        def look(disk: Disk) -> None:
            due = sorted(row for row in disk.room.values() if row[0] <= now_ms)[:limit]
            left = [row[0] for row in disk.room.values() if row not in due]
            told.append(Fetched(tuple(change for _, _, change in due), min(left, default=NEVER)))

        self.writes.append((look, lambda: told))

    def split(self, split: Split) -> None:
        whole = self.known.pop(split.batch_id)
        parts = [
            Row(part.id, part.order, part.span, tuple(whole.changes[index] for index in part.kept), part.attempts)
            for part in split.parts
        ]
        self.known.update({part.id: part for part in parts})
        self.put(lambda disk: settle(disk, whole, split.dead, parts), *(Persisted(part.id) for part in parts))

    def revive(self, revive: Revive) -> None:
        told: list[Any] = []

        def write(disk: Disk) -> None:
            wanted = [letter for letter in disk.letters if letter.reviving][: revive.count]
            rows = []
            for offset, letter in enumerate(wanted):
                disk.letters.remove(letter)
                live = tuple(c for c in letter.changes if not self.kind.newest_counts or c.user_id in letter.live)
                order = revive.order + offset * ORDER_SPAN
                if live:
                    name = letter.id if live == letter.changes else part_id(letter.id, f"live {order}")
                    rows.append(Row(name, order, ORDER_SPAN, live))
            disk.batches.update({row.order: row for row in rows})
            disk.next_order = max(disk.next_order, revive.order + len(wanted) * ORDER_SPAN)
            self.known.update({row.id: row for row in rows})
            told.append(Revived(tuple(row.told() for row in rows), more=len(wanted) == revive.count))

        self.writes.append((write, lambda: told))

    def send(self, batch_id: str) -> None:
        row = self.known[batch_id]
        assert self.disk.batches[row.order].id == batch_id, "sent before it was durable"
        assert self.ids.setdefault(batch_id, row.changes) == row.changes, "another content under the same id"
        assert not self.kind.keyed or len({change.kind for change in row.changes}) == 1, "one key a request"
        if self.kind.flaps is not None:
            late = [change for change in row.changes if self.now_ms < change.at_ms + self.kind.flaps.debounce_ms]
            assert not late, "a change is sent once it has lasted"
        users = {change.user_id for change in row.changes}
        for other in self.in_flight.values():
            assert users.isdisjoint(change.user_id for change in other), "two changes of a user in flight"
        self.in_flight[batch_id] = row.changes

    # --- what may happen ---------------------------------------------------------------------------

    def flip(self, evaluator: int, which: int) -> None:
        user = USERS[evaluator][which % len(USERS[evaluator])]
        log = self.logs[evaluator]
        kind = "exited" if user in self.members() else "entered"
        log.append(Change(evaluator, len(log) + 1, "aud", 1, user, kind, self.now_ms, 0, "event"))  # type: ignore[arg-type]

    def read(self, evaluator: int, count: int) -> None:
        if not self.machine.may_read:
            return
        position = self.positions[evaluator]
        changes = self.logs[evaluator][position : position + count]
        self.positions[evaluator] = position + len(changes)
        self.feed(Changes(evaluator, changes, self.positions[evaluator], len(changes) < count))

    def churn(self, evaluator: int, *users: int) -> None:
        """Some change, and all of it is read."""
        for which in users:
            self.flip(evaluator, which)
        self.read(evaluator, 50)

    def write(self, count: int) -> None:
        done, self.writes = self.writes[:count], self.writes[count:]
        for apply, told in done:
            apply(self.disk)
            for stimulus in told():
                self.feed(stimulus)

    def answer(self, which: int, took: bool, told: str) -> None:
        """A request ends: the destination took it or not, and we are told the truth, nothing, a part, or a refusal."""
        if not self.in_flight:
            return
        batch_id = list(self.in_flight)[which % len(self.in_flight)]
        changes = self.in_flight.pop(batch_id)
        outcomes: list[Outcome] = [Retry("500")] * len(changes)
        if self.poisoned and any(change.user_id == POISON for change in changes):
            outcomes = [Divide("400")] * len(changes)
        elif told == "part":
            self.order_kept = False
            self.arrived.append((batch_id, changes[::2]))
            outcomes = [Retry("busy") if index % 2 else Delivered() for index in range(len(changes))]
        elif told == "half refusal":
            self.order_kept = False
            self.arrived.append((batch_id, changes[1::2]))
            outcomes = [Delivered() if index % 2 else Permanent("bad") for index in range(len(changes))]
        elif took:
            self.arrived.append((batch_id, changes))
            outcomes = [Delivered()] * len(changes) if told == "truth" else outcomes
        elif told == "refusal":
            outcomes = [Permanent("404")] * len(changes)
        self.feed(Answered(batch_id, tuple(outcomes)))

    def pause(self, paused: bool) -> None:
        self.config = replace(self.config, paused=paused)
        self.feed(Configured(self.config, self.shares))

    def suspend(self, suspended: bool) -> None:
        self.disk.suspended = suspended  # waited for, before the machine is told
        self.feed(Suspended(suspended))

    def retry(self) -> None:
        """Somebody asks for the dead letters; that they did is durable before the machine knows."""

        def want(disk: Disk) -> None:
            for letter in disk.letters:
                letter.reviving = True

        self.put(want, RetryAsked(dead_letters=True))

    def time(self, ms: int) -> None:
        self.now_ms += ms
        self.feed(Tick())

    def crash(self, kept: int, arrived: int) -> None:
        """The process ends: a prefix of the writes was made, and some requests in flight were taken all the same."""
        for apply, _ in self.writes[:kept]:
            apply(self.disk)
        for batch_id, changes in list(self.in_flight.items())[:arrived]:
            if not (self.poisoned and any(change.user_id == POISON for change in changes)):
                self.arrived.append((batch_id, changes))
        self.restart()

    def cycle(self, told: str) -> None:
        """All of one round: what changed is read, made durable, sent, and answered alike."""
        self.read(0, 50)
        self.read(1, 50)
        self.time(5)
        self.write(len(self.writes))
        for _ in range(len(self.in_flight)):
            self.answer(0, told == "truth", told)

    def settle_down(self) -> None:
        """From now on everything works."""
        self.poisoned = False
        self.pause(False)
        self.suspend(False)
        for _ in range(10_000):
            self.read(0, 50)
            self.read(1, 50)
            self.write(len(self.writes))
            self.answer(0, took=True, told="truth")
            self.now_ms += 1  # whoever asks for the next wake does so later than the last stimulus
            wake_ms = self.machine.next_wake_ms(self.now_ms)
            if wake_ms != NEVER:
                self.time(max(0, wake_ms - self.now_ms))
            if self.machine.pending or self.writes or self.in_flight or self.disk.batches or self.disk.room:
                continue
            if not self.machine.backlog:
                if not self.disk.letters:
                    return
                self.retry()
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
        last: dict[str, Change] = {}
        seen: set[tuple[str, int]] = set()
        for _, changes in self.arrived:
            for change in changes:
                newest = last.get(change.user_id)
                # A list goes by what arrives; whoever takes each change for itself goes by their order.
                if self.kind.newest_counts or newest is None or change.seq >= newest.seq:
                    last[change.user_id] = change
                if (change.user_id, change.seq) not in seen:
                    seen.add((change.user_id, change.seq))
                    first.setdefault(change.user_id, []).append(change.seq)
        inside = {user for user, change in last.items() if change.kind == "entered"}
        assert inside == self.members(), "the last arrival of each user is the membership"
        if self.order_kept and self.kind.newest_counts:
            assert all(order == sorted(order) for order in first.values()), "a user's changes arrive in order"
        if every_change:
            wanted = {(change.user_id, change.seq) for log in self.logs.values() for change in log}
            assert seen == wanted, "every change arrives"
        assert all(self.disk.cursors[evaluator] <= len(log) for evaluator, log in self.logs.items())


def settle(disk: Disk, row: Row, dead: Dead, parts: list[Row]) -> None:
    disk.batches.pop(row.order, None)
    disk.batches.update({part.order: part for part in parts})
    if dead.indexes:
        alive = {row.changes[index].user_id for index in dead.indexes if index not in dead.superseded}
        changes = tuple(row.changes[index] for index in dead.indexes)
        name = row.id if len(changes) == len(row.changes) else part_id(row.id, "dead")
        disk.letters.append(Letter(name, changes, alive))

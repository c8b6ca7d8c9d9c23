"""What one sync must make durable, one thing after another: batches, parts of batches, dead letters that come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from actors.delivery.changes import Change, Told
from actors.delivery.cutting import to_row, to_rows
from actors.delivery.desk import Desk
from actors.delivery.ids import part_id
from actors.delivery.instructions import Fetch, Hold, MoveCursors, NewBatch, Park, Revive, Seal, Split
from actors.delivery.log_lines import verb_of
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.plans import SyncPlan
from actors.delivery.recording import record
from actors.delivery.rows import DeadLetter, LogRow, StoredRow
from actors.delivery.stimuli import Fetched, Parked, Persisted, Revived, Stimulus
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from cluster.clock import Clock
from destinations.records import Record

#: `(parent, keys, columns) -> {column: values}`: each column's values in the order of the keys, None where missing.
TraitLookup: TypeAlias = Callable[[str, list[str], list[str]], Awaitable[Mapping[str, Sequence[Any]]]]
Durable: TypeAlias = Seal | Park | Fetch | MoveCursors | Hold | Split | Revive

#: Pause before traits are asked for again after the look-up failed.
_LOOKUP_PAUSE_S: Final = 0.5

_log = logging.getLogger(__name__)


class Writer:
    """Writes in the order of `put`, for a cursor must not pass a batch that is not stored yet.

    The store keeps the order in which it was asked, so what waits together shares a commit. `feed` takes what came of
    it, `broke` an error that nothing can be done about.
    """

    def __init__(
        self,
        desk: Desk,
        *,
        store: DeliveryStore,
        log: SyncLog,
        traits: TraitLookup,
        clock: Clock,
        feed: Callable[[Stimulus], None],
        broke: Callable[[Exception], None],
    ) -> None:
        self._desk = desk
        self._store = store
        self._log = log
        self._traits = traits
        self._clock = clock
        self._feed = feed
        self._broke = broke
        self._waiting: list[Durable] = []
        #: What is told by batches that are not durable yet.
        self._unsaved: dict[str, Told] = {}
        self.task: asyncio.Task[None] | None = None

    def put(self, instruction: Durable) -> None:
        """Have it made durable after everything that was put before."""
        self._waiting.append(instruction)
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(self._write_all())

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                # Tasks: what is not waited for any more after a kill is closed with the loop, not left unawaited.
                written: list[asyncio.Future[list[Stimulus]]] = []
                for instruction in waiting:
                    match instruction:
                        case Seal():
                            written.append(asyncio.ensure_future(await self._seal(instruction)))
                        case Park():
                            written.append(asyncio.ensure_future(self._park(instruction)))
                        case Fetch():
                            written.append(asyncio.ensure_future(self._fetch(instruction)))
                        case Split():
                            written.append(asyncio.ensure_future(self._split(instruction)))
                        case Revive():
                            written.append(asyncio.ensure_future(self._revive(instruction)))
                        case MoveCursors():
                            moved = self._store.move_cursors(self._desk.plan.sync.id, instruction.cursors)
                            moved.add_done_callback(self._done)
                        case Hold():
                            held = self._store.set_held(self._desk.plan.sync.id, instruction.held)
                            held.add_done_callback(self._done)
                for told in written:
                    for stimulus in await told:
                        self._feed(stimulus)
        except Exception as error:
            self._broke(error)

    def _done(self, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Exception):
            self._broke(error)

    async def _seal(self, seal: Seal) -> Awaitable[list[Stimulus]]:
        """Make records and their batches, and ask for both to be durable; what is awaited is that they are."""
        plan = self._desk.plan
        rows: list[StoredRow] = []
        log: list[LogRow] = []
        persisted: list[Stimulus] = []
        told: dict[str, Told] = {}
        for new in seal.batches:
            # A batch is some ms of work, which other syncs need not wait for twice.
            await asyncio.sleep(0)
            columns = await self._columns(plan, new.changes)
            known = await self._known(plan, new.changes)
            made = record(plan, new.changes, columns, known, self._clock.now_ms())
            parts, too_large = to_rows(plan, new.id, new.order, new.span, made.records)
            log += self._dropped(new, made.dropped, too_large)
            persisted.append(Persisted(new.id, tuple(part.as_batch() for part in parts)))
            rows += parts
            told |= made.told
            self._unsaved |= made.told
        next_order = seal.batches[-1].order + ORDER_SPAN if seal.batches else 0
        count = sum(row.count for row in log)
        self._desk.failed += count
        self._desk.rows.update({row.id: row for row in rows})
        self._log.append(plan.sync.id, log)
        durable = self._store.seal(
            plan.sync.id, rows, seal.cursors, next_order, count, told, keeps_left=plan.sync.cooldown_ms is not None,
            left=seal.left,
        )  # fmt: skip
        return self._saved(durable, told, persisted)

    def _park(self, park: Park) -> Awaitable[list[Stimulus]]:
        sync, now_ms = self._desk.plan.sync.id, self._clock.now_ms()
        # Asked here and now, not when somebody waits: the place in the order of writes is what counts.
        parked = asyncio.ensure_future(self._store.park(sync, park.changes, park.flaps, now_ms, park.cursors))

        async def told() -> list[Stimulus]:
            return [Parked(*await parked)]

        return told()

    def _fetch(self, fetch: Fetch) -> Awaitable[list[Stimulus]]:
        sync = self._desk.plan.sync
        fetched = asyncio.ensure_future(
            self._store.room.take(sync.id, sync.audience, fetch.limit, self._clock.now_ms())
        )

        async def told() -> list[Stimulus]:
            taken = await fetched
            return [Fetched(taken.changes, taken.due_ms, taken.undone)]

        return told()

    async def _saved(
        self, durable: Awaitable[None], told: Mapping[str, Told], persisted: list[Stimulus]
    ) -> list[Stimulus]:
        await durable
        for user, one in told.items():
            if self._unsaved.get(user) is one:
                del self._unsaved[user]
        return persisted

    async def _known(self, plan: SyncPlan, changes: Sequence[Change]) -> Mapping[str, Told]:
        """Give what was told of the users, what is not durable yet included."""
        if not plan.remembers:
            return {}
        users = list({change.user_id for change in changes})
        durable = await self._store.ledger.get(plan.sync.id, users)
        return durable | {user: self._unsaved[user] for user in users if user in self._unsaved}

    def _split(self, split: Split) -> Awaitable[list[Stimulus]]:
        desk, plan, now_ms = self._desk, self._desk.plan, self._clock.now_ms()
        row = desk.rows.pop(split.batch_id)
        attempted = desk.attempted.pop(split.batch_id)
        parts = [
            to_row(
                plan, part.id, part.order, part.span, row.key, tuple(row.records[index] for index in part.kept),
                part.attempts, split.first_attempt_ms, part.next_attempt_ms,
            )
            for part in split.parts
        ]  # fmt: skip
        dead = desk.dead_letter(row, split.dead, split.attempt, attempted, now_ms)
        dead_count = len(split.dead.indexes)
        desk.delivered += split.delivered
        desk.failed += dead_count
        desk.rows.update({part.id: part for part in parts})
        lines = desk.lines(row.id, split.attempt, attempted, now_ms)
        arrived = lines.add_outcomes(row.records, attempted.outcomes, split.dead, split.parts, split.reason)
        desk.figures.delivered(arrived, now_ms)
        desk.figures.retried += sum(len(rest.kept) for rest in split.parts if rest.outcome == "retry")
        self._log.append(plan.sync.id, lines.rows, desk.exchange(attempted, row.records, now_ms, well=False))
        durable = self._store.settle(plan.sync.id, row.order, split.delivered, dead, parts)
        return _then(durable, [Persisted(part.id) for part in parts])

    def _revive(self, revive: Revive) -> Awaitable[list[Stimulus]]:
        """Bring dead letters back: whole, or where the newest change alone counts, without superseded users."""
        plan = self._desk.plan
        superseded: dict[str, list[LogRow]] = {}

        def revived(letter: DeadLetter, live: frozenset[str], order: int) -> StoredRow | None:
            if not plan.newest_counts or all(record.user_id in live for record in letter.records):
                return StoredRow(order, letter.id, letter.records, letter.body, key=letter.key)
            records = tuple(record for record in letter.records if record.user_id in live)
            lines = self._desk.lines(letter.id, 0, None, self._clock.now_ms())
            lost = [(record.user_id, record.verb) for record in letter.records if record.user_id not in live]
            lines.add("superseded", lost, "a newer change of the user was sent since")
            superseded[letter.id] = lines.rows
            id_ = part_id(letter.id, f"live {order}")
            return to_row(plan, id_, order, ORDER_SPAN, letter.key, records) if records else None

        written = asyncio.ensure_future(
            self._store.letters.revive(plan.sync.id, revive.order, revive.count, revived)
        )

        async def told() -> list[Stimulus]:
            rows, more = await written
            self._log.append(plan.sync.id, [row for rows in superseded.values() for row in rows])
            self._desk.rows.update({row.id: row for row in rows})
            return [Revived(tuple(row.as_batch() for row in rows), more)]

        return told()

    def _dropped(self, new: NewBatch, dropped: Mapping[int, str], too_large: Sequence[Record]) -> list[LogRow]:
        lines = self._desk.lines(new.id, 0, None, self._clock.now_ms())
        changes = [(new.changes[index], reason) for index, reason in dropped.items()]
        lines.add_by_reason("dropped", ((change.user_id, verb_of(change), reason) for change, reason in changes))
        lines.add(
            "dropped", [(record.user_id, record.verb) for record in too_large], "larger than a request may be"
        )
        return lines.rows

    async def _columns(self, plan: SyncPlan, changes: Sequence[Change]) -> Mapping[str, Sequence[Any]]:
        """Look the traits up; a look-up that fails is tried until it works, for a guess would be delivered."""
        if not plan.columns:
            return {}
        while True:
            try:
                return await self._traits(
                    plan.parent.id, [change.user_id for change in changes], list(plan.columns)
                )
            except Exception as error:
                # Whatever ails the trait side (a file being replaced, an actor restarting) passes or is seen there.
                _log.warning("sync %s cannot look up traits of %s: %s", plan.sync.id, plan.parent.id, error)
                await asyncio.sleep(_LOOKUP_PAUSE_S)


async def _then(durable: Awaitable[None], told: Sequence[Stimulus]) -> list[Stimulus]:
    await durable
    return list(told)

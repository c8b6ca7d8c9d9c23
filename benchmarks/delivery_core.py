"""The delivery core alone: from an evaluator's answer to the bytes of a request and its answer, no disk and no network.

What is timed is what the delivery process does for each change apart from files and sockets: reading the answer's
columns, the machine, records with their identifiers, cut and encoded batches, outcomes.
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from actors.delivery.changes import Change, Told
from actors.delivery.concurrency import SharedSlots
from actors.delivery.cutting import to_rows
from actors.delivery.instructions import Instruction, Seal, Send, Settle
from actors.delivery.machine import Recovered, SyncMachine
from actors.delivery.plans import SyncPlan, plan_syncs
from actors.delivery.rate_limit import Limiter
from actors.delivery.reading import changes_of, read_table, seqs_of
from actors.delivery.recording import record
from actors.delivery.stimuli import Answered, Changes, Opened, Persisted, Shares, Stimulus, Tick
from benchmarks.delivery_world import SYNC, one_sync
from benchmarks.membership import AUDIENCE, KINDS, Turns
from benchmarks.results import Check, equal
from benchmarks.workloads import START_MS
from cluster.limits import SYNC_READ_ROWS_MAX
from cluster.model.transitions import transition_ids
from destinations.outcomes import Delivered, Outcome, Retry
from destinations.registry import KINDS as DESTINATIONS

#: Every so many requests one fails, in the way that fails some.
_FAILS_EVERY: Final = 10
_LATENCY_MS: Final = 5.0
_EVALUATOR: Final = 0


@dataclass(frozen=True, slots=True)
class Way:
    """A destination and a sync that are measured; `fails`: every tenth request is answered by 503 once."""

    name: str
    destination: Mapping[str, Any]
    sync: Mapping[str, Any]
    fails: bool = False


_WEBHOOK: Final = {"kind": "webhook", "url": "https://example.com/hook", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La",
                   "batch_size": 500}  # fmt: skip
_BY_USER_ID: Final = {"identifiers": {"user_id": "user_id"}}
_BY_EMAIL: Final = {"identifiers": {"email": "email"}}
_FACEBOOK: Final = {"kind": "facebook", "access_token": "EAAB", "ad_account": "act_1", "access_tier": "full"}
#: The first is the one that the target is for.
WAYS: Final = (
    Way("every change to a webhook", _WEBHOOK, _BY_USER_ID),
    Way("every change to a webhook, a tenth of the requests fail once", _WEBHOOK, _BY_USER_ID, fails=True),
    Way("what changes come to, to a webhook", _WEBHOOK, {**_BY_USER_ID, "deliver": "state"}),
    Way("e-mail addresses to a list (Facebook), hashed, what was told remembered", _FACEBOOK, _BY_EMAIL),
)


@dataclass(slots=True)
class Spent:
    """Processor seconds by part; `ops` changes were worked off."""

    ops: int = 0
    total_s: float = 0.0
    parts_s: dict[str, float] = field(default_factory=dict)

    def per_s(self) -> float:
        """Changes a second of one core."""
        return self.ops / self.total_s

    def us_each(self) -> dict[str, float]:
        """Give each part's µs a change."""
        return {part: round(seconds / self.ops * 1e6, 2) for part, seconds in self.parts_s.items()}


class Line:
    """One sync's machine, and around it what its shell does, but for files, sockets and waiting."""

    def __init__(self, way: Way, *, timed: bool = False) -> None:
        self.plan = _plan(way)
        self.bodies: list[bytes] = []
        self.sent: list[Sequence[Change]] = []
        self.delivered = 0
        self._way = way
        self._now_ms = START_MS
        self._waits: deque[Instruction] = deque()
        self._sizes: dict[str, int] = {}
        self._told: dict[str, Told] = {}
        self._requests = 0
        self.spent = Spent()
        self._timed = timed
        shares = Shares(Limiter(SYNC), SharedSlots(SYNC))
        self.machine = SyncMachine(self.plan.config, shares, Recovered(1), jitter=lambda: 0.5)
        self._feed(Opened(_EVALUATOR, 0))

    def read(self, answer: tuple[bytes, bytes], *, at_head: bool) -> None:
        """Take an evaluator's answer, and do all that it leads to."""
        self._now_ms += 1
        began = self._began()
        seqs = seqs_of(answer[0])
        changes = changes_of(read_table(answer[1]), seqs, _EVALUATOR, AUDIENCE)
        self._took("reading", began)
        self._feed(Changes(_EVALUATOR, changes, seqs[-1], at_head))
        self._perform()

    def finish(self) -> None:
        """Let time pass until nothing is left."""
        while self.machine.backlog:
            self._now_ms = max(self._now_ms + 1, self.machine.next_wake_ms(self._now_ms))
            self._feed(Tick())
            self._perform()

    def _perform(self) -> None:
        while self._waits:
            match self._waits.popleft():
                case Seal(batches=batches):
                    for batch in batches:
                        self._feed(self._seal(batch.id, batch.order, batch.span, batch.changes))
                case Send(batch_id=batch_id):
                    self._feed(Answered(batch_id, self._outcomes(batch_id), _LATENCY_MS))
                case Settle(delivered=delivered):
                    self.delivered += delivered

    def _seal(self, id_: str, order: int, span: int, changes: Sequence[Change]) -> Persisted:
        began = self._began()
        known = {change.user_id: self._told[change.user_id] for change in changes if change.user_id in self._told}
        made = record(self.plan, changes, _columns(self.plan, changes), known, self._now_ms)
        self._told |= made.told
        self._took("records", began)
        began = self._began()
        rows, _ = to_rows(self.plan, id_, order, span, made.records)
        parts = tuple(row.as_batch() for row in rows)
        self._took("batches", began)
        self._sizes.update({row.id: len(row.records) for row in rows})
        self.bodies += [row.body for row in rows]
        self.sent.append(changes)
        return Persisted(id_, parts)

    def _outcomes(self, batch_id: str) -> tuple[Outcome, ...]:
        self._requests += 1
        fails = self._way.fails and self._requests % _FAILS_EVERY == 0
        return (Retry("status 503") if fails else Delivered(),) * self._sizes[batch_id]

    def _feed(self, stimulus: Stimulus) -> None:
        began = self._began()
        self._waits.extend(self.machine.handle(stimulus, self._now_ms))
        self.machine.next_wake_ms(self._now_ms)  # the shell asks after each
        self._took("machine", began)

    def _began(self) -> float:
        return time.perf_counter() if self._timed else 0.0

    def _took(self, part: str, began: float) -> None:
        if self._timed:
            spent = self.spent.parts_s
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - began


def run(way: Way, turns: Turns, *, timed: bool = False, keeps: bool = False) -> Line:
    """Send a log through the core; answers are made beforehand. `timed`: by part; `keeps`: also what was sent."""
    starts = range(0, turns.count, SYNC_READ_ROWS_MAX)
    answers = [turns.packed(start, SYNC_READ_ROWS_MAX) for start in starts]
    gc.collect()
    began = time.process_time()
    line = Line(way, timed=timed)
    for start, answer in zip(starts, answers, strict=True):
        line.read(answer, at_head=start + SYNC_READ_ROWS_MAX >= turns.count)
        if not keeps:
            line.bodies.clear()
            line.sent.clear()
    line.finish()
    line.spent.total_s = time.process_time() - began
    line.spent.ops = turns.count
    return line


def _plan(way: Way) -> SyncPlan:
    published = one_sync(dict(way.destination), dict(way.sync))
    return plan_syncs(published.definitions, (_EVALUATOR,), (), DESTINATIONS)[SYNC]


def _columns(plan: SyncPlan, changes: Sequence[Change]) -> dict[str, list[str]]:
    """Stand for the look-up of traits."""
    return {column: [f"{change.user_id}@example.com" for change in changes] for column in plan.columns}


def checks(users: int, count: int) -> list[Check]:
    """Check what is sent of a whole small log, each way: all of it, once, each user's changes in order."""
    turns = Turns(users, count)
    seqs, numbers, entered = turns.columns(0, count)
    logged = [(int(seq), f"user_{user}", KINDS[int(inside)])
              for seq, user, inside in zip(seqs, numbers, entered, strict=True)]  # fmt: skip
    found = []
    for way in WAYS:
        line = run(way, turns, keeps=True)
        sent = [(change.seq, change.user_id, change.kind) for changes in line.sent for change in changes]
        nets = line.plan.config.deliver == "state"
        right = _comes_to(sent) == _comes_to(logged) if nets else sent == logged
        detail = f"{len(sent):,} of {count:,} changes in {len(line.bodies):,} requests"
        found.append(Check(f"{way.name}: {'comes to' if nets else 'is'} what was logged", right, detail))
        found.append(equal(f"{way.name}: delivered", line.delivered, len(sent)))
        if not nets:
            told = [change["transition_id"] for body in line.bodies for change in msgspec.json.decode(body)["changes"]]
            found.append(Check(f"{way.name}: the bodies hold every transition's id", told == _ids(logged)))
    return found


def _comes_to(changes: Sequence[tuple[int, str, str]]) -> set[str] | None:
    """Give who is in at the end; None where somebody enters or leaves twice in a row."""
    last: dict[str, str] = {}
    for _, user, kind in changes:
        if last.get(user, "exited") == kind:
            return None
        last[user] = kind
    return {user for user, kind in last.items() if kind == "entered"}


def _ids(logged: Sequence[tuple[int, str, str]]) -> list[str]:
    seqs, users, _ = zip(*logged, strict=True)
    ones = [1] * len(logged)
    return transition_ids([AUDIENCE] * len(logged), ones, users, [START_MS + seq for seq in seqs], [0] * len(logged))

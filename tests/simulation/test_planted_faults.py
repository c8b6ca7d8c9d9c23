"""The simulation finds bugs: each of these, planted on purpose, is caught by the checker that is there for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest

from actors.delivery import store as delivery_store
from actors.delivery.batching import Pending
from actors.delivery.outbox import OutboxBatch
from actors.delivery.store import DeliveryStore
from actors.evaluator import entries, recovery
from actors.evaluator.membership_files import MembershipWriter
from actors.evaluator.results import TRANSITION_SCHEMA
from actors.evaluator.shadow import Shadow
from actors.evaluator.stimuli import Append
from actors.evaluator.succession.handing import HandsOver
from actors.evaluator.succession.importing import Importer
from actors.evaluator.succession.tenure import Tenure
from actors.evaluator.worker import EvaluatorWorker
from cluster.admission.splitting import Share
from cluster.admission.splitting import split as split_rightly
from cluster.edge.dealing import Part, Tally
from cluster.edge.problems import Problem
from cluster.log import database
from cluster.log.kafka.frames import Frame
from cluster.log.kafka.log import KafkaLog
from destinations.webhook.definition import WebhookDestination
from tests.simulation.journal import JournalLog, SimFile
from tests.simulation.plans import Fault, FaultKind, Plan, Scale, make_plan
from tests.simulation.runner import run_plan
from tests.simulation.workload import RETENTION_LONG

#: Seeds that a planted fault may take until it shows.
SEEDS_MAX = 80

Change = Callable[[Plan], Plan]


@dataclass(frozen=True)
class Plant:
    """A bug: what it puts in place of what, the faults that bring it to light, and the checker that must see it."""

    name: str
    caught_by: str
    patches: Sequence[Any]
    kinds: Sequence[FaultKind] = ()
    change: Change = lambda plan: plan
    #: A seed that is known to show it, tried first; any other will do as well.
    seed: int = 0

    def plan(self, seed: int) -> Plan:
        return self.change(make_plan(seed, self.kinds))


def on(medium: Any) -> Change:
    return lambda plan: plan.without(medium=medium)


def bounds(**tight: int) -> Change:
    return lambda plan: plan.without(tightness=replace(plan.tightness, **tight))


def a_clock_that_stands(plan: Plan) -> Plan:
    """Set the clock back, so that much comes at one instant, and kill evaluators within it."""
    owners = [f"evaluator-{i}" for i in range(plan.evaluators)]
    kills = [Fault(at_s, "kill", name, 0.3) for at_s in (5.0, 10.0, 15.0, 20.0) for name in owners]
    return plan.without(faults=[Fault(2.0, "clock", "", 0.0, -60_000), *kills])


def killed_in_waves(plan: Plan) -> Plan:
    """Stop evaluators for some seconds, in which much comes due, and kill them after the first commit of it."""
    faults = [
        fault
        for at_s in (6.0, 14.0, 22.0)
        for name in (f"evaluator-{i}" for i in range(plan.evaluators))
        for fault in (Fault(at_s, "kill_in_commit", name, 0.3, ("after_commit", 0)), Fault(at_s, "freeze", name, 5.0))
    ]
    return plan.without(faults=faults, tightness=replace(plan.tightness, wave_users=1))


def around_a_publication(plan: Plan) -> Plan:
    """Have all requests come while definitions change, models and columns with them, and messages travel for long."""
    at_s, first = 10.0, plan.documents[0][1]
    second = {**first, "event_models": first["event_models"][::-1], "audiences": first["audiences"][:-1]}
    kept = {sync["audience"] for sync in first["syncs"]}
    if first["audiences"][-1]["id"] in kept:
        second["audiences"] = [*first["audiences"], {**first["audiences"][0], "id": "another"}]
    requests = [replace(each, at_s=at_s - 0.5 + 0.1 * place) for place, each in enumerate(plan.requests)]
    late = Fault(at_s - 2.0, "late", "", 6.0, 0.2)
    return plan.without(documents=[(0.0, first), (at_s, second)], requests=requests, faults=[late])


def zombies_at_requests(plan: Plan) -> Plan:
    """Stop an evaluator before each request, start its successor, and let it go on while the sender still waits."""
    times = sorted({request.at_s for request in plan.requests})
    return plan.without(faults=[Fault(at_s - 0.01, "zombie", "evaluator-0", 3.0) for at_s in times])


def delivery_killed(plan: Plan) -> Plan:
    """Kill delivery between two commits, again and again."""
    times = [2.0 + 1.5 * number for number in range(18)]
    faults = [Fault(at_s, "kill_in_commit", "delivery", 0.2, ("after_commit", int(at_s) % 2)) for at_s in times]
    return plan.without(faults=faults)


def killed_after_checkpoints(plan: Plan) -> Plan:
    """Kill evaluators every few seconds; checkpoints are of every eighth event."""
    owners = [f"evaluator-{i}" for i in range(plan.evaluators)]
    kills = [Fault(6.0 + 4.0 * number, "kill", name, 0.2) for number in range(6) for name in owners]
    return plan.without(faults=kills, tightness=replace(plan.tightness, events_a_checkpoint=8))


def scaled(plan: Plan) -> Plan:
    """Hand all users over while requests come, and nothing is forgotten by then."""
    first = plan.documents[0][1]
    lasting = {**first, "settings": {**first["settings"], "retention": RETENTION_LONG, "dedup": {"horizon": "90s"}}}
    requests = [replace(each, at_s=6.0 + 0.03 * place) for place, each in enumerate(plan.requests)]
    return plan.without(documents=[(0.0, lasting)], scales=[Scale(5.0, 2), Scale(5.4, 3)], requests=requests)


def scaled_as_clocks_go_back(plan: Plan) -> Plan:
    """Set the clock back while heirs read the logs of others, of whom only some have anything to do."""
    plan = scaled(plan)
    requests = [replace(each, at_s=5.2 + 0.03 * place) for place, each in enumerate(plan.requests)]
    back = [Fault(5.3 + 0.05 * number, "clock", "", 0.0, -3_000) for number in range(3)]
    return plan.without(evaluators=3, faults=back, requests=requests)


# --- the log ---------------------------------------------------------------------------------------------


def without_sync(path: Any, *, durable: bool = True) -> Any:
    assert durable, "nobody asked for a log that is not"
    connection = database.connect_writer(path)
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def counts_unread(self: KafkaLog, kind: Any, bodies: Sequence[bytes]) -> Any:
    """Send a group and take it for counted, whoever has claimed the topic meanwhile."""
    number = self._fold.number + 1
    frames = [Frame(kind, self._owner, number, part, len(bodies), -1, body) for part, body in enumerate(bodies)]
    records = [frame.pack() for frame in frames]
    first = self._topic.send(records) - len(records) + 1
    self._topic.go_to(first + len(records))
    return [self._fold.feed(first + place, record) for place, record in enumerate(records)][-1]


# --- the evaluator ---------------------------------------------------------------------------------------

_commit, _process, _append = EvaluatorWorker._commit, EvaluatorWorker.process, EvaluatorWorker._append
_slices, _recover, _restored = entries.EntryReader.slices, recovery.recover, recovery.restored


def answers_first(self: EvaluatorWorker, group: Any) -> Any:
    _commit(self)
    return _process(self, group)


def nameless(hits: pa.RecordBatch) -> pa.RecordBatch:
    place = hits.schema.get_field_index("message_id")
    return hits.set_column(place, hits.schema.field(place), pa.nulls(hits.num_rows, pa.string()))


def forgets_ids_live(self: EvaluatorWorker, batch: Append) -> Any:
    if not batch.hits:
        return _append(self, batch)
    hits = nameless(pa.ipc.open_stream(batch.hits).read_next_batch())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, hits.schema) as writer:
        writer.write_batch(hits)
    return _append(self, replace(batch, hits=sink.getvalue().to_pybytes()))


def forgets_ids_at_recovery(self: Any, logged: Any) -> Any:
    for each in _slices(self, logged):
        yield replace(each, hits=nameless(each.hits))


def leaves_the_wave(*args: Any, **named: Any) -> Any:
    return replace(_recover(*args, **named), missing=pa.RecordBatch.from_pylist([], schema=TRANSITION_SCHEMA))


def any_version(self: EvaluatorWorker, batch: Append) -> Any:
    return _append(self, replace(batch, version=self.version))


def skips_what_follows(log: Any, *args: Any, **named: Any) -> Any:
    """Entries after a checkpoint, without the first of them."""
    after = iter(entries.entries_since(log, *args, **named))
    next(after, None)
    return after


_dealt_anew = Part.dealt_anew


def counts_for_all(self: Part, *owners: tuple[int, ...]) -> list[Part]:
    return [replace(part, partitions=None) for part in _dealt_anew(self, *owners)]


async def follows_nobody(self: Importer) -> None:
    """Wait for the end, and look at no source until then."""


# --- the edge --------------------------------------------------------------------------------------------


def splits_and_drops(*args: Any) -> Any:
    shares = dict(split_rightly(*args))
    if len(shares) > 1:
        owner, share = shares.popitem()
        kept = len(share.rows) - 1
        rows = share.hits["row"].to_numpy() < kept
        hits = share.hits.filter(pa.array(rows))
        shares[owner] = Share(share.envelope.slice(0, kept), hits, share.rows[:kept], np.flatnonzero(rows))
    return shares


def refuses_without_a_time(detail: str, code: str = "not_ready", retry_after_ms: int = 0) -> Problem:
    return Problem(503, code, detail)


# --- delivery --------------------------------------------------------------------------------------------

_seal, _build = DeliveryStore.seal, WebhookDestination.build


def moves_the_cursor_first(
    self: DeliveryStore, sync: str, batches: Any, cursors: Any, next_order: int, *rest: Any, **more: Any
) -> Any:
    moved = self._commits.write(lambda connection: delivery_store._move(connection, sync, cursors))

    async def sealed() -> None:
        await moved
        await _seal(self, sync, batches, {}, next_order, *rest, **more)

    return sealed()


def keeps_the_first(self: Pending, changes: Any) -> None:
    for change in changes:
        self._by_user.setdefault(change.user_id, change)


def passes_what_is_pending(self: Pending) -> Any:
    return dict(self._positions)


def names_each_attempt_anew(self: Any, settings: Any, sealed: Any, attempt_time_s: int) -> Any:
    return _build(self, settings, replace(sealed, id=f"{sealed.id}-{attempt_time_s}"), attempt_time_s)


PLANTS = (
    Plant("the journal is not synced", "acknowledged_is_logged", [patch.object(SimFile, "sync", lambda self: None)],
          ["power"], on("journal"), seed=2),
    Plant("SQLite is not synced", "acknowledged_is_logged", [patch("cluster.log.sqlite.connect_writer", without_sync)],
          ["power"], on("sqlite"), seed=3),
    Plant("delivery.db is not synced", "same_id_same_body",
          [patch("actors.delivery.commits.connect_writer", without_sync)], ["power"], seed=5),
    Plant("answers come before the commit", "acknowledged_is_logged",
          [patch.object(EvaluatorWorker, "process", answers_first),
           patch.object(EvaluatorWorker, "_commit", lambda self: None)], ["kill", "power"], seed=4),
    Plant("a timer is dropped", "membership_is_the_references",
          [patch.object(EvaluatorWorker, "next_due_ms", lambda self: None)], seed=3),
    Plant("an id is used again", "transitions_alternate",
          [patch("actors.evaluator.recovery.seed_instant", lambda machine, numbers: None)],
          change=a_clock_that_stands, seed=3),
    Plant("the owner's number is ignored", "log_in_order",
          [patch.object(JournalLog, "_check_owner", lambda self: None)], ["zombie"], on("journal"), seed=2),
    Plant("a group in Kafka counts unread", "acknowledged_is_logged",
          [patch.object(KafkaLog, "_append", counts_unread)],
          change=lambda plan: zombies_at_requests(on("kafka")(plan)), seed=2),
    Plant("ids of messages are lost at recovery", "membership_is_the_references",
          [patch.object(entries.EntryReader, "slices", forgets_ids_at_recovery)], ["kill_in_commit", "lossy"], seed=14),
    Plant("a repeated message is evaluated twice", "membership_is_the_references",
          [patch.object(EvaluatorWorker, "_append", forgets_ids_live)], ["repeating", "lossy"], seed=5),
    Plant("the rest of a wave is skipped after a crash", "membership_is_the_references",
          [patch("actors.evaluator.worker.recover", leaves_the_wave)], change=killed_in_waves, seed=2),
    Plant("the clock goes back", "nothing_broke",
          [patch.object(EvaluatorWorker, "_clock", lambda self: self._now_ms())], ["clock"], seed=5),
    Plant("a publication misses the newest events", "membership_is_the_references",
          [patch.object(Shadow, "entries_left", lambda self: 0)], change=around_a_publication, seed=2),
    Plant("batches of older definitions are taken", "membership_is_the_references",
          [patch.object(EvaluatorWorker, "_append", any_version)], change=around_a_publication, seed=3),
    Plant("what recovery needs is trimmed", "membership_is_the_references",
          [patch("actors.evaluator.trimming.history_ms", lambda definitions: 1_000),
           patch("actors.evaluator.trimming.TRIM_EVERY_MS", 2_000)], ["kill"], bounds(events_a_checkpoint=0), seed=12),
    Plant("an entry after a checkpoint is skipped", "membership_is_the_references",
          [patch("actors.evaluator.recovery.entries_since", skips_what_follows)],
          change=killed_after_checkpoints, seed=8),
    Plant("who has handed over works on", "acknowledged_is_logged",
          [patch.object(Tenure, "refusal", lambda self, now_ms: None)], change=scaled, seed=8),
    Plant("the last entries are not taken over", "what_was_taken_over_is_whole",
          [patch.object(Importer, "_at", lambda self, ends: True), patch.object(Importer, "_follow", follows_nobody)],
          change=scaled, seed=1),
    Plant("a bound is forgotten", "nothing_broke",
          [patch.object(HandsOver, "_bound", lambda self: self._clock())], change=scaled_as_clocks_go_back, seed=12),
    Plant("a part that is dealt anew counts for everybody", "membership_is_the_references",
          [patch.object(Part, "dealt_anew", counts_for_all)], change=scaled, seed=38),
    Plant("membership is not shown", "reads_are_right",
          [patch.object(MembershipWriter, "publish", lambda self, *args: True)], seed=3),
    Plant("an event of a split request is dropped", "acknowledged_is_logged",
          [patch("cluster.edge.dealing.split", splits_and_drops)], seed=3),
    Plant("a refused part is acknowledged", "acknowledged_is_logged",
          [patch.object(Tally, "failed", lambda self, part, error: None)], ["kill", "full_disk"], seed=3),
    Plant("a refusal does not say when to come back", "nothing_silent",
          [patch("cluster.edge.problems.unavailable", refuses_without_a_time)], ["kill", "full_disk"], seed=3),
    Plant("a retry overtakes", "order_per_user",
          [patch.object(OutboxBatch, "may_go", property(lambda batch: batch.phase == "waiting"))], ["destination"],
          seed=17),
    Plant("a cursor passes what is pending", "every_change_is_delivered",
          [patch.object(Pending, "cursors", passes_what_is_pending)],
          change=delivery_killed, seed=8),
    Plant("a cursor moves before its batch is stored", "every_change_is_delivered",
          [patch.object(DeliveryStore, "seal", moves_the_cursor_first)], change=delivery_killed, seed=1),
    Plant("two changes come to the first", "destination_has_the_membership",
          [patch.object(Pending, "_fold", keeps_the_first)], ["kill", "freeze", "destination"], seed=7),
    Plant("a retry has an id of its own", "same_id_same_body",
          [patch.object(WebhookDestination, "build", names_each_attempt_anew)], ["destination"], seed=2),
)  # fmt: skip


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name.replace(" ", "-"))
def test_a_planted_fault_is_caught(plant: Plant) -> None:
    seed = seed_that_shows(plant)
    assert seed is not None, f"{plant.caught_by} sees nothing within {SEEDS_MAX} seeds"
    # It is the planted fault that the checker saw: without it, it sees nothing.
    assert run_plan(plant.plan(seed)).violations == []


def seed_that_shows(plant: Plant) -> int | None:
    with ExitStack() as planted:
        for each in plant.patches:
            planted.enter_context(each)
        for seed in dict.fromkeys([plant.seed, *range(SEEDS_MAX)]):
            if any(each.checker == plant.caught_by for each in run_plan(plant.plan(seed)).violations):
                return seed
    return None

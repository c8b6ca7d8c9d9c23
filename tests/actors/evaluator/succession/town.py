"""Several workers over real logs in one thread, dealt to as the edge deals, that can hand their users over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from actors.evaluator.stimuli import Append, Bound, Hold, Lookup, Retire, Stimulus, TakeTraits, Tick
from actors.evaluator.stored import packed
from actors.evaluator.succession.importing import End, Importer, entries_reply
from actors.evaluator.succession.tenure import Kept, positions_of
from actors.evaluator.worker import EvaluatorWorker
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.edge.dealing import deal
from cluster.log.sqlite import EvaluatorLog
from cluster.model.partitions import partitions_of
from cluster.model.transitions import transition_id
from cluster.wire.envelope import envelope_of
from tests.actors.evaluator.driving import START_MS, Evaluator

PARTITIONS = 8


class Source:
    """A worker as its heirs see it."""

    def __init__(self, town: Town, index: int) -> None:
        self._town, self._index = town, index

    async def entries_after(self, seq: int, bytes_max: int) -> dict[str, Any]:
        worker = self._town.workers[self._index]
        [bound] = worker.process([Bound()])
        return entries_reply(worker.log, seq, min(bytes_max, self._town.bytes_max), bound["clock_ms"])

    async def transitions_after(self, seq: int, limit: int, wait_ms: int, audience: str | None) -> dict[str, Any]:
        blocks = self._town.workers[self._index].log.transitions_after(seq, limit)
        return packed(blocks, seq, limit, audience)


class Town:
    """Evaluators by index, and who owns which partition."""

    def __init__(self, folder: Path, published: Published, owners: Sequence[int]) -> None:
        self.folder = folder
        self.clock = ManualClock(START_MS)
        self.published = published
        self.owners = tuple(owners)
        self.workers: dict[int, EvaluatorWorker] = {}
        #: Bytes of entries that a source gives at a time.
        self.bytes_max = 1 << 20
        for index in sorted(set(owners)):
            self.open(index, self.owners)
            Evaluator.put_in_force(self._driver(index), published)

    def open(self, index: int, owners: Sequence[int], *, heir: bool = False) -> EvaluatorWorker:
        """Open a worker, again after a kill: nothing is closed in between."""
        partitions = tuple(p for p, owner in enumerate(owners) if owner == index)
        log = EvaluatorLog.open(self.folder / f"evaluator-{index}.db", owner_epoch=1)
        worker = EvaluatorWorker(
            log, self.folder / f"membership-{index}", partitions, seed=index, now_ms=self.clock.now_ms, heir=heir
        )
        self.workers[index] = worker
        return worker

    def _driver(self, index: int) -> Any:
        driver = Evaluator.__new__(Evaluator)
        driver.worker, driver.published, driver.clock = self.workers[index], None, self.clock
        return driver

    # --- inputs --------------------------------------------------------------------------------------

    def events(self, *rows: dict[str, Any]) -> None:
        envelope = envelope_of([msgspec.json.encode(row) for row in rows], 0, source="web")
        decoded = Decoder(EventPlan(self.published.definitions)).decode(envelope)
        for part in deal(envelope, decoded, self.owners):
            request = part.request(self.published.version)
            [reply] = self.workers[part.owner].process(
                [Append(request["version"], request["rows"], request["envelope"], request["hits"])]
            )
            assert "error" not in reply, reply

    def snapshot(self, parent: str, version: int, values: dict[str, float]) -> None:
        keys = pa.array(list(values), pa.string())
        table = pa.table({
            "key": keys, "partition": pa.array(partitions_of(keys, PARTITIONS)),
            "ltv": pa.array(list(values.values()), pa.float64()), "tier": pa.nulls(len(values), pa.string()),
        })  # fmt: skip
        path = self.folder / f"{parent}-{version}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        for index in sorted(set(self.owners)):
            self.workers[index].process([TakeTraits(parent, version, table, str(path))])

    def tick(self) -> None:
        for index in sorted(set(self.owners)):
            self.workers[index].process([Tick()])

    def publish(self, published: Published) -> None:
        self.published = published
        for index in sorted(set(self.owners)):
            Evaluator.put_in_force(self._driver(index), published)

    # --- handing over --------------------------------------------------------------------------------

    def heir(self, index: int, owners: Sequence[int]) -> Importer:
        worker = self.open(index, owners, heir=True)

        async def ask(stimulus: Stimulus) -> dict[str, Any]:
            [reply] = worker.process([stimulus])
            return reply

        theirs = {old: tuple(p for p, o in enumerate(self.owners) if o == old) for old in set(self.owners)}
        mine = {p for p, owner in enumerate(owners) if owner == index}
        sources: Any = {old: Source(self, old) for old, owned in theirs.items() if mine & set(owned)}
        return Importer(self.published, sources, theirs, sorted(mine), positions_of(worker.log), ask)

    def retire(self) -> tuple[int, dict[int, End], dict[str, int]]:
        """Hold and end all present evaluators; gives the clock, their ends, and the sum of their counts."""
        present = sorted(set(self.owners))
        held = [self.workers[index].process([Hold(Kept())])[0] for index in present]
        clock_ms = max(self.clock.now_ms(), *(reply["clock_ms"] for reply in held))
        ends, counts = {}, dict.fromkeys(held and ("accepted", "duplicates", "too_late"), 0)
        for index, hold in zip(present, held, strict=True):
            [reply] = self.workers[index].process([Retire(clock_ms, hold["seq"])])
            assert "error" not in reply, reply
            ends[index] = End(reply["seq"], reply["transition_seq"])
            counts = {name: counts[name] + reply["counts"][name] for name in counts}
        return clock_ms, ends, counts

    # --- what came of it -----------------------------------------------------------------------------

    def history(self) -> dict[tuple[str, str], list[tuple[str, int, str]]]:
        """Give each user's and audience's transitions in order, with their ids, as the present evaluators have them."""
        made: dict[tuple[str, str], list[tuple[str, int, str]]] = {}
        for index in sorted(set(self.owners)):
            for block in self.workers[index].log.transitions_after(0, 1 << 30):
                for r in block.rows().to_pylist():
                    id_ = transition_id(r["audience_id"], r["audience_version"], r["user_id"], r["at"], r["n"])
                    made.setdefault((r["user_id"], r["audience_id"]), []).append((r["kind"], r["at"], id_))
        return made

    def members(self, parent: str, users: Sequence[str], audiences: Sequence[str]) -> dict[str, list[bool]]:
        found = {}
        for user, partition in zip(users, partitions_of(pa.array(users), PARTITIONS).tolist(), strict=True):
            worker = self.workers[self.owners[partition]]
            [reply] = worker.process([Lookup(parent, (user,), tuple(audiences), False)])
            found[user] = reply["members"][0]
        return found

    def counts(self) -> dict[str, int]:
        present = [self.workers[index].counts for index in sorted(set(self.owners))]
        return {name: sum(counts[name] for counts in present) for name in present[0]}

"""A worker to drive in tests: over a real log, with a clock by hand, reopened at will."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from actors.evaluator.backfill import Backfill, Pace
from actors.evaluator.checkpointing.checkpointer import Checkpointer, log_id
from actors.evaluator.stimuli import Append, Lookup, Prepare, Publish, TakeCheckpoint, TakeTraits
from actors.evaluator.worker import EvaluatorWorker
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.log.sqlite import EvaluatorLog
from cluster.model.transitions import transition_id
from cluster.wire.envelope import envelope_of, pack
from tests.actors.evaluator.examples import published, snapshot

START_MS = 1_795_392_000_000
PARTITIONS = tuple(range(64))


class Evaluator:
    """A worker over a folder, opened again at will (as after a kill: nothing is closed in between)."""

    def __init__(
        self, folder: Path, definitions: Published | None, pace: Pace | None = None, *, checkpoints: bool = False
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.pace = pace
        self.with_checkpoints = checkpoints
        self.folder = folder
        self.clock = ManualClock(START_MS)
        self.published = definitions
        self.epoch = 0
        self.reopen()
        if definitions is not None:
            self.put_in_force(definitions)

    def reopen(self) -> None:
        self.epoch += 1
        log = EvaluatorLog.open(self.folder / "evaluator-0.db", owner_epoch=self.epoch)
        self.checkpoints = None
        if self.with_checkpoints:
            store = CheckpointStore(str(self.folder / "checkpoints"), "evaluator-0", log_id(log))
            self.checkpoints = Checkpointer(store, CheckpointSettings(), log, PARTITIONS)
        self.worker = EvaluatorWorker(
            log, self.folder / "membership", PARTITIONS, seed=self.epoch, now_ms=self.clock.now_ms,
            pace=self.pace, checkpoints=self.checkpoints,
        )  # fmt: skip

    def checkpoint(self) -> bool:
        """Take and write a checkpoint; False where none may be taken now."""
        assert self.checkpoints is not None
        [reply] = self.do(TakeCheckpoint())
        return "error" not in reply and self.checkpoints.write(reply["taken"])

    @property
    def origin(self) -> dict[str, Any]:
        """What the worker came back from."""
        assert self.checkpoints is not None
        return self.checkpoints.status()["recovered"]

    def do(self, *stimuli: Any) -> list[dict[str, Any]]:
        return self.worker.process(list(stimuli))

    def batch(self, *events: dict[str, Any], version: int | None = None) -> Append:
        envelope = envelope_of([msgspec.json.encode(e) for e in events], 0, source="web")
        hits = b""
        if self.published is not None:
            decoded = Decoder(EventPlan(self.published.definitions)).decode(envelope)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, decoded.hits.schema) as writer:
                writer.write_batch(decoded.hits)
            hits = sink.getvalue().to_pybytes()
        current = self.published.version if self.published is not None else 0
        return Append(current if version is None else version, len(events), pack(envelope), hits)

    def publish(self, **changes: Any) -> dict[str, Any]:
        self.published = published(self.published, **changes)
        return self.put_in_force(self.published)

    def prepare(self, definitions: Published) -> Backfill | None:
        """Begin a publication, as a shell does before it has it built on its thread."""
        self.do(Prepare(definitions))
        return self.worker.backfill

    def put_in_force(self, definitions: Published) -> dict[str, Any]:
        """Publish with nothing between the steps."""
        backfill = self.prepare(definitions)
        if backfill is not None:
            backfill.build()
        return self.do(Publish(definitions))[0]

    def take_traits(self, version: int, **ltv: float | None) -> dict[str, Any]:
        return self.take_snapshot("users", version, snapshot(**ltv))

    def take_snapshot(self, parent: str, version: int, table: pa.Table) -> dict[str, Any]:
        return self.do(TakeTraits(parent, version, table, self.written(parent, version, table)))[0]

    def written(self, parent: str, version: int, table: pa.Table) -> str:
        """Write a snapshot's copy; gives where."""
        path = self.folder / f"{parent}-{version}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return str(path)

    def history(self) -> list[tuple[str, str, str, int, int, str]]:
        blocks = self.worker.log.transitions_after(0, 1_000_000)
        return [
            (r["audience_id"], r["user_id"], r["kind"], r["at"] - START_MS, r["n"], r["cause"])
            for block in blocks for r in block.rows().to_pylist()
        ]

    def ids(self) -> list[str]:
        rows = [r for block in self.worker.log.transitions_after(0, 1_000_000) for r in block.rows().to_pylist()]
        return [transition_id(r["audience_id"], r["audience_version"], r["user_id"], r["at"], r["n"]) for r in rows]

    def members(self, user: str) -> dict[str, bool]:
        names = ("hide_promo", "eligible", "quiet")
        reply = self.do(Lookup("users", (user,), names, False))[0]
        return dict(zip(names, reply["members"][0], strict=True))

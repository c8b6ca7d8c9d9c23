"""What an evaluator is told in a stored history, and what is asked of it: every kind of condition, entry and format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from actors.evaluator.checkpointing.checkpointer import Checkpointer, log_id
from actors.evaluator.stimuli import Append, Prepare, Publish, TakeCheckpoint, TakeTraits, Tick
from actors.evaluator.worker import EvaluatorWorker
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore
from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.log.sqlite import EvaluatorLog
from cluster.model.transitions import transition_id
from cluster.wire.envelope import envelope_of, pack
from tests.properties.engine import snapshot_of

#: 2026-11-23T10:00:00Z
START_MS = 1_795_428_000_000
PARTITIONS = tuple(range(64))
USERS = tuple(f"user-{i}" for i in range(12))
#: These look and never buy.
VIEWERS = ("user-20", "user-21")
_COLUMNS = {
    "channel": {"path": "properties.channel", "type": "string"},
    "amount": {"path": "properties.amount", "type": "number"},
}
_TRAITS = {"ltv": {"type": "number"}, "tier": {"type": "string"}, "last_seen": {"type": "timestamp"}}
_AUDIENCES: dict[str, dict[str, Any]] = {
    "buyers": {"event": "order", "within": "30s", "where": {"property": "channel", "eq": "web"}},
    "busy": {"event": "view", "at_least": 3, "within": "20s"},
    "spenders": {"event": "order", "sum": "amount", "gt": 30, "within": "1m"},
    "curious": {"event": "view", "distinct": "channel", "gte": 2, "within": "1m"},
    "earlier": {"event": "view", "between_ago": ["5s", "40s"]},
    "today": {"event": "order", "this": "day", "tz": "Europe/Berlin"},
    "path": {"sequence": [{"event": "view"}, {"event": "order"}], "within": "30s"},
    "left_behind": {"event": "view", "within": "1m", "after": "10s", "not_followed_by": {"event": "order"}},
    "rich": {"all": [{"trait": "ltv", "gt": 300}, {"not": {"event": "order", "within": "10s"}}]},
    "seen": {"trait": "last_seen", "within_last": "1m"},
    "both": {"all": [{"audience": "rich"}, {"audience": "busy"}]},
}


def document(**changes: Any) -> dict[str, Any]:
    """The definitions; `changes` replace audiences."""
    audiences = {**_AUDIENCES, **changes}
    return {
        "version": 1,
        "settings": {"retention": "1h", "dedup": {"horizon": "10m"}},
        "sources": [{"id": "web", "kind": "http", "write_key": "k"}],
        "parent_models": [{
            "id": "users", "primary_key": "user_id",
            "traits": {"source": {"kind": "parquet", "path": "users.parquet"}, "columns": _TRAITS},
        }],
        "event_models": [
            {"id": name, "parent": "users", "event": name, "foreign_key": "user_id", "timestamp": "timestamp",
             "columns": _COLUMNS}
            for name in ("view", "order")
        ],
        "audiences": [{"id": name, "parent": "users", "where": where} for name, where in audiences.items()],
    }  # fmt: skip


class Told:
    """An evaluator over a data dir, with the present folder as its base: trait snapshots are named relative to it."""

    def __init__(self, epoch: int, at_ms: int, *, checkpoints: bool = True) -> None:
        self.clock = ManualClock(at_ms)
        self.log = EvaluatorLog.open(Path("evaluator-0.db"), owner_epoch=epoch)
        store = CheckpointStore("checkpoints" if checkpoints else "none", "evaluator-0", log_id(self.log))
        self.checkpoints = Checkpointer(store, CheckpointSettings(), self.log, PARTITIONS)
        self.worker = EvaluatorWorker(
            self.log, Path("membership"), PARTITIONS, seed=epoch, now_ms=self.clock.now_ms, checkpoints=self.checkpoints
        )

    def publish(self, content: dict[str, Any]) -> None:
        published = publish(self.worker.published, parse_document(content, "story", {}))
        self.worker.process([Prepare(published)])
        if self.worker.backfill is not None:
            self.worker.backfill.build()
        [reply] = self.worker.process([Publish(published)])
        assert "error" not in reply, reply

    def traits(self, version: int, first: int) -> None:
        """A snapshot: some users from `first` on, richer and seen later with each version."""
        rows = [*(user for i, user in enumerate(USERS) if i >= first and i % 4), *VIEWERS]
        table = snapshot_of("user_id", {name: each["type"] for name, each in _TRAITS.items()}, pa.table({
            "user_id": rows,
            "ltv": pa.array([100.0 * (int(user[5:]) + version) for user in rows]),
            "tier": pa.array(["gold" if int(user[5:]) % 2 else None for user in rows]),
            "last_seen": pa.array([START_MS + 1_000 * int(user[5:]) for user in rows], pa.timestamp("ms", tz="UTC")),
        }))
        path = Path("traits") / "users" / f"{version}.arrow"
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        [reply] = self.worker.process([TakeTraits("users", version, table, str(path))])
        assert "error" not in reply, reply

    def send(self, *events: dict[str, Any], fmt: Format = Format.NATIVE, sent_at_ms: int | None = None) -> list[int]:
        """A batch; gives what became of its hits."""
        published = self.worker.published
        assert published is not None
        texts = [msgspec.json.encode(event) for event in events]
        envelope = envelope_of(texts, int(fmt), source="web", sent_at_ms=sent_at_ms)
        hits = decoded(published, envelope)
        [reply] = self.worker.process([Append(published.version, len(texts), pack(envelope), hits)])
        assert "error" not in reply, reply
        return list(reply["outcomes"])

    def wait(self, ms: int) -> None:
        self.clock.advance(ms)
        self.worker.process([Tick()])

    def checkpoint(self) -> None:
        [reply] = self.worker.process([TakeCheckpoint()])
        assert self.checkpoints.write(reply["taken"])

    def members(self) -> dict[str, list[str]]:
        """Who is in what now."""
        machine = self.worker.machine
        assert machine is not None
        names = machine.program.audiences
        return {name: sorted(machine.user_keys(machine.members(name)).to_pylist()) for name in names}

    def ids(self, after_seq: int = 0) -> list[str]:
        """The ids of stored transitions, sorted: users' order within one instant is nobody's promise."""
        blocks = self.log.transitions_after(after_seq, 1_000_000)
        rows = [row for block in blocks for row in block.rows().to_pylist()]
        return sorted(
            transition_id(row["audience_id"], row["audience_version"], row["user_id"], row["at"], row["n"])
            for row in rows
        )


def decoded(published: Published, envelope: pa.RecordBatch) -> bytes:
    """The hits of an envelope as an edge sends them."""
    hits = Decoder(EventPlan(published.definitions)).decode(envelope).hits
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, hits.schema) as writer:
        writer.write_batch(hits)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def native(kind: str, user: str, message: str, **more: Any) -> dict[str, Any]:
    """An event in the native format."""
    return {"type": "track", "event": kind, "user_id": user, "message_id": message, **more}


def segment(kind: str, user: str, message: str, **properties: Any) -> dict[str, Any]:
    """An event in Segment's format."""
    return {"type": "track", "event": kind, "userId": user, "messageId": message, "properties": properties}


def a_minute(told: Told, number: int) -> None:
    """Some traffic: ten batches in 20 s, of both formats, with late events, repeats and events that nobody asks for."""
    for step in range(10):
        told.wait(2_000)
        user = USERS[(3 * step + number) % len(USERS)]
        other = USERS[(5 * step) % len(USERS)]
        channel = ("web", "ios", "mail")[step % 3]
        told.send(
            native("view", user, f"{number}-v{step}", properties={"channel": channel}),
            native("view", other, f"{number}-w{step}", properties={"channel": "web"},
                   timestamp=told.clock.now_ms() - 3_000),
            native("order", user, f"{number}-o{step // 2}", properties={"channel": channel, "amount": 10 + step}),
            native("view", VIEWERS[step % 2], f"{number}-x{step}", properties={"channel": channel}),
            native("nobody_asks", user, f"{number}-n{step}"),
        )  # fmt: skip
        told.send(
            segment("order", other, f"{number}-s{step}", channel="web", amount=7),
            fmt=Format.SEGMENT, sent_at_ms=told.clock.now_ms(),
        )  # fmt: skip


def tell(told: Told) -> None:
    """The whole story up to where it is stored: a checkpoint lies in the middle, what came after it is in the log."""
    told.publish(document())
    told.traits(1, 0)
    a_minute(told, 1)
    told.publish(document(busy={"event": "view", "at_least": 2, "within": "20s"}))
    a_minute(told, 2)
    told.checkpoint()
    told.traits(2, 4)
    a_minute(told, 3)
    told.wait(4_321)


def go_on(told: Told) -> dict[str, Any]:
    """What is asked of who reads the history: who is in what, then on with the story."""
    found: dict[str, Any] = {"members": told.members(), "ids": told.ids()}
    seq = told.log.last_transition_seq()
    again = native("view", USERS[6], "3-v1", properties={"channel": "web"})
    found["outcomes"] = told.send(again, native("order", "user-3", "new", properties={"channel": "web", "amount": 99}))
    a_minute(told, 4)
    told.wait(90_000)
    return {**found, "members_later": told.members(), "ids_later": told.ids(seq)}

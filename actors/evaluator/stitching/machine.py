"""How a machine joins anonymous ids to users: links judged in their place in the log, events fed anew, ids forgotten.

Hits of events without a user id are the anonymous id's until that id belongs to a user, then that user's. What was
decided once is in the log (`stitched`, docs/stitching.md) and only followed by whoever reads it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.evaluator.inputs import HitColumns, slices, times_of, without_matches
from actors.evaluator.kernels.forgetting import forget_events
from actors.evaluator.layout import I64, NEED_ROOM, NEVER_BEFORE, S_CLOCK, S_POSITION
from actors.evaluator.steps import MachineSteps
from actors.evaluator.stitching.links import QUIET, Links
from actors.evaluator.stitching.waiting import Waiting
from cluster.admission.plan import EventPlan
from cluster.checkpoints.parts import Part
from cluster.definitions.model import Published, Stitching
from cluster.errors import CheckpointError

_ACCEPTED: Final = 0
#: What a checkpoint holds beside the state.
_NAMED: Final = "stitching.named_at"
_REST: Final = "stitching.rest"
_LENGTHS: Final = struct.Struct("<qq")
#: Counts, for status: events that joined a user, events beyond the bounds, and rows that are no link by why.
EVENTS_JOINED: Final = "events_joined"
EVENTS_LEFT_OUT: Final = "events_left_out"


class Stitcher:
    """What a machine remembers of the parent that has stitching."""

    def __init__(self, published: Published) -> None:
        definitions = published.definitions
        parent = definitions.stitched_parent
        assert parent is not None
        assert parent.stitching is not None
        self.parent = parent.id
        self.bounds: Stitching = parent.stitching
        self.retention_ms = definitions.parent_retention_ms(parent.id)
        #: By event model: whether it is of the parent.
        self.of_parent = np.array([each.parent == parent.id for each in definitions.event_models.values()], np.bool_)
        self.links = Links(self.bounds, self.retention_ms)
        schema = EventPlan(definitions).hits_schema
        self.waiting = Waiting(schema, self.bounds.events, self.retention_ms)
        #: By user slot: the greatest ts of the events that name the key as the user.
        self.named_at: I64 = np.zeros(0, np.int64)
        self.counts: Counter[str] = Counter()
        #: What was decided of the rows of the batch at hand.
        self.decided: dict[int, str] = {}

    def name(self, slots: np.ndarray, times: np.ndarray, users: int) -> None:
        """Note events that name these users."""
        if len(self.named_at) < users:
            room = np.full(users + users // 2 + 1, NEVER_BEFORE, np.int64)
            room[: len(self.named_at)] = self.named_at
            self.named_at = room
        np.maximum.at(self.named_at, slots, times)

    def is_named(self, slot: int, clock_ms: int) -> bool:
        """Say whether a retained event names the user of a slot."""
        if not 0 <= slot < len(self.named_at):
            return False
        at_ms = int(self.named_at[slot])
        return at_ms != NEVER_BEFORE and at_ms + self.retention_ms > clock_ms

    def status(self) -> dict[str, Any]:
        """Give what people are shown."""
        return {
            "parent": self.parent,
            "links": len(self.links),
            "events_waiting": self.waiting.hits,
            "waiting_bytes": self.waiting.size_bytes,
            "counts": dict(sorted(self.counts.items())),
        }


class _Slice:
    """A slice of hits on its way: what of it is done, and under which circumstances (`_take_hits`)."""

    def __init__(
        self, hits: pa.RecordBatch, clock_ms: int, now_ms: int, reaches: I64 | None, until_ms: int, models: int
    ) -> None:
        self.hits = hits
        self.now_ms = now_ms
        self.live = reaches is None
        self.rows = hits.column("row").to_numpy()
        self.models = hits.column("model").to_numpy()
        self.links = np.flatnonzero(self.models >= models)
        clocks = hits.column("clock_ms").fill_null(now_ms).to_numpy()
        self.clocks: I64 = np.maximum.accumulate(np.maximum(clocks, clock_ms))
        self.outcomes = np.zeros(hits.num_rows, np.uint8)
        self._is_event = self.models < models
        self._reaches = reaches
        self._until_ms = until_ms
        self._start = 0

    def events_before(self, stop: int) -> I64:
        """Give the places of what is left before a place and no link; it is not given again."""
        start, self._start = self._start, max(self._start, stop)
        places: I64 = start + np.flatnonzero(self._is_event[start : self._start])
        return places

    def counting(self, columns: HitColumns, times: I64) -> HitColumns:
        """Leave out the matches of events whose windows will all be over when loading ends."""
        if self._reaches is None:
            return columns
        return without_matches(columns, times + self._reaches[columns.models] > self._until_ms)


class MachineStitching(MachineSteps):
    """A machine whose definitions may have stitching."""

    def __init__(self, published: Published, *, clock_ms: int = 0, seed: int = 0) -> None:
        super().__init__(published, clock_ms=clock_ms, seed=seed)
        stitched = published.definitions.stitched_parent is not None
        self.stitcher: Stitcher | None = Stitcher(published) if stitched else None

    def _take_hits(
        self, stitcher: Stitcher, hits: pa.RecordBatch, now_ms: int, reaches: I64 | None, until_ms: int
    ) -> np.ndarray:
        """Apply a slice of hits, links in their places; give its outcomes. A link row is always accepted.

        `reaches`: loading, silently, what still counts at `until_ms` (`inputs.longest_reaches`); None: live.
        """
        part = _Slice(hits, self.clock_ms, now_ms, reaches, until_ms, len(stitcher.of_parent))
        for place in part.links.tolist():
            self._take_link(stitcher, part, place)
        self._take_events(stitcher, part, hits.num_rows)
        return part.outcomes

    def _take_link(self, stitcher: Stitcher, part: _Slice, place: int) -> None:
        user, id_, decided = (part.hits.column(name)[place].as_py() for name in ("key", "joins", "stitched"))
        clock_ms, row = int(part.clocks[place]), int(part.rows[place])
        first = int(np.searchsorted(part.rows, row))
        if stitcher.links.lapses_by(clock_ms):
            self._take_events(stitcher, part, first)
        verdict = stitcher.links.judge(user, id_, clock_ms)
        if decided is not None and verdict != "renewed":
            verdict = "joined" if decided == user and id_ is not None else "no_id"
        if verdict == "joined":
            # What lies before the row is the id's own yet, and says whether it is somebody's user id.
            self._take_events(stitcher, part, first)
            if decided is None and stitcher.is_named(self.slot_of(stitcher.parent, id_), clock_ms):
                verdict = "is_user"
        if verdict == "joined":
            self._join(stitcher, user, id_, clock_ms, row, part)
        if verdict in ("joined", "renewed"):
            stitcher.links.hold(user, id_, clock_ms)
            stitcher.decided[row] = user
        if verdict == "joined" or (decided is None and verdict not in QUIET):
            stitcher.counts[verdict] += 1
        stitcher.links.identify(user, clock_ms)

    def _take_events(self, stitcher: Stitcher, part: _Slice, stop: int) -> None:
        """Apply the hits up to `stop` that are left and no links, each as its user's; keep those that may join one."""
        places = part.events_before(stop)
        if not len(places):
            return
        hits = part.hits.take(pa.array(places)) if len(places) < part.hits.num_rows else part.hits
        of_parent = stitcher.of_parent[part.models[places]]
        anonymous = of_parent & np.asarray(hits.column("user_id").is_null().to_numpy(zero_copy_only=False), np.bool_)
        loose = anonymous
        if anonymous.any():
            hits, owned = _with_owners(stitcher, hits, anonymous, part.clocks[places])
            loose = anonymous & ~owned
        columns = self._reader.read(hits, part.now_ms)
        times = times_of(columns, self.clock_ms)
        outcomes = self._apply(part.counting(columns, times), live=part.live)
        part.outcomes[places[columns.order]] = outcomes
        back = np.argsort(columns.order)
        accepted = (outcomes == _ACCEPTED)[back]
        named = accepted & of_parent & ~anonymous
        if named.any():
            stitcher.name(self._slots[back][named], times[back][named], self.user_count)
        loose = loose & accepted
        if loose.any():
            stitcher.waiting.add(_at_times(hits.filter(pa.array(loose)), times[back][loose]), self.clock_ms)

    def _join(self, stitcher: Stitcher, user: str, id_: str, clock_ms: int, row: int, part: _Slice) -> None:
        """Have the id's events be the user's, as if they came now, before row `row`, with the ts that they got."""
        self._forget_events(stitcher.parent, id_, clock_ms, live=part.live)
        self._state.scalars[S_CLOCK] = max(clock_ms, self.clock_ms)
        events, left_out = stitcher.waiting.take(id_, stitcher.bounds.events_per_link)
        stitcher.counts[EVENTS_LEFT_OUT] += left_out
        if events is None:
            return
        count = events.num_rows
        events = _with(events, "key", pa.array([user] * count, pa.string()))
        events = _with(events, "clock_ms", pa.array(np.full(count, clock_ms, np.int64)))
        rows = events.column("row").to_numpy()
        events = _with(events, "row", pa.array((rows + np.int32(row)).astype(np.int32)))
        for some in slices(events):
            columns = self._reader.read(some, clock_ms)
            self._apply(part.counting(columns, times_of(columns, self.clock_ms)), live=part.live)
        self._state.scalars[S_POSITION] += int(rows[-1]) + 1
        stitcher.counts[EVENTS_JOINED] += int(rows[-1]) + 1

    def _forget_events(self, parent: str, key: str, clock_ms: int, *, live: bool) -> None:
        slot = self.slot_of(parent, key)
        if slot < 0:
            return
        self._cover(clock_ms, clock_ms)
        while forget_events(self._program_table, self._table, slot, clock_ms, live) == NEED_ROOM:
            self._make_room()

    # --- checkpoints -----------------------------------------------------------------------------

    def _stitching_parts(self) -> dict[str, Part]:
        stitcher = self.stitcher
        if stitcher is None:
            return {}
        named = stitcher.named_at[: self.user_count]
        arrived, waiting = stitcher.waiting.kept()
        said = msgspec.json.encode({
            **stitcher.links.kept(), "arrived": arrived, "counts": dict(stitcher.counts),
        })  # fmt: skip
        sink = pa.BufferOutputStream()
        if waiting is not None:
            with pa.ipc.new_stream(sink, waiting.schema) as writer:
                writer.write_table(waiting)
        events = sink.getvalue().to_pybytes()
        rest = np.frombuffer(_LENGTHS.pack(len(said), len(events)) + said + events, np.uint8)
        return {_NAMED: Part(named, len(named)), _REST: Part(rest, len(rest))}

    def _resume_stitching(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take what is stitching's of a checkpoint; give the other arrays."""
        stitcher = self.stitcher
        others = {name: array for name, array in arrays.items() if name not in (_NAMED, _REST)}
        if (stitcher is not None) != (_NAMED in arrays and _REST in arrays):
            message = "The checkpoint is of a machine with other stitching."
            raise CheckpointError(message, reason="incompatible")
        if stitcher is None:
            return others
        rest = arrays[_REST].tobytes()
        said_bytes, events_bytes = _LENGTHS.unpack_from(rest)
        first = _LENGTHS.size + said_bytes
        said = msgspec.json.decode(rest[_LENGTHS.size : first])
        table = None
        if events_bytes:
            with pa.ipc.open_stream(rest[first : first + events_bytes]) as reader:
                table = reader.read_all()
        stitcher.named_at = arrays[_NAMED]
        stitcher.links.take(said)
        stitcher.counts = Counter(said["counts"])
        stitcher.waiting.restore(said["arrived"], table)
        return others


def _with_owners(
    stitcher: Stitcher, hits: pa.RecordBatch, anonymous: np.ndarray, clocks: I64
) -> tuple[pa.RecordBatch, np.ndarray]:
    """Give events of ids that belong to users those users' keys; and which events these are."""
    places = np.flatnonzero(anonymous)
    decided = hits.column("stitched").take(pa.array(places))
    if decided.null_count:
        owners = stitcher.links.owners(hits.column("key").take(pa.array(places)).to_pylist(), clocks[places])
    else:
        owners = {place: user for place, user in enumerate(decided.to_pylist()) if user}
    owned = np.zeros(hits.num_rows, np.bool_)
    if owners:
        owned[places[list(owners)]] = True
        users = pa.array(list(owners.values()), pa.string())
        rows = hits.column("row").to_numpy()[owned].tolist()
        stitcher.decided.update(zip(rows, owners.values(), strict=True))
        hits = _with(hits, "key", pc.replace_with_mask(hits.column("key"), pa.array(owned), users))
    return hits, owned


def _at_times(hits: pa.RecordBatch, times: np.ndarray) -> pa.RecordBatch:
    """Give hits the ts that they got, for good."""
    hits = _with(hits, "ts_ms", pa.array(times, pa.int64()))
    return _with(hits, "ts_relative", pa.array(np.zeros(hits.num_rows, np.bool_)))


def _with(hits: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    place = hits.schema.get_field_index(name)
    return hits.set_column(place, hits.schema.field(place), values)

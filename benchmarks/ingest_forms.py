"""Requests of every wire format and content type that the edge takes: the same events in each, and Usher's reader."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgpack
import pyarrow as pa
import zstandard
from yarl import URL

from benchmarks.shop import EventBlock, native_event, rows_of, segment_event
from cluster.limits import BODY_BYTES_MAX
from cluster.wire import native, segment, snowplow
from cluster.wire.envelope import RawEvents
from cluster.wire.inflate import inflate

SOURCE = "web"
APPLICATION = "shop"
_START_MS = 1_795_428_000_000
_SENT_AT_MS = _START_MS + 60_000
_TP2 = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
_UNSTRUCT = "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0"

Read = Callable[[bytes], RawEvents]


@dataclass(frozen=True, slots=True)
class Form:
    """One way to send events. `kind` names the yardsticks' reader, `read` is Usher's; `encoding` is undone before."""

    name: str
    kind: str
    requests: Sequence[bytes]
    read: Read
    encoding: str = ""

    def body(self, request: bytes) -> bytes:
        """Undo the encoding of a request."""
        return inflate(request, self.encoding, BODY_BYTES_MAX) if self.encoding else request


def forms(blocks: Sequence[EventBlock]) -> list[Form]:
    """Make every form's requests: one a block, or one an event where a request holds no more."""
    rows = [[Row(number, *row) for number, row in enumerate(rows_of(block), index * len(block))]
            for index, block in enumerate(blocks)]  # fmt: skip
    segments = [_dump(_batch([row.segment() for row in block])) for block in rows]
    arrays = [_dump([row.native() for row in block]) for block in rows]
    lines = [b"".join(_dump(row.native()) + b"\n" for row in block) for block in rows]
    singles = [row for block in rows for row in block]
    arrow, tp2 = "application/vnd.apache.arrow.stream", {"schema": _TP2}
    return [
        Form("Segment batch", "segment", segments, _segment(segment.BATCH)),
        Form("Segment batch, gzip", "segment", [gzip.compress(body, 6, mtime=0) for body in segments],
             _segment(segment.BATCH), "gzip"),
        Form("Segment single events", "single", [_dump(row.single()) for row in singles], _segment("track")),
        Form("RudderStack batch", "rudderstack",
             [_dump(_batch([row.rudderstack() for row in block])) for block in rows], _segment(segment.BATCH)),
        Form("JSON array", "array", arrays, _native("application/json")),
        Form("JSON array, zstd", "array", [zstandard.ZstdCompressor().compress(body) for body in arrays],
             _native("application/json"), "zstd"),
        Form("NDJSON", "ndjson", lines, _native("application/x-ndjson")),
        Form("NDJSON, gzip", "ndjson", [gzip.compress(body, 6, mtime=0) for body in lines],
             _native("application/x-ndjson"), "gzip"),
        Form("msgpack", "msgpack", [msgpack.packb([row.native() for row in block]) for block in rows],
             _native("application/msgpack")),
        Form("Arrow IPC", "arrow", [arrow_body([row.native() for row in block]) for block in rows], _native(arrow)),
        Form("Snowplow tp2", "tp2", [_dump({**tp2, "data": [row.snowplow() for row in block]}) for block in rows],
             _payload),
        Form("Snowplow GET /i", "pixel", [b"/i?" + urlencode(row.snowplow()).encode() for row in singles], _query),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One event, whoever sends it. Its number makes its message id and its time."""

    number: int
    user: str
    model: int
    channel: str
    amount: int

    @property
    def at_ms(self) -> int:
        """Give when it happened: up to 50 s before it was sent."""
        return _START_MS + self.number * 7 % 50_000

    def segment(self) -> dict[str, Any]:
        """Give it as Segment's libraries do."""
        event = segment_event(self.user, self.model, self.channel, self.amount, self.number)
        return {**event, "messageId": self._id(), "timestamp": _iso(self.at_ms)}

    def single(self) -> dict[str, Any]:
        """Give it as Segment's browser library does, which sends it by itself."""
        return {**self.segment(), "sentAt": _iso(_SENT_AT_MS), "writeKey": "bench-write-key"}

    def rudderstack(self) -> dict[str, Any]:
        """Give it as RudderStack's libraries do: `timestamp` is corrected already."""
        return {**self.segment(), "channel": "server", "anonymousId": ""}

    def native(self) -> dict[str, Any]:
        """Give it in the canonical form."""
        event = native_event(self.user, self.model, self.channel, self.amount, self.number, _iso(self.at_ms))
        return {**event, "message_id": self._id()}

    def snowplow(self) -> dict[str, str]:
        """Give it as Snowplow's trackers do: a self-describing event, packed into base64."""
        properties = self.segment()["properties"]
        inner = {"schema": f"iglu:com.example/event_{self.model}/jsonschema/1-0-0", "data": properties}
        packed = base64.urlsafe_b64encode(_dump({"schema": _UNSTRUCT, "data": inner})).decode()
        return {
            "e": "ue", "p": "web", "tv": "js-4.10.1", "tna": "sp", "aid": APPLICATION, "eid": self._id(),
            "uid": self.user, "dtm": str(self.at_ms), "stm": str(_SENT_AT_MS), "ue_px": packed,
            "url": "https://shop.example.com/kitchen", "refr": "https://www.example.com/",
        }  # fmt: skip

    def _id(self) -> str:
        return f"message-{self.number:09d}"


def arrow_body(events: list[dict[str, Any]]) -> bytes:
    """Write native events as an Arrow IPC stream: properties and context as structs."""
    table = pa.Table.from_pylist(events)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def _batch(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {"batch": events, "sentAt": _iso(_SENT_AT_MS)}


def _segment(kind: str) -> Read:
    return lambda body: segment.read_request(body, kind, _no_id).events(source=SOURCE).raw


def _native(content_type: str) -> Read:
    return lambda body: native.read_events(body, content_type, source=SOURCE).raw


def _payload(body: bytes) -> RawEvents:
    return snowplow.read_payload(body, snowplow.Asked({}), _no_id).events(APPLICATION, SOURCE).raw


def _query(target: bytes) -> RawEvents:
    """Read a GET as the edge does: the query by yarl, as aiohttp's `request.query`."""
    query = dict(URL(target.decode(), encoded=True).query)
    return snowplow.read_query(snowplow.Asked(query), _no_id).events(APPLICATION, SOURCE).raw


def _no_id() -> str:
    message = "every event has a message id of its own"
    raise AssertionError(message)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

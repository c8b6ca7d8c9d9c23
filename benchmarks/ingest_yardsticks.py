"""What decoding is held against: a handler of `json.loads` that picks columns out of dicts, and bare msgspec.

*Plain*: whatever the standard way of reading the format gives (`json.loads`, `msgpack.unpackb`, Arrow's `to_pylist`),
the fields picked into a list a column, times made numbers. It checks nothing and keeps nothing of the events' bytes.
*Bare*: msgspec into Structs of the needed fields alone, and not a column made of them: the least that parsing costs. It
reads no Arrow and no queries; there it is Arrow's columns as Python lists, and `parse_qsl`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import msgpack
import msgspec
import pyarrow as pa


@dataclass(slots=True)
class Lists:
    """The columns that the workload's definitions read. Times are relative to `sentAt` where that counts."""

    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    amounts: list[float] = field(default_factory=list)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _pick_segment(out: Lists, events: Iterable[dict[str, Any]], sent_at: str | None) -> None:
    sent_ms = 0 if sent_at is None else _ms(sent_at)
    for event in events:
        properties = event["properties"]
        out.names.append(event["event"])
        out.keys.append(event["userId"])
        out.ids.append(event["messageId"])
        out.times_ms.append(_ms(event["timestamp"]) - sent_ms)
        out.channels.append(properties["channel"])
        out.amounts.append(float(properties["amount"]))


def _pick_native(out: Lists, events: Iterable[dict[str, Any]]) -> None:
    for event in events:
        properties = event["properties"]
        out.names.append(event["event"])
        out.keys.append(event["user_id"])
        out.ids.append(event["message_id"])
        out.times_ms.append(_ms(event["timestamp"]))
        out.channels.append(properties["channel"])
        out.amounts.append(float(properties["amount"]))


def _pick_snowplow(out: Lists, events: Iterable[dict[str, str]]) -> None:
    for event in events:
        inner = json.loads(base64.urlsafe_b64decode(event["ue_px"]))["data"]
        properties = inner["data"]
        out.names.append(inner["schema"].split("/")[1])
        out.keys.append(event["uid"])
        out.ids.append(event["eid"])
        out.times_ms.append(int(event["dtm"]) - int(event["stm"]))
        out.channels.append(properties["channel"])
        out.amounts.append(float(properties["amount"]))


def _plain_batch(out: Lists, body: bytes) -> None:
    batch = json.loads(body)
    _pick_segment(out, batch["batch"], batch["sentAt"])


def _plain_single(out: Lists, body: bytes) -> None:
    event = json.loads(body)
    _pick_segment(out, [event], event["sentAt"])


def _plain_query(out: Lists, target: bytes) -> None:
    fields = parse_qs(target.decode().partition("?")[2])
    _pick_snowplow(out, [{key: values[0] for key, values in fields.items()}])


#: By `Form.kind`: append a request's events to the columns.
PLAIN: dict[str, Callable[[Lists, bytes], None]] = {
    "segment": _plain_batch,
    "single": _plain_single,
    "rudderstack": lambda out, body: _pick_segment(out, json.loads(body)["batch"], None),
    "array": lambda out, body: _pick_native(out, json.loads(body)),
    "ndjson": lambda out, body: _pick_native(out, map(json.loads, body.splitlines())),
    "msgpack": lambda out, body: _pick_native(out, msgpack.unpackb(body)),
    "arrow": lambda out, body: _pick_native(out, pa.ipc.open_stream(body).read_all().to_pylist()),
    "tp2": lambda out, body: _pick_snowplow(out, json.loads(body)["data"]),
    "pixel": _plain_query,
}


# --- the limit ----------------------------------------------------------------------------------------


class _Properties(msgspec.Struct, gc=False):
    channel: str
    amount: float


class _Event(msgspec.Struct, gc=False):
    event: str
    userId: str
    messageId: str
    timestamp: str
    properties: _Properties


class _Batch(msgspec.Struct, gc=False):
    batch: list[_Event]
    sentAt: str


class _Native(msgspec.Struct, gc=False):
    event: str
    user_id: str
    message_id: str
    timestamp: str
    properties: _Properties


class _Tracked(msgspec.Struct, gc=False):
    uid: str
    eid: str
    dtm: str
    stm: str
    ue_px: str


class _Payload(msgspec.Struct, gc=False):
    data: list[_Tracked]


class _Described(msgspec.Struct, gc=False):
    schema: str
    data: _Properties


class _Unstruct(msgspec.Struct, gc=False):
    data: _Described


_event = msgspec.json.Decoder(_Event).decode
_batch = msgspec.json.Decoder(_Batch).decode
_natives = msgspec.json.Decoder(list[_Native]).decode
_lines = msgspec.json.Decoder(_Native).decode_lines
_packed = msgspec.msgpack.Decoder(list[_Native]).decode
_payload = msgspec.json.Decoder(_Payload).decode
_unstruct = msgspec.json.Decoder(_Unstruct).decode


def _bare_arrow(body: bytes) -> int:
    table = pa.ipc.open_stream(body).read_all()
    properties = table["properties"].combine_chunks()
    columns = [table[name] for name in ("event", "user_id", "message_id", "timestamp")]
    lists = [column.to_pylist() for column in [*columns, properties.field("channel"), properties.field("amount")]]
    return len(lists[0])


def _bare_payload(body: bytes) -> int:
    events = _payload(body).data
    return len([_unstruct(base64.urlsafe_b64decode(event.ue_px)) for event in events])


def _bare_query(target: bytes) -> int:
    fields = dict(parse_qsl(target.decode().partition("?")[2]))
    _unstruct(base64.urlsafe_b64decode(fields["ue_px"]))
    return 1


def _bare_single(body: bytes) -> int:
    _event(body)
    return 1


#: By `Form.kind`: decode a request's events, and count them.
BARE: dict[str, Callable[[bytes], int]] = {
    "segment": lambda body: len(_batch(body).batch),
    "single": _bare_single,
    "rudderstack": lambda body: len(_batch(body).batch),
    "array": lambda body: len(_natives(body)),
    "ndjson": lambda body: len(_lines(body)),
    "msgpack": lambda body: len(_packed(body)),
    "arrow": _bare_arrow,
    "tp2": _bare_payload,
    "pixel": _bare_query,
}

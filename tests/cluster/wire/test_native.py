"""Native requests: the same events in any encoding, one bad one refused alone."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import pyarrow as pa
import pytest

from cluster.errors import WireError
from cluster.limits import BODY_BYTES_MAX, REQUEST_EVENTS_MAX
from cluster.wire.arrow_guard import claimed_bytes
from cluster.wire.events import ReadEvents
from cluster.wire.native import read_events

ARROW = "application/vnd.apache.arrow.stream"
NDJSON = "application/x-ndjson"
EVENTS = [
    {"type": "track", "event": "order", "user_id": f"u{n}", "properties": {"n": n, "größe": "😀"}} for n in range(3)
]


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def lines(events: list[Any]) -> bytes:
    return b"\n".join(json.dumps(event).encode() for event in events)


def parsed(found: ReadEvents) -> list[Any]:
    return [json.loads(text) for text in found.envelope["raw"].to_pylist()]


def refused(body: bytes, content_type: str) -> tuple[int, str]:
    with pytest.raises(WireError) as caught:
        read_events(body, content_type)
    return caught.value.status, caught.value.code


ENCODINGS: dict[str, tuple[str, Callable[[list[Any]], bytes]]] = {
    "array": ("application/json; charset=utf-8", msgspec.json.encode),
    "ndjson": (NDJSON, lines),
    "sniffed array": ("", msgspec.json.encode),
    "sniffed lines": ("text/plain", lines),
    "msgpack array": ("application/msgpack", msgpack.packb),
    "msgpack stream": ("application/x-msgpack", lambda events: b"".join(map(msgpack.packb, events))),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_events_come_out_the_same_in_any_encoding(encoding: str) -> None:
    content_type, encode = ENCODINGS[encoding]
    found = read_events(encode(EVENTS), content_type, source="web")
    assert parsed(found) == EVENTS
    assert (list(found.indices), found.rejected) == ([0, 1, 2], [])
    assert set(found.envelope["source"].to_pylist()) == {"web"}
    assert set(found.envelope["format"].to_pylist()) == {0}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bad", [None, 5, "text", True])
def test_one_bad_event_in_500_is_refused_alone(encoding: str, bad: object) -> None:
    content_type, encode = ENCODINGS[encoding]
    found = read_events(encode([*[EVENTS[0]] * 250, bad, *[EVENTS[1]] * 249]), content_type)
    assert found.rejected == [(250, "invalid")]
    assert (found.envelope.num_rows, found.indices[250]) == (499, 251)


@pytest.mark.parametrize(
    "line", [b"{oops", b'{"a": 1', b'{"a": 1} {"b": 2}', b'{"a": 1},{"b": 2}', b"\xff", b"[" * 5_000]
)
def test_a_line_that_is_no_json_is_refused_alone(line: bytes) -> None:
    found = read_events(b"\r\n".join([b'{"a": 1}', b"", line, b' {"b": NaN} ']), NDJSON)
    assert parsed(found) == [{"a": 1}, {"b": None}]
    assert (list(found.indices), found.rejected, found.nulled) == ([0, 2], [(1, "invalid")], 1)


def test_an_event_over_several_lines_is_no_event_of_ndjson() -> None:
    assert read_events(b'{"a":\n1}\n{"b": 2}', NDJSON).rejected == [(0, "invalid"), (1, "invalid")]


def test_one_event_alone_is_an_array_of_one() -> None:
    assert parsed(read_events(b'{"type": "track"}', "application/json")) == [{"type": "track"}]


def test_nothing_is_no_event() -> None:
    assert parsed(read_events(b"[]", "application/json")) == []
    assert parsed(read_events(b"\n\n", NDJSON)) == []
    assert parsed(read_events(b"", "application/msgpack")) == []


@pytest.mark.parametrize(("body", "content_type", "status", "code"), [
    (b"[{]", "application/json", 400, "invalid_json"), (b"", "application/json", 400, "invalid_json"),
    (b'"text"', "application/json", 400, "invalid_json"), (b"[" * 50_000, "application/json", 400, "invalid_json"),
    *[(body, "application/msgpack", 400, "invalid_msgpack")
      for body in (b"\x93\x80", b"\xc1", b"\x91" * 5_000, b"\x81\x80\x01")],
    (b"", ARROW, 400, "invalid_arrow"), (b"junk" * 9, ARROW, 400, "invalid_arrow"),
    (b"type\ntrack", "text/csv", 415, "unsupported_media_type"),
    (b"[" + b"{}," * REQUEST_EVENTS_MAX + b"{}]", "application/json", 413, "too_many_events"),
    (b"{}\n" * (REQUEST_EVENTS_MAX + 1), NDJSON, 413, "too_many_events"),
    (b"\x80" * (REQUEST_EVENTS_MAX + 1), "application/msgpack", 413, "too_many_events"),
])
def test_what_cannot_be_read_is_refused_whole(body: bytes, content_type: str, status: int, code: str) -> None:
    assert refused(body, content_type) == (status, code)


def test_msgpack_values_take_their_form_in_json() -> None:
    instant = datetime.datetime(2026, 11, 23, 10, tzinfo=datetime.UTC)
    event = {"timestamp": instant, "n": float("nan"), "raw": b"ab", 5: 2**63}
    found = read_events(msgpack.packb([event, {"x": msgpack.Timestamp(2**60)}], datetime=True), "application/msgpack")
    assert parsed(found) == [{"timestamp": "2026-11-23T10:00:00Z", "n": None, "raw": "YWI=", "5": 2**63}]
    assert found.rejected == [(1, "invalid")]


def test_arrow_rows_become_canonical_events() -> None:
    instant = datetime.datetime(2026, 11, 23, 10, tzinfo=datetime.UTC)
    table = pa.table({
        "type": pa.array(["track", "track", None]).dictionary_encode(),
        "user_id": [1, None, 3],
        "timestamp": pa.array([instant, None, None], pa.timestamp("ns", "Europe/Berlin")),
        "properties": pa.array([{"at": instant, "tags": [("k", "v")]}, None, {"at": None, "tags": None}], pa.struct([
            ("at", pa.timestamp("ms")), ("tags", pa.map_(pa.string(), pa.string()))])),
        "context": ['{"a": {"b": 1}}', "", None],
        "unknown": [1, 2, 3],
    })
    first = {"type": "track", "user_id": 1, "timestamp": "2026-11-23T10:00:00Z", "context": {"a": {"b": 1}},
             "properties": {"at": "2026-11-23T10:00:00Z", "tags": {"k": "v"}}}
    expected = [first, {"type": "track"}, {"user_id": 3, "properties": {"at": None, "tags": None}}]
    for compression in (None, "lz4", "zstd"):
        assert parsed(read_events(arrow(table, compression=compression), ARROW)) == expected


def test_an_arrow_row_that_has_no_form_in_json_is_refused_alone() -> None:
    times = pa.array([0, 2**62, 0], pa.timestamp("us"))
    table = pa.table({"type": ["track"] * 3, "timestamp": times, "properties": ["{}", "{}", "{oops"]})
    found = read_events(arrow(table), ARROW)
    assert found.rejected == [(1, "invalid"), (2, "invalid")]


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_an_arrow_stream_would_unpack_to_is_known_before_it_is(compression: str) -> None:
    table = pa.table({"type": ["track"], "user_id": ["a" * (BODY_BYTES_MAX + 1)]})
    body = arrow(table, compression=compression)
    assert len(body) < 100_000
    assert claimed_bytes(body) > BODY_BYTES_MAX
    assert refused(body, ARROW) == (413, "body_too_large")


@pytest.mark.parametrize("column", [
    pa.DictionaryArray.from_arrays(pa.array([0] * 40, pa.int8()), pa.array(["x" * 300_000])),
    pa.FixedSizeListArray.from_arrays(pa.nulls(40 * 300_000), 300_000),
], ids=["a text repeated", "nothing, many times"])
def test_an_arrow_stream_that_grows_in_python_is_stopped(column: pa.Array) -> None:
    table = pa.table({"type": ["track"] * 40, "properties": pa.StructArray.from_arrays([column], ["x"])})
    assert refused(arrow(table), ARROW) == (413, "body_too_large")


@pytest.mark.parametrize("table", [
    pa.table({"name": ["x"]}),
    pa.table({"type": ["x"], "properties": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
], ids=["no field of an event", "union"])
def test_arrow_columns_that_are_no_events_are_refused(table: pa.Table) -> None:
    assert refused(arrow(table), ARROW) == (400, "invalid_arrow")


def test_an_arrow_stream_cut_off_or_damaged_is_refused_or_read_but_never_crashes() -> None:
    table = pa.table({"type": ["track"] * 9, "user_id": [f"u{n}" for n in range(9)], "properties": ['{"a": 1}'] * 9})
    body = arrow(table)
    assert refused(body[: len(body) // 2], ARROW) == (400, "invalid_arrow")
    for place in range(0, len(body), 7):
        damaged = body[:place] + b"\xff" + body[place + 1:]
        with contextlib.suppress(WireError):
            assert read_events(damaged, ARROW).envelope.num_rows <= 9

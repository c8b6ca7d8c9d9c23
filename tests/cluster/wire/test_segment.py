"""SDK requests: which events come out, whose they are, what is refused."""

from __future__ import annotations

import base64
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import WireError
from cluster.limits import EVENT_BYTES_MAX, JSON_DEPTH_MAX, REQUEST_EVENTS_MAX
from cluster.wire import segment
from cluster.wire.inflate import inflate
from cluster.wire.segment import KIND_OF_PATH, SegmentRequest, read_request
from cluster.wire.write_keys import write_key_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "ingest"
CAPTURED = sorted(path for sdk in ("segment", "rudderstack", "hightouch") for path in (FIXTURES / sdk).glob("*.json"))


def read(body: object, kind: str = "batch") -> SegmentRequest:
    numbers = count(1)
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_request(text, kind, lambda: f"made-{next(numbers)}")


def events(body: object, kind: str = "batch") -> list[Any]:
    return [json.loads(text) for text in read(body, kind).texts]


def refused(body: object, kind: str = "batch") -> WireError:
    with pytest.raises(WireError) as caught:
        read(body, kind)
    return caught.value


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_every_captured_request_is_read_whole(path: Path) -> None:
    captured = json.loads(path.read_text())
    for request in captured["requests"]:
        headers = {name.lower(): value for name, value in request["headers"]}
        body = base64.b64decode(request["body_base64"]) if "body_base64" in request else request["body"].encode()
        text = inflate(body, headers.get("content-encoding", ""), 10_000_000)
        found = read(text, KIND_OF_PATH[request["path"]])
        sent = json.loads(text)["batch"]
        assert [json.loads(event)["messageId"] for event in found.texts] == [event["messageId"] for event in sent]
        assert found.rejected == []
        assert found.channel == (captured["source"] == "rudderstack")
        assert found.sent_at_ms is not None
        key = write_key_of(headers.get("authorization"), found.body_key, found.first_event_key, None)
        assert key == captured["write_key"]


def test_events_are_kept_to_the_byte() -> None:
    text = b'{"messageId" : "m", "n": 9007199254740993, "f": 1.50, "u": "\\u00e9"}'
    assert read(b'{"batch": [ ' + text + b' ]}').texts == [text]


def test_bare_nan_and_infinity_become_null_and_are_counted() -> None:
    found = read(b'{"batch": [{"messageId": "m", "a": NaN, "b": [-Infinity, "NaN, \\" Infinity"]}]}')
    assert json.loads(found.texts[0]) == {"messageId": "m", "a": None, "b": [None, 'NaN, " Infinity']}
    assert found.nulled == 2


@pytest.mark.parametrize(("raw", "text"), [
    (rb"\ud83d", "�"), (rb"\ude00x", "�x"), (rb"\ud83d\ude00", "😀"), (rb"\ud83d\ud83d\ude00", "�😀"),
    (rb"\\ud83d", "\\ud83d"), (b"\xff", "�"), (b"\\u0000", "\0"),
])
def test_text_that_is_no_unicode_is_replaced(raw: bytes, text: str) -> None:
    assert events(b'{"batch": [{"messageId": "' + raw + b'"}]}') == [{"messageId": text}]


def test_an_event_without_a_message_id_gets_one() -> None:
    assert events({"batch": [{"type": "track"}, {}, {"messageId": "own"}]}) == [
        {"type": "track", "messageId": "made-1"}, {"messageId": "made-2"}, {"messageId": "own"},
    ]


def test_shared_context_and_integrations_go_under_the_event_s_own() -> None:
    body = {"batch": [{"messageId": "1", "context": {"ip": "own"}}, {"messageId": "2", "context": None},
                      {"messageId": "3", "context": "text"}],
            "context": {"ip": "shared", "locale": "de"}, "integrations": {"All": True}}
    assert [event["context"] for event in events(body)] == [
        {"ip": "own", "locale": "de"}, {"ip": "shared", "locale": "de"}, "text",
    ]
    assert all(event["integrations"] == {"All": True} for event in events(body))


def test_the_batch_s_own_timestamp_is_never_an_event_s() -> None:
    assert events({"batch": [{"messageId": "m"}], "timestamp": "2026-11-23T10:00:00Z"}) == [{"messageId": "m"}]


def test_a_single_event_s_path_says_its_type() -> None:
    assert events({"type": "page", "messageId": "m"}, "track") == [{"type": "track", "messageId": "m"}]
    assert events({"messageId": "m", "writeKey": "k"}, "identify")[0]["type"] == "identify"
    assert read({"messageId": "m", "writeKey": "k"}, "identify").first_event_key == "k"


@pytest.mark.parametrize("bad", [None, 5, "x", [], True, {"big": "x" * EVENT_BYTES_MAX}])
def test_a_bad_event_is_refused_alone(bad: object) -> None:
    found = read({"batch": [{"messageId": "1"}, bad, {"messageId": "2"}]})
    assert found.rejected == [(1, "invalid")]
    assert list(found.indices) == [0, 2]
    assert len(found.texts) == 2


def test_depth_is_bounded_and_brackets_in_strings_are_none() -> None:
    def nested(depth: int) -> bytes:
        return b'{"messageId":"' + b"[" * 500 + b'","a":' + b"[" * depth + b"]" * depth + b"}"

    found = read(b'{"batch":[' + nested(JSON_DEPTH_MAX - 1) + b"," + nested(JSON_DEPTH_MAX) + b"]}")
    assert found.rejected == [(1, "invalid")]


@pytest.mark.parametrize(("body", "code"), [
    (b"", "invalid_json"), (b"{", "invalid_json"), (b"not json", "invalid_json"), (b'{"batch":[]} x', "invalid_json"),
    (b'{"batch":' + b"[" * 100_000, "invalid_json"), (b"[]", "invalid_request"), (b"{}", "invalid_request"),
    (b'{"batch": {}}', "invalid_request"), (b'{"batch": null}', "invalid_request"), (b"5", "invalid_request"),
])
def test_what_is_no_batch_is_refused_whole(body: bytes, code: str) -> None:
    error = refused(body)
    assert (error.status, error.code) == (400, code)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"track","event":"e","messageId":"m","writeKey":"k","channel":"web"}',
        b' {"type":"track","event":"e"}\r\n',
        b'{"type":"track"}',
        b'{"event":"e","type":"page"}',
        b'{"event":"e","type":"page","type":"track"}',
        b'{"event":"e","type":7,"writeKey":["k"],"channel":null}',
        b'{"type":"track","event":"e","value":NaN}',
        b'{"type":"track","event":"\xff"}',
        b'{"type":"track","writeKey":1e999}',
        b'{"type":"track","deep":' + b"[" * (JSON_DEPTH_MAX + 1) + b"]" * (JSON_DEPTH_MAX + 1) + b"}",
    ],
    ids=["whole", "blanks", "bare", "other-kind", "two-types", "odd-types", "nan", "no-utf8", "number", "deep"],
)
def test_the_usual_single_event_is_read_as_every_other(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    short = read(body, "track")
    monkeypatch.setattr(segment, "_single", lambda body, kind, new_message_id: None)
    full = read(body, "track")
    assert [json.loads(text) for text in short.texts] == [json.loads(text) for text in full.texts]
    parts = ("body_key", "first_event_key", "sent_at_ms", "channel", "rejected", "nulled")
    assert [getattr(short, part) for part in parts] == [getattr(full, part) for part in parts]
    assert list(short.indices) == list(full.indices)


def test_what_is_no_event_is_refused_on_a_single_event_s_path() -> None:
    assert refused([], "track").code == "invalid_request"


def test_too_many_events_are_refused_whole() -> None:
    error = refused(b'{"batch":[' + b"{}," * REQUEST_EVENTS_MAX + b"{}]}")
    assert (error.status, error.code) == (413, "too_many_events")


def test_an_empty_batch_and_a_byte_order_mark_are_taken() -> None:
    assert events(b'\xef\xbb\xbf{"batch": []}') == []


@pytest.mark.parametrize(
    ("channel", "fmt", "expected"), [(None, None, 1), ("web", None, 2), ("web", 3, 3), (None, 2, 2)]
)
def test_the_source_says_the_vendor_else_the_channel(channel: str | None, fmt: int | None, expected: int) -> None:
    event = {"messageId": "m", "properties": {"channel": "web"}} | ({"channel": channel} if channel else {})
    envelope = read({"batch": [event], "sentAt": "2026-11-23T10:00:00Z"}).events(source="web", fmt=fmt).envelope
    assert envelope.to_pylist()[0] | {"raw": b""} == {
        "raw": b"", "format": expected, "source": "web", "sent_at_ms": 1795428000000,
    }

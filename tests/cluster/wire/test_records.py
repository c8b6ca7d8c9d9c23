"""Records of topics: shapes, names by place, times that stay as they were when a record is read late."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.model.values import coerce_timestamp
from cluster.wire.envelope import RawEvents
from cluster.wire.events import ReadEvents
from cluster.wire.records import Unreadable, read_record
from tests.cluster.wire.test_hostile import check
from tests.strategies import hostile

PLACE = "shop/3/17"
RECEIVED = 1_764_518_400_000
NATIVE, SEGMENT, RUDDERSTACK = 0, 1, 2


def read(value: Any) -> tuple[int, list[dict[str, Any]]]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    record = read_record(raw, PLACE, RECEIVED)
    return record.fmt, [json.loads(text) for text in record.texts]


def time_of(fmt: int, event: dict[str, Any]) -> int | None:
    assert "sentAt" not in event
    key = "originalTimestamp" if fmt == SEGMENT else "timestamp"
    return coerce_timestamp(event[key])


def at(offset_ms: int) -> int:
    return RECEIVED + offset_ms


@pytest.mark.parametrize(
    ("event", "fmt", "offset_ms"),
    [
        ({"type": "track", "userId": "u"}, SEGMENT, 0),
        ({"type": "track", "userId": "u", "timestamp": at(-9_000)}, SEGMENT, -9_000),
        # an hour of skew: sent at its own 11:00:00 what happened at its 10:59:50, received at 10:00:00
        ({"type": "track", "timestamp": at(3_590_000), "sentAt": at(3_600_000)}, SEGMENT, -10_000),
        ({"type": "track", "timestamp": at(5), "originalTimestamp": at(990), "sentAt": at(1_000)}, SEGMENT, -10),
        ({"type": "track", "timestamp": at(-7), "sentAt": at(50), "receivedAt": at(99)}, SEGMENT, -7),
        ({"type": "track", "originalTimestamp": at(40), "sentAt": at(50), "receivedAt": at(-900)}, SEGMENT, -910),
        ({"type": "track", "channel": "server", "timestamp": at(-3), "sentAt": at(9)}, RUDDERSTACK, -3),
        ({"type": "track", "channel": "web", "originalTimestamp": at(90), "sentAt": at(100)}, RUDDERSTACK, -10),
        ({"type": "track", "user_id": "u", "timestamp": at(-8)}, NATIVE, -8),
        ({"type": "track", "user_id": "u"}, NATIVE, 0),
        ({"type": "track", "user_id": "u", "received_at": at(-60)}, NATIVE, -60),
        ({"e": "pv", "tv": "t", "dtm": str(at(90)), "stm": str(at(100))}, SEGMENT, -10),
        ({"e": "pv", "tv": "t", "ttm": str(at(-77)), "dtm": "1", "stm": "2"}, SEGMENT, -77),
        ({"e": "pv", "tv": "t"}, SEGMENT, 0),
    ],
)  # fmt: skip
def test_an_event_has_its_format_its_name_and_its_time(event: dict[str, Any], fmt: int, offset_ms: int) -> None:
    found, (got,) = read(event)
    assert found == fmt
    assert time_of(found, got) == at(offset_ms)
    assert got["message_id" if fmt == NATIVE else "messageId"] == PLACE


def test_a_batch_shares_its_time_of_sending_and_names_its_events_in_turn() -> None:
    batch = [{"type": "track", "userId": "u", "timestamp": at(90)}, {"type": "track", "messageId": "own"},
             {"type": "page", "userId": "u"}]  # fmt: skip
    fmt, events = read({"batch": batch, "sentAt": at(100)})
    assert [event["messageId"] for event in events] == [PLACE, "own", f"{PLACE}/1"]
    assert [time_of(fmt, event) for event in events] == [at(-10), at(0), at(0)]


def test_the_same_record_is_the_same_events() -> None:
    value = json.dumps({"batch": [{"type": "track", "userId": "u"}] * 3}).encode()
    assert read_record(value, PLACE, RECEIVED) == read_record(value, PLACE, RECEIVED)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"), (b"", "empty"), (b"{", "invalid_json"), (b"[" * 100_000, "no_event"), (b"[]", "no_event"),
        (b"7", "no_event"), (b"{}", "no_event"), (b'{"batch":{}}', "no_event"), (b"x" * 11_000_000, "too_large"),
        (b'{"schema":"iglu:x","data":[]}', "invalid_request"),
        (b'{"type":%b1%b}' % (b"[" * 300, b"]" * 300), "invalid"),
    ],
)  # fmt: skip
def test_what_holds_no_event_has_a_reason(value: bytes | None, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        read_record(value, PLACE, RECEIVED)


@settings(max_examples=120)
@given(hostile.events | hostile.batches | hostile.payloads | hostile.tracked | st.binary(max_size=40))
def test_hostile_records_are_taken_or_have_a_reason(value: bytes) -> None:
    try:
        record = read_record(value, PLACE, RECEIVED)
    except Unreadable:
        return
    check(ReadEvents(RawEvents(record.texts, record.fmt, "web"), range(len(record.texts)), []))

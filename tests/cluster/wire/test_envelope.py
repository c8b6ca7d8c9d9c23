"""Envelopes survive packing whole."""

from __future__ import annotations

import pytest

from cluster.errors import InternalError
from cluster.wire.envelope import SCHEMA, RawEvents, concat, envelope_of, envelope_of_all, pack, unpack


def test_an_envelope_is_unpacked_as_it_was_packed() -> None:
    batch = envelope_of([b'{"a": 1}', b'{"b": "\xf0\x9f\xa6\x8a"}'], 1, source="web", sent_at_ms=1795428000000)
    assert batch.schema.equals(SCHEMA)
    assert unpack(pack(batch)).equals(batch)
    assert unpack(pack(envelope_of([], 0))).num_rows == 0


def test_envelopes_of_several_senders_are_joined_in_order() -> None:
    one, two = envelope_of([b"{}"], 0), envelope_of([b'{"a": 1}'], 2, source="app", sent_at_ms=5)
    assert concat([one]) is one
    assert unpack(pack(concat([one, two]))).to_pylist() == [
        {"raw": b"{}", "format": 0, "source": None, "sent_at_ms": None},
        {"raw": b'{"a": 1}', "format": 2, "source": "app", "sent_at_ms": 5},
    ]
    assert concat([]).schema.equals(SCHEMA)


def test_the_events_of_several_requests_keep_what_is_said_of_each() -> None:
    requests = [
        RawEvents([b"{}", b'{"a": 1}'], 0),
        RawEvents([], 1, "web", 9),
        RawEvents([b'{"b": 2}'], 2, "app", 5),
        RawEvents([b'{"c": 3}'], 2, "app", 5),
    ]
    alone = [envelope_of(r.texts, r.fmt, source=r.source, sent_at_ms=r.sent_at_ms) for r in requests]
    assert envelope_of_all(requests).equals(concat(alone))
    assert envelope_of_all(requests[2:]).equals(concat(alone[2:])), "all of one sender"
    assert envelope_of_all(requests[:1]).equals(alone[0])


def test_repeated_events_pack_small() -> None:
    event = b'{"type": "track", "event": "order", "user_id": "user_1", "properties": {"channel": "web"}}'
    assert len(pack(envelope_of([event] * 500, 0))) < 20 * 500


@pytest.mark.parametrize("packed", [b"", b"junk", pack(envelope_of([b"{}"], 0))[:200]])
def test_a_damaged_envelope_is_our_own_fault(packed: bytes) -> None:
    with pytest.raises(InternalError, match="cannot be read"):
        unpack(packed)

"""The workload: what its requests hold is what Usher reads, and who must be a member follows from it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from actors.evaluator.machine import EvaluatorMachine
from benchmarks.shop import (
    CHECKED,
    PLACEHOLDER,
    batch_request,
    customers,
    event_blocks,
    expected_members,
    ndjson_request,
    numbered,
    shop_document,
    track_request,
    user_name,
)
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.wire.native import read_events
from cluster.wire.segment import read_request
from tests.conftest import START_MS

USERS, BLOCKS, SIZE = 60, 4, 50
SENT_AT = "2026-11-23T09:59:00.000Z"


def body_of(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return body


@pytest.mark.parametrize("form", ["segment batch", "ndjson"])
def test_the_engine_puts_customers_where_their_events_say(form: str) -> None:
    published = publish(None, parse_document(shop_document("users.parquet"), "<test>", {}))
    traits = customers(USERS)
    machine = EvaluatorMachine(published)
    table = traits.rename_columns(["key", "ltv", "tier"]).append_column("partition", pa.array([0] * USERS, pa.int16()))
    machine.load([], {"users": table}, START_MS)
    decoder = Decoder(EventPlan(published.definitions))
    blocks, times = event_blocks(BLOCKS, USERS, size=SIZE), [2, 1, 0, 3]
    number = 0
    for block, sends in zip(blocks, times, strict=True):
        for _ in range(sends):
            number += 1
            hits = decoder.decode(_envelope(form, block, number)).hits
            assert hits.num_rows == SIZE, "each event has a model, a key and an id"
            result = machine.handle_batch(hits, START_MS + number)
            assert not result.outcomes.any(), "every send is new"
    expected = expected_members(traits, blocks, times)
    assert {name: any(members) and not all(members) for name, members in expected.items()} == dict.fromkeys(
        CHECKED, True
    )
    for name, members in expected.items():
        found = [machine.is_member(name, user_name(user)) for user in range(USERS)]
        assert found == members.tolist(), name


def _envelope(form: str, block: object, number: int) -> pa.RecordBatch:
    if form == "ndjson":
        body = body_of(numbered(ndjson_request("h", block, SENT_AT), number))  # type: ignore[arg-type]
        return read_events(body, "application/x-ndjson", source="web").envelope
    body = body_of(numbered(batch_request("h", block), number))  # type: ignore[arg-type]
    return read_request(body, "batch", lambda: pytest.fail("ids are there")).events(source="web").envelope


def test_a_number_makes_every_id_of_a_request_new_and_keeps_its_length() -> None:
    request = batch_request("h", event_blocks(1, USERS, size=SIZE)[0])
    one, two = numbered(request, 1), numbered(request, 999_999_999_999)
    assert len(one) == len(two) == len(request)
    assert request.count(PLACEHOLDER) == SIZE
    assert PLACEHOLDER not in one
    ids = [text.split(b'"messageId":"')[1].split(b'"')[0] for text in read_request(body_of(one), "batch", str).texts]
    assert len(set(ids)) == SIZE


def test_one_tracked_event_is_one_request() -> None:
    read = read_request(body_of(track_request("h", "user_7", 7)), "track", str)
    assert len(read.texts) == 1
    assert b'"userId":"user_7"' in read.texts[0]


def test_blocks_are_the_same_every_time_and_differ_among_themselves() -> None:
    first, again = event_blocks(2, USERS), event_blocks(2, USERS)
    assert (first[0].users == again[0].users).all()
    assert not np.array_equal(first[0].users, first[1].users)

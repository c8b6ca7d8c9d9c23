"""However a batch is cut into requests and dealt to evaluators, each request is told about its own rows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.admission.outcomes import RowOutcomes, row_outcomes
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from cluster.edge.dealing import Part, Tally, deal
from cluster.errors import InternalError
from cluster.model.partitions import partition_of
from cluster.runtime.placement import deal_partitions
from cluster.wire.envelope import concat, envelope_of
from destinations.registry import KINDS
from tests.cluster.edge.serving import DOCUMENT, PARTITIONS

DECODER = Decoder(EventPlan(parse_document(DOCUMENT, "test", KINDS)))
EVENTS = st.lists(
    st.sampled_from([
        {"type": "track", "user_id": "u1", "message_id": "a"}, {"type": "track", "user_id": "u2"}, {"type": "track"},
        {"type": "alias", "user_id": "u3"}, {"type": "page", "user_id": "u4", "message_id": "b"},
    ]),
    max_size=6,
)  # fmt: skip


def outcome_of(key: str) -> int:
    """What the evaluators of this test say: a function of the key alone."""
    return partition_of(key.encode(), 3)


@given(st.lists(EVENTS, min_size=1, max_size=5), st.integers(1, 4))
def test_requests_together_are_told_what_each_would_be_told_alone(
    requests: list[list[dict[str, str]]], evaluators: int
) -> None:
    envelopes = [envelope_of([json.dumps(event).encode() for event in events], 0) for events in requests]
    owners = deal_partitions(PARTITIONS, evaluators)
    whole = concat(envelopes)
    decoded = DECODER.decode(whole)
    tally = Tally(dict(decoded.rejected))
    parts = deal(whole, decoded, owners)
    assert sum(part.envelope.num_rows for part in parts) == whole.num_rows, "each event here has one key at most"
    for part in parts:
        tally.answered(part, bytes(outcome_of(key) for key in part.hits["key"].to_pylist()))
    for told, envelope in zip(tally.by_request([len(events) for events in requests]), envelopes, strict=True):
        alone = DECODER.decode(envelope)
        codes = bytes(outcome_of(key) for key in alone.hits["key"].to_pylist())
        assert told == row_outcomes(envelope.num_rows, alone.rejected, alone.hits["row"].to_numpy(), codes)


def batch(*users: str) -> tuple[list[Part], Tally]:
    envelope = envelope_of([json.dumps({"type": "track", "user_id": user}).encode() for user in users], 0)
    decoded = DECODER.decode(envelope)
    return deal(envelope, decoded, deal_partitions(PARTITIONS, 2)), Tally(dict(decoded.rejected))


def test_a_failed_part_fails_the_requests_that_have_rows_in_it() -> None:
    users = [f"u{n}" for n in range(10)]
    parts, tally = batch(*users)
    assert {part.owner for part in parts} == {0, 1}
    tally.answered(parts[0], bytes(parts[0].hits.num_rows))
    problem = RuntimeError("away")
    tally.failed(parts[1], problem)
    told = tally.by_request([1] * 10)
    for row, result in enumerate(told):
        assert result == (problem if row in parts[1].rows.tolist() else RowOutcomes(1, 0, []))


def test_newer_definitions_keep_a_part_with_its_evaluator() -> None:
    parts, tally = batch(*[f"u{n}" for n in range(10)])
    part = parts[0]
    decoded = DECODER.decode(part.envelope)
    moved = part.again(decoded, (1,) * PARTITIONS)
    assert (moved.owner, moved.hits.num_rows, moved.envelope.num_rows) == (0, 0, part.envelope.num_rows)
    same = part.again(decoded, deal_partitions(PARTITIONS, 2))
    assert same.hits.equals(part.hits)
    tally.redecoded(part, [(0, "no_key")])
    assert tally.reasons == {int(part.rows[0]): "no_key"}


def test_an_evaluator_that_judges_too_few_hits_is_a_broken_invariant() -> None:
    parts, tally = batch("u1")
    with pytest.raises(InternalError):
        tally.answered(parts[0], b"")


def test_a_request_carries_no_hits_stream_where_there_are_no_hits() -> None:
    envelope = envelope_of([b'{"type":"alias","user_id":"u"}'], 0)
    decoded = DECODER.decode(envelope)
    (part,) = deal(envelope, decoded, (0,) * PARTITIONS)
    assert part.request(3)["hits"] == b""
    assert part.request(3)["rows"] == 1
    assert np.array_equal(part.rows, [0])

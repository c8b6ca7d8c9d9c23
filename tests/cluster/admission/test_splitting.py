"""A batch dealt out: every hit to the owner of its key, every row somewhere, nothing copied for one owner."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.admission.splitting import split
from cluster.admission.timestamps import Format
from cluster.model.partitions import partition_of
from tests.cluster.admission.building import envelope, model, plan_of

PLAN = plan_of(
    model("m", event="order", columns={"x": ("properties.x", "string")}), model("anon", foreign_key="anonymous_id")
)
OWNERS = [n % 3 for n in range(8)]
EVENTS = st.lists(st.fixed_dictionaries({
    "type": st.sampled_from(["track", "page"]), "event": st.sampled_from(["order", "x"]),
    "user_id": st.sampled_from([None, "", 5, "a", "b", "c", "d"]),
    "anonymous_id": st.sampled_from([None, "p", "q", "r"]),
    "properties": st.sampled_from([{"x": "1"}, {"x": "2"}, None]),
}), max_size=12)


@given(EVENTS)
def test_every_hit_goes_to_the_owner_of_its_key_and_keeps_its_row(events: list[dict[str, Any]]) -> None:
    batch = envelope(*events)
    hits = Decoder(PLAN).decode(batch).hits
    shares = split(hits, batch, 8, OWNERS)
    dealt = sorted(index for share in shares.values() for index in share.hit_indices.tolist())
    assert dealt == list(range(hits.num_rows))
    for owner, share in shares.items():
        assert share.envelope.num_rows == len(share.rows) > 0
        assert share.envelope["raw"].to_pylist() == [batch["raw"][row].as_py() for row in share.rows.tolist()]
        for own, original in zip(share.hits.to_pylist(), hits.take(share.hit_indices).to_pylist(), strict=True):
            assert OWNERS[partition_of(own["key"], 8)] == owner
            assert {**own, "row": share.rows[own["row"]]} == original


@given(EVENTS)
def test_every_row_goes_somewhere_and_one_without_hits_by_its_ids(events: list[dict[str, Any]]) -> None:
    batch = envelope(*events)
    hits = Decoder(PLAN).decode(batch).hits
    shares = split(hits, batch, 8, OWNERS)
    for row, event in enumerate(events):
        owners = {owner for owner, share in shares.items() if row in share.rows.tolist()}
        keys = [hit["key"] for hit in hits.to_pylist() if hit["row"] == row]
        user = str(event["user_id"]) if event["user_id"] else event["anonymous_id"]
        wanted = keys or [user or batch["raw"][row].as_py()]
        assert owners == {OWNERS[partition_of(key, 8)] for key in wanted}


def test_a_single_owner_gets_the_batch_itself() -> None:
    batch = envelope({"type": "track", "user_id": "a"}, {})
    hits = Decoder(PLAN).decode(batch).hits
    shares = split(hits, batch, 64, [5] * 64)
    assert list(shares) == [5]
    assert shares[5].envelope is batch
    assert shares[5].hits is hits
    assert np.array_equal(shares[5].rows, [0, 1])


def test_sdk_rows_without_hits_go_by_their_own_names_and_broken_ones_by_their_bytes() -> None:
    batch = envelope({"userId": 7}, b"{broken", {"anonymousId": "anon"}, fmt=Format.SEGMENT)
    shares = split(Decoder(PLAN).decode(batch).hits, batch, 8, list(range(8)))
    wanted = [partition_of(key, 8) for key in ("7", b"{broken", "anon")]
    assert [next(o for o, s in shares.items() if row in s.rows.tolist()) for row in range(3)] == wanted


def test_owners_must_cover_the_partitions() -> None:
    with pytest.raises(ValueError, match="2 owners are named for 8 partitions"):
        split(Decoder(PLAN).decode(envelope()).hits, envelope(), 8, [0, 1])

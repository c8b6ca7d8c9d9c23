"""What a log keeps: checksums cover every field, blocks are cut exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.log.records import Entry, TransitionBlock, pack_transitions, unpack_transitions

ENTRY = Entry(7, 1_000, "traits", 3, 12, b"payload", "users")


def transitions(count: int, first_at_ms: int = 100) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "user_id": [f"u{i}" for i in range(count)],
            "at": pa.array(range(first_at_ms, first_at_ms + count), pa.int64()),
        }
    )


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 8}, {"clock_ms": 1_001}, {"kind": "batch"}, {"definitions_version": 4}, {"row_count": 13},
        {"payload": b"payloaD"}, {"subject": "accounts"},
    ],
)  # fmt: skip
def test_an_entry_s_checksum_covers_every_field(change: dict[str, Any]) -> None:
    assert replace(ENTRY, **change).checksum() != ENTRY.checksum()


def test_a_block_s_checksum_covers_every_field() -> None:
    block = TransitionBlock.of(1, transitions(3))
    changed = [replace(block, first_seq=2), replace(block, last_seq=4), replace(block, max_at_ms=0),
               replace(block, payload=block.payload + b"\0")]  # fmt: skip
    assert len({one.checksum() for one in [block, *changed]}) == 5


def test_a_block_knows_its_greatest_at_and_its_last_number() -> None:
    block = TransitionBlock.of(11, transitions(3))
    assert (block.first_seq, block.last_seq, block.max_at_ms, block.row_count) == (11, 13, 102, 3)


def test_transitions_come_back_as_they_were_packed() -> None:
    batch = transitions(1_000)
    assert unpack_transitions(pack_transitions(batch)).equals(batch)


@given(st.integers(1, 20), st.integers(-3, 24), st.integers(1, 25))
def test_a_cut_keeps_exactly_what_lies_above_and_fits(count: int, after: int, room: int) -> None:
    block = TransitionBlock.of(5, transitions(count, 0))
    wanted = [seq for seq in range(5, 5 + count) if seq > after][:room]
    if not wanted:
        return
    cut = block.cut(after, room)
    assert (cut.first_seq, cut.last_seq) == (wanted[0], wanted[-1])
    assert cut.rows().column("at").to_pylist() == [seq - 5 for seq in wanted]
    assert cut.max_at_ms == wanted[-1] - 5

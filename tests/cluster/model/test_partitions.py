"""Partitions: every part must deal a key to the same one, for ever."""

from __future__ import annotations

import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from cluster.model.partitions import partition_of, partitions_of


@given(st.lists(st.text()), st.sampled_from([1, 7, 64, 32_767]))
def test_lists_arrow_arrays_bytes_and_single_keys_agree(keys: list[str], partitions: int) -> None:
    expected = [partition_of(key, partitions) for key in keys]
    assert partitions_of(keys, partitions).tolist() == expected
    assert partitions_of(pa.array(keys, pa.string()), partitions).tolist() == expected
    assert partitions_of([key.encode() for key in keys], partitions).tolist() == expected
    assert all(0 <= partition < partitions for partition in expected)


def test_a_partition_is_xxh3_64_of_the_utf8_key_modulo_the_count() -> None:
    assert partition_of("user_42", 64) == xxhash.xxh3_64_intdigest(b"user_42") % 64
    assert partition_of("🦊", 64) == xxhash.xxh3_64_intdigest("🦊".encode()) % 64


def test_dealing_is_pinned_since_stored_state_stands_on_it() -> None:
    assert [partition_of(f"user_{n}", 64) for n in range(6)] == [30, 33, 42, 45, 56, 62]

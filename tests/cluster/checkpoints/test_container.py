"""The file: what is written is what is read, and not one byte of it may change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.checkpoints import container
from cluster.checkpoints.container import contents, write
from cluster.checkpoints.parts import Part
from cluster.errors import CheckpointError

DTYPES = st.sampled_from(["<i8", "<u8", "<i4", "<i2", "|u1", "<f8"])


def sample() -> dict[str, Part]:
    """A matrix in part in use, a view of it, noise that does not compress, numbers that do, nothing."""
    rng = np.random.default_rng(7)
    matrix = rng.integers(0, 9, (40, 3))
    return {
        "matrix": Part(matrix[:25], 40, -1),
        "words": Part(matrix.view(np.uint64)[:0], 40, view_of="matrix"),
        "noise": Part(rng.integers(0, 2**63, 50).astype(np.uint64), 50),
        "zeros": Part(np.zeros(1_000, np.int32), 1_000),
        "empty": Part(np.zeros(0, np.int64), 0),
        "room": Part(np.zeros(0, np.int16), 8, 3),
    }


def written(parts: dict[str, Part], header: bytes = b"header") -> bytes:
    sink = bytearray()
    assert write(sink.extend, header, parts, lambda: None) == len(sink)
    return bytes(sink)


def opened(data: bytes) -> Any:
    return contents(pa.BufferReader(data))


def read(data: bytes) -> dict[str, np.ndarray]:
    return opened(data).arrays()


def test_a_reader_gets_every_array_with_its_unused_room() -> None:
    parts = sample()
    found = opened(written(parts))
    arrays = found.arrays()
    assert found.header == b"header"
    assert list(arrays) == list(parts)
    assert arrays["matrix"].shape == (40, 3)
    assert (arrays["matrix"][:25] == parts["matrix"].rows).all()
    assert (arrays["matrix"][25:] == -1).all()
    assert (arrays["noise"] == parts["noise"].rows).all()
    assert len(arrays["zeros"]) == 1_000
    assert not arrays["zeros"].any()
    assert arrays["room"].tolist() == [3] * 8
    assert found.array("noise").tolist() == parts["noise"].rows.tolist()


def test_two_views_of_one_memory_are_that_again() -> None:
    arrays = read(written(sample()))
    arrays["matrix"][2, 1] = -5
    assert arrays["words"][2, 1] == 2**64 - 5
    assert arrays["words"].dtype == np.uint64


@given(st.lists(st.tuples(DTYPES, st.integers(0, 300), st.integers(0, 40), st.integers(0, 3)), max_size=6))
def test_whatever_arrays_there_are_come_back(specs: list[tuple[str, int, int, int]]) -> None:
    rng = np.random.default_rng(1)
    parts = {}
    for number, (dtype, rows, spare, columns) in enumerate(specs):
        shape = (rows, columns) if columns else (rows,)
        array = rng.integers(0, 100, shape).astype(dtype)
        parts[f"a{number}"] = Part(array, rows + spare, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "FRAME_BYTES", 256)
        data = written(parts)
    arrays = read(data)
    for name, part in parts.items():
        assert arrays[name].dtype == part.rows.dtype
        assert (arrays[name][: len(part.rows)] == part.rows).all()
        assert not arrays[name][len(part.rows) :].any()


def test_a_flipped_bit_anywhere_is_found() -> None:
    data = written(sample())
    for place in range(len(data)):
        for bit in (0x01, 0x80):
            flipped = bytearray(data)
            flipped[place] ^= bit
            with pytest.raises(CheckpointError) as found:
                read(bytes(flipped))
            assert found.value.reason == "damaged", place


def test_a_file_cut_off_or_grown_anywhere_is_found() -> None:
    data = written(sample())
    for length in range(len(data)):
        with pytest.raises(CheckpointError):
            read(data[:length])
    for more in (b"\0", b"x" * 100, data):
        with pytest.raises(CheckpointError):
            read(data + more)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_what_is_no_checkpoint_is_not_read(noise: bytes) -> None:
    for data in (noise, container.MAGIC + noise, container.MAGIC + noise + container.MAGIC):
        with pytest.raises(CheckpointError):
            read(data)


def test_what_the_pause_raises_ends_the_writing() -> None:
    def stop() -> None:
        message = "late"
        raise CheckpointError(message, reason="late")

    with pytest.raises(CheckpointError, match="late"):
        write(bytearray().extend, b"", sample(), stop)

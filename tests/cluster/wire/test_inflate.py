"""Unzipping: whole or not at all, and never to more than the cap."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import WireError
from cluster.wire.inflate import inflate

CAP = 1_000_000


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ZIP = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstandard.compress}


def refused(body: bytes, encoding: str, cap: int = CAP) -> tuple[int, str]:
    with pytest.raises(WireError) as caught:
        inflate(body, encoding, cap)
    return caught.value.status, caught.value.code


@pytest.mark.parametrize("encoding", ZIP)
@given(parts=st.lists(st.binary(max_size=5_000), min_size=1, max_size=3))
def test_members_one_after_the_other_are_joined(encoding: str, parts: list[bytes]) -> None:
    assert inflate(b"".join(map(ZIP[encoding], parts)), encoding, CAP) == b"".join(parts)


@pytest.mark.parametrize("encoding", ZIP)
def test_the_cap_itself_fits_and_one_more_byte_does_not(encoding: str) -> None:
    assert len(inflate(ZIP[encoding](b"a" * 1_000), encoding.upper(), 1_000)) == 1_000
    assert refused(ZIP[encoding](b"a" * 1_001), encoding, 1_000) == (413, "body_too_large")


@pytest.mark.parametrize("encoding", ZIP)
def test_a_bomb_is_stopped_before_it_takes_memory(encoding: str) -> None:
    bomb = ZIP[encoding](b"\0" * 60_000_000)
    tracemalloc.start()
    assert refused(bomb, encoding) == (413, "body_too_large")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


@pytest.mark.parametrize("encoding", ZIP)
@pytest.mark.parametrize("damage", [
    lambda body: body[:-5], lambda body: body[:1], lambda body: b"", lambda body: body + b"trailing",
    lambda body: b"\x07\x07" + body,
], ids=["cut", "one byte", "empty", "trailing", "corrupt"])
def test_damage_is_refused(encoding: str, damage: object) -> None:
    body = damage(ZIP[encoding](b"some events" * 50))  # type: ignore[operator]
    assert refused(body, encoding) == (400, "invalid_encoding")


def test_bare_deflate_is_read() -> None:
    assert inflate(bare_deflate(b"events"), "deflate", CAP) == b"events"


def test_no_encoding_passes_within_the_cap_and_others_are_refused() -> None:
    assert inflate(b"abc", "", 3) == inflate(b"abc", " Identity ", 3) == b"abc"
    assert refused(b"abcd", "", 3) == (413, "body_too_large")
    assert refused(b"abc", "br") == (415, "unsupported_encoding")

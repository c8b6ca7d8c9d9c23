"""What the fast path takes as a plain head, and what it leaves to the full reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.edge.heads import plain_authorization

PLAIN = b"Host: a\r\nUser-Agent: x y\r\nAuthorization: Bearer k\r\nAccept: */*\r\n\r\n"


def test_a_plain_head_gives_its_authorization() -> None:
    assert plain_authorization(PLAIN) == "Bearer k"
    assert plain_authorization(PLAIN.replace(b"Host", b"HOST").replace(b"Auth", b"auth")) == "Bearer k"
    assert plain_authorization(b"Connection: Keep-Alive\r\n" + PLAIN) == "Bearer k"


@pytest.mark.parametrize(
    "head",
    [
        PLAIN[:-2],
        PLAIN + b"GET / HTTP/1.1\r\n\r\n",
        PLAIN.replace(b"Host: a\r\n", b""),
        PLAIN.replace(b"Authorization: Bearer k\r\n", b""),
        b"Host: b\r\n" + PLAIN,
        b"Authorization: Bearer other\r\n" + PLAIN,
        b"Transfer-Encoding: chunked\r\n" + PLAIN,
        b"content-length: 5\r\n" + PLAIN,
        b"Connection: close\r\n" + PLAIN,
        b"Connection: keep-alive, upgrade\r\n" + PLAIN,
        b"Expect: 100-continue\r\n" + PLAIN,
        b"Bad Name: x\r\n" + PLAIN,
        b"Name : x\r\n" + PLAIN,
        b"X: a\r\n folded\r\n" + PLAIN,
        b"X: a\nTransfer-Encoding: chunked\r\n" + PLAIN,
        b"X: a\x00b\r\n" + PLAIN,
        b"X: " + b"y" * 5_000 + b"\r\n" + PLAIN,
        b"no colon\r\n" + PLAIN,
        b": no name\r\n" + PLAIN,
        b"\r\n\r\n",
        b"",
    ],
)
def test_every_other_head_is_left_to_the_full_reader(head: bytes) -> None:
    assert plain_authorization(head) is None


@given(st.binary(max_size=200))
def test_no_bytes_before_a_head_hide_a_second_line_from_it(junk: bytes) -> None:
    found = plain_authorization(junk + b"\r\n" + PLAIN)
    assert found in (None, "Bearer k")
    if b"\n" in junk.replace(b"\r\n", b"") or b"\x00" in junk:
        assert found is None

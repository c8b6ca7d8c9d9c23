"""Vectors of the vendors' own documentation."""

from __future__ import annotations

import pytest

from destinations.identifiers import as_text, e164, email, hashed, is_sha256, sha256_hex

HASH = "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"


def test_hashes_are_the_documented_ones_and_never_hashed_twice() -> None:
    assert sha256_hex("test@example.com") == HASH
    assert hashed("test@example.com") == hashed(HASH) == hashed(HASH.upper()) == HASH
    assert hashed("") == ""
    assert is_sha256(HASH)
    assert not is_sha256(HASH[:-1])
    assert sha256_hex("+18005551234") == "41711844e516e7fe8b6e532b33d86d0817b6be29aaa0fe85a17807b1787989d8"


@pytest.mark.parametrize(("text", "address"), [
    (" Test@Example.COM ", "test@example.com"), ("a@b", ""), ("a b@example.org", ""), ("@example.org", ""),
    ("a@@example.org", ""), ("", ""), ("ü@exämple.de", "ü@exämple.de"),
])  # fmt: skip
def test_addresses(text: str, address: str) -> None:
    assert email(text) == address


@pytest.mark.parametrize(("text", "region", "number"), [
    ("+1 (800) 555-1234", None, "+18005551234"), ("0044 207 123 4567", None, "+442071234567"),
    ("030 123456", "DE", "+4930123456"), ("030 123456", None, ""), ("(800) 555-1234", "US", "+18005551234"),
    ("0000000", "DE", ""), ("none", "DE", ""), ("", None, ""), ("+49 30 123456", "US", "+4930123456"),
])  # fmt: skip
def test_phone_numbers(text: str, region: str | None, number: str) -> None:
    assert e164(text, region) == number


def test_texts_of_values() -> None:
    assert [as_text(value) for value in (" a ", 12.0, 1.5, 7, None, True, ["a"])] == ["a", "12", "1.5", "7", "", "", ""]

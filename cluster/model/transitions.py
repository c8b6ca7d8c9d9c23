"""A transition's id: a pure function of what it is, so that a replay after a crash gives the same ids."""

from __future__ import annotations

from collections.abc import Iterable

import xxhash


def transition_id(audience_id: str, audience_version: int, user_id: str, at_ms: int, n: int) -> str:
    """Give the id: XXH3-128 in 32 hex digits.

    The fields are joined by NUL with the user id last: audience ids cannot hold a NUL, so no two
    transitions give the same text.
    """
    text = f"{audience_id}\0{audience_version}\0{at_ms}\0{n}\0{user_id}"
    return str(xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass")))


def transition_ids(
    audience_ids: Iterable[str],
    audience_versions: Iterable[int],
    user_ids: Iterable[str],
    ats_ms: Iterable[int],
    ns: Iterable[int],
) -> list[str]:
    """Give the ids of many transitions; about 0.6 µs each, only where ids are shown or sent."""
    digest = xxhash.xxh3_128_hexdigest
    return [
        digest(f"{audience}\0{version}\0{at}\0{n}\0{user}".encode())
        for audience, version, user, at, n in zip(
            audience_ids, audience_versions, user_ids, ats_ms, ns, strict=True
        )
    ]

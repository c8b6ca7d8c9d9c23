"""API keys: random, hashed at rest, and a lattice of roles."""

from __future__ import annotations

import pytest

from cluster.keys import ROLES, allows, generate_key, hash_key, matches
from cluster.runtime.protocols import KeyRecord, Role

MAY: dict[Role, set[Role]] = {
    "ingest": {"ingest"}, "read": {"read"}, "edit": {"read", "edit"}, "admin": {"ingest", "read", "edit", "admin"},
}  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("needed", ROLES)
def test_a_role_allows_exactly_what_the_lattice_says(role: Role, needed: Role) -> None:
    assert allows(role, needed) == (needed in MAY[role])


def test_keys_differ_show_their_kind_and_fit_a_header() -> None:
    keys = {generate_key("read") for _ in range(50)} | {generate_key()}
    assert len(keys) == 51
    assert all(key.startswith("ush_") and key.isascii() and " " not in key and len(key) > 43 for key in keys)


def test_a_key_matches_its_hash_alone_and_the_hash_does_not_hold_it() -> None:
    key = generate_key("admin")
    record = KeyRecord("id", "name", "admin", hash_key(key), 0)
    assert matches(key, record)
    assert not matches(key + "x", record)
    assert not matches("", record)
    assert key not in repr(record)
    assert len(hash_key("\ud83d")) == 64

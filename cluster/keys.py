"""API keys: made here, kept only as SHA-256, compared in constant time; and what each role may do."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from cluster.runtime.protocols import KeyRecord, Role

#: Bytes of randomness in a key: enough that a plain SHA-256 at rest cannot be searched.
KEY_RANDOM_BYTES: Final = 32

#: What a key of each role may do. `edit` (a marketer) reads, and writes audiences and syncs; `admin` writes the rest.
_ALLOWED: Final[dict[Role, frozenset[Role]]] = {
    "ingest": frozenset({"ingest"}),
    "read": frozenset({"read"}),
    "edit": frozenset({"read", "edit"}),
    "admin": frozenset({"ingest", "read", "edit", "admin"}),
}

ROLES: Final[tuple[Role, ...]] = tuple(_ALLOWED)


def generate_key(role: Role | None = None) -> str:
    """Make a new key: `ush_`, the role as a hint for people (no meaning to us), 32 random bytes, URL-safe."""
    hint = f"{role}_" if role else ""
    return f"ush_{hint}{secrets.token_urlsafe(KEY_RANDOM_BYTES)}"


def hash_key(key: str) -> str:
    """Give what is stored of a key: SHA-256 of its whole text, in hex. Lone surrogates are allowed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def matches(key: str, record: KeyRecord) -> bool:
    """Say whether this is the key, in a time that does not depend on where they differ."""
    return hmac.compare_digest(hash_key(key), record.hash_hex)


def allows(role: Role, needed: Role) -> bool:
    """Say whether a key of `role` may do what takes `needed`."""
    return needed in _ALLOWED[role]

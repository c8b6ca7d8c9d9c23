"""Definitions and snapshots as logs and checkpoints keep them."""

from __future__ import annotations

import msgspec

from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import document_for_evaluation


def pack_published(published: Published) -> bytes:
    """Write definitions as logs and checkpoints keep them: what evaluation needs, no secrets."""
    return msgspec.json.encode(
        {
            "version": published.version,
            "audience_versions": dict(published.audience_versions),
            "document": document_for_evaluation(published.definitions),
        }
    )


def unpack_published(payload: bytes) -> Published:
    """Read what `pack_published` wrote."""
    fields = msgspec.json.decode(payload)
    definitions = parse_document(fields["document"], "<log>", {})
    return Published(fields["version"], definitions, fields["audience_versions"])


class LoggedTraits(msgspec.Struct, frozen=True):
    """A snapshot as its log entry describes it. `before`: version and path of the one whose place it took."""

    parent: str
    version: int
    path: str
    before: tuple[int, str] | None = None


def pack_traits(parent: str, version: int, path: str, before: tuple[int, str] | None = None) -> bytes:
    """Write a snapshot's description as a log entry's payload."""
    return msgspec.json.encode(LoggedTraits(parent, version, path, before))


def unpack_traits(payload: bytes) -> LoggedTraits:
    """Read what `pack_traits` wrote."""
    return msgspec.json.decode(payload, type=LoggedTraits)

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


def pack_traits(parent: str, version: int, path: str) -> bytes:
    """Write a snapshot's description as a log entry's payload."""
    return msgspec.json.encode({"parent": parent, "version": version, "path": path})

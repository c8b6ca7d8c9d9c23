"""What this release parses and checks but does not carry out yet: refused at publish, never ignored or guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from cluster.definitions.faults import NO_FILE, Place, path_text
from cluster.definitions.model import Definitions, Sync
from cluster.errors import Fault


def unsupported(definitions: Definitions, file: str = NO_FILE) -> list[Fault]:
    """Name every part of sound definitions that this release cannot carry out; empty when there is none.

    The whole condition language is evaluated; what is missing are kinds of sources and options of syncs. Paths are
    those of `definitions.document`, in which the indexes count the merged lists.
    """
    return [
        Fault(file, path_text(place), message, found, allowed)
        for place, message, found, allowed in (
            *_sources(definitions),
            *_syncs(definitions),
        )
    ]


#: Place, message, the object by its id (in merged documents the index says little), allowed.
_Found: TypeAlias = tuple[Place, str, str, str]


def _sources(definitions: Definitions) -> Iterator[_Found]:
    for index, source in enumerate(definitions.sources.values()):
        if source.kind == "file":
            message = "files are not read as a source: `usher ingest FILE…` sends them, as often as they come"
            allowed = "kind: http, and its write key as --api-key of usher ingest; or kafka"
            yield ("sources", index, "kind"), message, f"source {source.id}", allowed


def _syncs(definitions: Definitions) -> Iterator[_Found]:
    for index, sync in enumerate(definitions.syncs.values()):
        for key in _sync_options(sync):
            message = f"the sync option {key} is not available in this release yet"
            yield ("syncs", index, key), message, f"sync {sync.id}", "leave it out"
        if sync.on_delete == "remove":
            message = "on_delete: remove is not available in this release yet"
            yield ("syncs", index, "on_delete"), message, f"sync {sync.id}", "keep"


def _sync_options(sync: Sync) -> list[str]:
    given: Mapping[str, Any] = {
        "min_stay": sync.min_stay_ms,
        "cooldown": sync.cooldown_ms,
        "debounce": sync.debounce_ms,
        "consent": sync.consent,
    }
    return [key for key, value in given.items() if value is not None]

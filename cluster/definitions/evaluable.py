"""What this release parses and checks but does not carry out yet: refused at publish, never ignored or guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from cluster.definitions.faults import NO_FILE, Place, path_text
from cluster.definitions.model import (
    Abandonment,
    All,
    AnyOf,
    AudienceRef,
    BetweenAgo,
    Condition,
    Definitions,
    EventAggregate,
    EventCount,
    Not,
    ParentModel,
    Sequence,
    Since,
    Sync,
    This,
    TraitTest,
)
from cluster.definitions.operators import TIME_RELATIVE
from cluster.errors import Fault

_EVALUATED = "event counts with within, trait conditions that do not depend on time, all, any, not"
_TRAIT_SOURCES = ("parquet", "arrow")


def unsupported(definitions: Definitions, file: str = NO_FILE) -> list[Fault]:
    """Name every part of sound definitions that this release cannot carry out; empty when there is none.

    Audiences that are not evaluated (drafts and archived ones) may hold anything. Paths are those of
    `definitions.document`, in which the indexes count the merged lists.
    """
    return [
        Fault(file, path_text(place), message, found, allowed)
        for place, message, found, allowed in (
            *_sources(definitions),
            *_trait_sources(definitions),
            *_audiences(definitions),
            *_syncs(definitions),
        )
    ]


#: Place, message, the object by its id (in merged documents the index says little), allowed.
_Found: TypeAlias = tuple[Place, str, str, str]


def _sources(definitions: Definitions) -> Iterator[_Found]:
    for index, source in enumerate(definitions.sources.values()):
        if source.kind != "http":
            message = f"{source.kind} sources are not available in this release yet"
            yield ("sources", index, "kind"), message, f"source {source.id}", "http"


def _trait_sources(definitions: Definitions) -> Iterator[_Found]:
    for index, parent in enumerate(definitions.parent_models.values()):
        kind = _trait_kind(parent)
        if kind is not None and kind not in _TRAIT_SOURCES:
            place = ("parent_models", index, "traits", "source", "kind")
            message = f"{kind} trait sources are not available in this release yet"
            yield place, message, f"parent model {parent.id}", ", ".join(_TRAIT_SOURCES)


def _trait_kind(parent: ParentModel) -> str | None:
    return parent.trait_source.kind if parent.trait_source else None


def _audiences(definitions: Definitions) -> Iterator[_Found]:
    for index, audience in enumerate(definitions.audiences.values()):
        if audience.evaluated:
            for place, head in _heads(audience.where, ("audiences", index, "where")):
                message = f"{head} is part of the language but not evaluated by this release yet"
                yield place, message, f"audience {audience.id}", _EVALUATED


def _heads(where: Condition, place: Place) -> Iterator[tuple[Place, str]]:
    """Give the place and name of what is not evaluated in a condition tree."""
    if isinstance(where, All | AnyOf):
        head = "all" if isinstance(where, All) else "any"
        for index, child in enumerate(where.children):
            yield from _heads(child, (*place, head, index))
    elif isinstance(where, Not):
        yield from _heads(where.child, (*place, "not"))
    elif isinstance(where, TraitTest):
        if where.test.op in TIME_RELATIVE:
            yield (*place, where.test.op), where.test.op
    elif isinstance(where, EventAggregate):
        yield (*place, where.aggregate), f"the aggregate {where.aggregate}"
        yield from _window(where, place)
    elif isinstance(where, EventCount):
        yield from _window(where, place)
    elif isinstance(where, Sequence):
        yield (*place, "sequence"), "sequence"
    elif isinstance(where, Abandonment):
        yield (*place, "not_followed_by"), "not_followed_by"
    elif isinstance(where, AudienceRef):
        yield (*place, "audience"), "a reference to an audience"


def _window(where: EventCount | EventAggregate, place: Place) -> Iterator[tuple[Place, str]]:
    if isinstance(where.window, BetweenAgo):
        yield (*place, "between_ago"), "between_ago"
    elif isinstance(where.window, Since):
        yield (*place, "since"), "since"
    elif isinstance(where.window, This):
        yield (*place, "this"), "this"


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

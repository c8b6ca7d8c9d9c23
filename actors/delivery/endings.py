"""What is kept of a sync that definitions have no more, so that a restart can go on ending it; no secrets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from actors.delivery.plans import SyncPlan, plan_of
from cluster.definitions.model import Definitions, Destination, ParentModel, Sync
from destinations.contract import Kinds


class Ending(msgspec.Struct, frozen=True):
    """A sync, and of its audience what a list at the destination is found by."""

    sync: dict[str, Any]
    audience_name: str
    parent: str
    primary_key: str


def takes_an_end(plan: SyncPlan) -> bool:
    """Whether something is to be done at the destination when the sync is gone."""
    return plan.sync.on_delete == "remove" or plan.sync.on_exit == "archive"


def to_ending(plan: SyncPlan) -> str:
    """Write down what ending the sync takes."""
    fields = {name: getattr(plan.sync, name) for name in Sync.__dataclass_fields__}
    fields["identifiers"] = dict(plan.sync.identifiers)
    ending = Ending(fields, plan.shape.audience_name, plan.parent.id, plan.parent.primary_key)
    return msgspec.json.encode(ending).decode()


def from_ending(
    text: str, definitions: Definitions, kinds: Kinds, known: tuple[str, Any] | None = None
) -> SyncPlan | None:
    """Give the plan of a sync that is ending.

    None where its destination is gone, and its secrets with it; `known` are its kind and settings where this process
    had them.
    """
    ending = msgspec.json.decode(text, type=Ending)
    # Whoever leaves is removed by what was told: no column is needed, and nothing is held back any more.
    sync = Sync(**{**ending.sync, "traits": (), "min_stay_ms": None, "cooldown_ms": None, "debounce_ms": None})
    destination = definitions.destinations.get(sync.destination)
    if destination is None and known is not None:
        destination = Destination(sync.destination, *known)
    if destination is None:
        return None
    parent = ParentModel(ending.parent, ending.primary_key, {})
    sync = replace(sync, identifiers=dict.fromkeys(sync.identifiers, ending.primary_key))
    plan = plan_of(sync, destination, ending.audience_name, parent, kinds[destination.kind])
    return replace(plan, config=replace(plan.config, on_exit="remove"))

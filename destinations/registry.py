"""Every kind of destination by its name: the `kinds` of definitions, and where delivery finds them."""

from __future__ import annotations

from typing import Final

from destinations.contract import Destination, Kinds
from destinations.webhook.definition import WebhookDestination


def _by_kind(*kinds: Destination) -> Kinds:
    return {kind.kind: kind for kind in kinds}


KINDS: Final[Kinds] = _by_kind(WebhookDestination())

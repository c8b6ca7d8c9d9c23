"""Usher: real-time audiences on Ray.

The public names: the Python client (`Client`, `AsyncClient`) and the condition builder (`event`, `prop`,
`trait`, `audience`, `sequence`). They load lazily, so that importing `cluster` never imports a shell (ray, aiohttp).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.client import AsyncClient as AsyncClient
    from cluster.client import Client as Client
    from cluster.conditions import audience as audience
    from cluster.conditions import event as event
    from cluster.conditions import prop as prop
    from cluster.conditions import sequence as sequence
    from cluster.conditions import trait as trait

__version__ = "0.1.0"

_HOMES = {
    "Client": "cluster.client",
    "AsyncClient": "cluster.client",
    "event": "cluster.conditions",
    "prop": "cluster.conditions",
    "trait": "cluster.conditions",
    "audience": "cluster.conditions",
    "sequence": "cluster.conditions",
}

__all__ = ["AsyncClient", "Client", "audience", "event", "prop", "sequence", "trait"]


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'cluster' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(home), name)

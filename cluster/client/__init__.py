"""The Python client: `Client` for ordinary code, `AsyncClient` for asyncio, and the errors both raise.

    with Client("http://127.0.0.1:8080", api_key="…") as usher:
        usher.is_member("hide_promo", "user_42")

Names load on first use: a look-up with `Client` never imports aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from cluster.client.errors import (
    BadRequest,
    Forbidden,
    InvalidDefinitions,
    NotFound,
    ServerFailed,
    ServerUnavailable,
    TooBusy,
    Unauthorized,
    UsherApiError,
)

if TYPE_CHECKING:
    from cluster.client.asynchronous import AsyncClient as AsyncClient
    from cluster.client.blocking import Client as Client

__all__ = [
    "AsyncClient",
    "BadRequest",
    "Client",
    "Forbidden",
    "InvalidDefinitions",
    "NotFound",
    "ServerFailed",
    "ServerUnavailable",
    "TooBusy",
    "Unauthorized",
    "UsherApiError",
]

_HOMES = {"Client": "cluster.client.blocking", "AsyncClient": "cluster.client.asynchronous"}


def __getattr__(name: str) -> object:
    """Load a client on first use."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'cluster.client' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(home), name)

"""Questions to a delivery actor, asked until they are answered as hoped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from actors.delivery.actor import DeliveryActor
from cluster.runtime.protocols import LogQuery


async def eventually(fits: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(30):
        while not await fits():
            await asyncio.sleep(0.002)


async def sync_of(actor: DeliveryActor) -> dict[str, Any]:
    syncs = (await actor.status())["syncs"]
    row: dict[str, Any] = syncs[0] if syncs else {}
    return row


async def running(actor: DeliveryActor) -> bool:
    return (await sync_of(actor)).get("state") == "running"


async def begun(actor: DeliveryActor) -> bool:
    """Whether the sync has its first members: what changes from now on is a change."""
    return await running(actor) and await actor._store.cursor("promo", 0) is not None


async def state_is(actor: DeliveryActor, state: str) -> bool:
    return (await sync_of(actor)).get("state") == state


async def backlog_is(actor: DeliveryActor, count: int) -> bool:
    return (await sync_of(actor)).get("backlog") == count


async def has_logged(actor: DeliveryActor, rows: int) -> bool:
    return len((await actor.sync_log("promo", LogQuery(limit=100))).get("rows", [])) >= rows


async def delivered_is(actor: DeliveryActor, count: int) -> bool:
    return (await sync_of(actor)).get("delivered") == count


async def has_syncs(actor: DeliveryActor, count: int) -> bool:
    return len((await actor.status())["syncs"]) == count

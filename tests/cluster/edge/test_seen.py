"""`GET /api/v1/events/seen`: asked anywhere, it shows what came to every edge."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.cluster.edge.serving import Site, site

PATH = "/api/v1/events/seen"


def track(name: str, number: int) -> dict[str, Any]:
    return {"type": "track", "event": name, "user_id": f"u{number}", "properties": {"n": number}}


class Silent:
    """An edge process that is gone."""

    async def seen(self) -> dict[str, Any]:
        return {"error": "unreachable", "message": "edge-ingest-0@c: its process is gone"}


async def seen(at: Site) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    code, body, _ = await at.call("GET", PATH)
    assert code == 200, body
    return {row["name"]: row for row in body["events"]}, body


def test_asked_at_any_edge_it_shows_what_came_to_all_of_them() -> None:
    async def run() -> None:
        async with site() as here, site() as there:
            here.controller.others.update({"edge-front@b": there.server, "edge-ingest-0@c": Silent()})
            await here.send([track("bought", 1), track("viewed", 2)])
            await there.send([track("bought", 3), track("bought", 4), track("left", 5)])
            rows, body = await seen(here)
            assert {name: row["count"] for name, row in rows.items()} == {"bought": 3, "viewed": 1, "left": 1}
            assert rows["bought"]["samples"] == 3
            assert body["silent_processes"] == 1
            alone, body = await seen(there)
            assert ({name: row["count"] for name, row in alone.items()}, body["silent_processes"]) == (
                {"bought": 2, "left": 1}, 0,
            )  # fmt: skip

    asyncio.run(run())


def test_without_a_controller_nobody_can_say_what_came_to_all() -> None:
    async def run() -> None:
        async with site() as here:
            here.controller.refusal = {"error": "unreachable", "message": "controller: it is starting"}
            code, body, headers = await here.call("GET", PATH)
            assert (code, body["code"]) == (503, "unreachable")
            assert headers["Retry-After"]

    asyncio.run(run())


def test_samples_are_an_administrators_to_see() -> None:
    async def run() -> None:
        async with site() as here:
            assert (await here.call("GET", PATH, "read"))[0] == 403
            assert (await here.call("GET", f"{PATH}?scope=process", None))[0] == 401

    asyncio.run(run())

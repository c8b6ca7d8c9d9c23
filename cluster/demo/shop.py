"""The shop's two ends: it sends its customers' events in the Segment wire format, and receives Usher's webhooks."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp
from aiohttp import web

from cluster.clock import Clock
from cluster.demo.board import Board, Seen
from cluster.demo.shoppers import Act
from destinations.signing import sign, signing_key

HOOK_PATH: Final = "/hooks/audiences"
#: Requests on their way at once; beyond it shoppers wait, as browsers do.
_SENDING_MAX: Final = 64
#: A webhook's timestamp may be this far off (Standard Webhooks).
_TOLERANCE_S: Final = 300


class Sender:
    """Sends each act as one request, as an SDK in a page does."""

    def __init__(self, url: str, write_key: str, board: Board, clock: Clock) -> None:
        token = base64.b64encode(f"{write_key}:".encode()).decode()
        self._url = f"{url}/v1/track"
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        self._board = board
        self._clock = clock
        self._room = asyncio.Semaphore(_SENDING_MAX)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))

    async def send(self, act: Act) -> bool:
        """Send an event; true once Usher has answered 200: it is durable, evaluated, and true for the next look-up."""
        async with self._room:
            body = json.dumps(track_body(act, self._clock.now_ms())).encode()
            self._board.sending(act.user, self._clock.now_ms(), self._clock.monotonic_ms())
            try:
                async with self._session.post(self._url, data=body, headers=self._headers) as response:
                    accepted = response.status == 200
            except (aiohttp.ClientError, TimeoutError):
                accepted = False  # counted below, and shown
        self._board.events_sent += accepted
        self._board.events_refused += not accepted
        return accepted

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def track_body(act: Act, now_ms: int) -> dict[str, Any]:
    """Give the body that Segment's libraries post to /v1/track."""
    return {
        "type": "track",
        "messageId": f"demo-{uuid.uuid4()}",
        "userId": act.user,
        "event": act.event,
        "properties": act.properties,
        "timestamp": iso_time(now_ms - act.age_ms),
        "sentAt": iso_time(now_ms),
        "context": {"library": {"name": "usher-demo", "version": "1"}},
    }


class Receiver:
    """The personalization service: an HTTP server on loopback that checks signatures and notes changes."""

    def __init__(self, secret: str, board: Board, clock: Clock, on_change: Callable[[Seen], None]) -> None:
        self._key = signing_key(secret)
        self._board = board
        self._clock = clock
        self._on_change = on_change
        application = web.Application(client_max_size=16 * 1024 * 1024)
        application.router.add_post(HOOK_PATH, self._take)
        self._runner = web.AppRunner(application, access_log=None)

    async def start(self) -> str:
        """Listen on a free port of loopback; gives the URL for the webhook."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}{HOOK_PATH}"

    async def stop(self) -> None:
        """Listen no longer."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        now_ms, monotonic_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        if not self._is_signed(request, body, now_ms):
            self._board.bad_signatures += 1
            return web.Response(status=401)
        self._board.webhooks += 1
        for change in json.loads(body)["changes"]:
            seen = self._board.received(change, now_ms, monotonic_ms)
            if seen is not None:
                self._on_change(seen)
        return web.Response(status=204)

    def _is_signed(self, request: web.Request, body: bytes, now_ms: int) -> bool:
        message_id, timestamp = request.headers.get("webhook-id"), request.headers.get("webhook-timestamp", "")
        if not message_id or not timestamp.isdecimal() or abs(int(timestamp) - now_ms // 1000) > _TOLERANCE_S:
            return False
        expected = sign(self._key, message_id, int(timestamp), body)
        given = request.headers.get("webhook-signature", "").split(" ")
        return any(hmac.compare_digest(expected, signature) for signature in given)


def iso_time(at_ms: int) -> str:
    """Give a time as SDKs write it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""What Usher is measured against over HTTP: aiohttp on uvloop and one handler; for `read`, of one constant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection

import uvloop
from aiohttp import web

_BODY = b'{"isMember":true}'
_START_S = 30.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


async def _handle(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(body=_BODY, content_type="application/json")


async def _constant() -> Handler:
    return _handle


def _serve(pipe: Connection, make: Callable[[], Awaitable[Handler]]) -> None:
    """Run in a process of its own; no router, no middleware, no access log: as bare as aiohttp goes."""

    async def work() -> None:
        runner = web.ServerRunner(web.Server(await make()), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


class BareServer:
    """The handle of that process. `make` is called in it, once, for the handler of all requests."""

    def __init__(self, make: Callable[[], Awaitable[Handler]] = _constant) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make), daemon=True)

    def start(self) -> int:
        """Listen on a free port of loopback; gives it."""
        self._process.start()
        if not self._pipe.poll(_START_S):
            message = "the bare server did not start"
            raise TimeoutError(message)
        return int(self._pipe.recv())

    def close(self) -> None:
        """End the process; may be called again."""
        self._process.terminate()
        self._process.join()
        self._pipe.close()

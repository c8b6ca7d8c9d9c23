"""A real edge on loopback in a thread of its own, for clients and commands that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from cluster.client import AsyncClient
from tests.cluster.edge.serving import Site, site


@contextmanager
def hosted(**options: Any) -> Iterator[Site]:
    """Serve until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hosted-edge")
    thread.start()
    serving = site(**options)
    try:
        yield asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(10)
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class Awaited:
    """An AsyncClient (or a part of it) with each call awaited: what is tested of one client is tested of both."""

    def __init__(self, target: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._target = target
        self._loop = loop

    @classmethod
    def client(cls, *arguments: Any, **more: Any) -> Awaited:
        return cls(AsyncClient(*arguments, **more), asyncio.new_event_loop())

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if isinstance(value, str):
            return value
        return self._calling(value) if callable(value) else Awaited(value, self._loop)

    def _calling(self, method: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            result = method(*arguments, **more)
            coroutine = _listed(result) if hasattr(result, "__aiter__") else result
            return self._loop.run_until_complete(coroutine)

        return call

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *reason: object) -> None:
        self._loop.run_until_complete(self._target.close())
        self._loop.close()

    def __repr__(self) -> str:
        return repr(self._target)


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]

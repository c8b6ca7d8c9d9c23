"""A connection that is lost while an answer is on its way."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import cast

import pytest

from cluster.edge.fastconnection import FastConnection, FastPaths


def connected(answer: object) -> tuple[FastConnection, set[FastConnection]]:
    """A connection whose every GET has that answer."""
    fast = FastPaths(lambda _: answer, lambda _data, _deliver: None)  # type: ignore[arg-type, return-value]
    connections: set[FastConnection] = set()
    connection = FastConnection(fast, asyncio.Protocol, connections)
    connection.connection_made(cast("asyncio.Transport", Wire()))
    return connection, connections


class Wire(asyncio.Transport):
    """Keeps what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        pass


@pytest.mark.parametrize("steps", [0, 3])
def test_a_drain_waits_for_no_answer_whose_client_is_gone(steps: int) -> None:
    """Gone at once, before the answer's first step, or in the midst of it."""

    async def run() -> None:
        async def never() -> bytes:
            await asyncio.Event().wait()
            return b""

        connection, connections = connected(never())
        connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
        draining = asyncio.ensure_future(connection.drain())
        for _ in range(steps):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        async with asyncio.timeout(30):
            await draining
        assert connections == set()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(run())
        gc.collect()
    assert caught == []


def test_an_answer_that_fails_leaves_the_client_to_ask_again() -> None:
    async def run() -> None:
        async def fails() -> bytes:
            raise ValueError("unforeseen")

        said: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context["exception"]))
        connection, _ = connected(fails())
        connection.data_received(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(30):
            await connection.drain()
        assert cast("Wire", connection._transport).aborted
        assert [str(error) for error in said] == ["unforeseen"]

    asyncio.run(run())

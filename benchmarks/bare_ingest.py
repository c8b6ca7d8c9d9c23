"""What single events are measured against: aiohttp on uvloop, msgspec, a SQLite file that is synced before the answer.

As little as a handler can do that answers once an event is durable: no router, no keys, no checks, nothing evaluated.
Who waits while a commit is under way shares the next one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from benchmarks.bare_server import BareServer, Handler

_SUCCESS = b'{"success":true}'


class _Event(msgspec.Struct):
    """What a handler would want of an event."""

    messageId: str
    userId: str
    event: str
    timestamp: str
    properties: dict[str, Any]


_decode = msgspec.json.Decoder(_Event).decode
_Row = tuple[str, str, str, bytes]


class _Committer:
    """Group commit: all rows that wait go into one transaction, on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[_Row, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(self._path, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE events (message_id TEXT, user_id TEXT, event TEXT, raw BLOB)")
            return connection

        self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, connect)

    def add(self, row: _Row) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return done

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            rows = [row for row, _ in group]
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, rows)
            for _, done in group:
                done.set_result(None)
        self._task = None

    def _commit(self, rows: list[_Row]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")


async def _handler(path: Path) -> Handler:
    committer = _Committer(path)
    await committer.open()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        event = _decode(body)
        await committer.add((event.messageId, event.userId, event.event, body))
        return web.Response(body=_SUCCESS, content_type="application/json")

    return handle


class BareIngest(BareServer):
    """The handle of that process, whose file is in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bare.db"
        super().__init__(partial(_handler, self.path))

    def rows(self) -> int:
        """Count the events that it has stored."""
        with sqlite3.connect(self.path) as connection:
            return int(connection.execute("SELECT count(*) FROM events").fetchone()[0])

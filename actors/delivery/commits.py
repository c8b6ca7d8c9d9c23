"""A SQLite file off the event loop, with commits that are shared. WAL, synchronous=FULL.

One thread does everything, in the order asked. A write returns a future that is done when the write is durable. What
is asked while a commit is under way shares the next one, and writes that nobody waits for (outcomes, cursors past
nothing) wait LAZY_MS for company: a new batch, which somebody waits for, must seldom find a commit under way.
When the disk refuses, the same writes are tried again until they succeed: nothing passes them, so delivery stands
still rather than forget, and `failure` says why.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from cluster.errors import StorageFull
from cluster.log.database import connect_writer
from cluster.log.occupancy import Occupancy

_Result = TypeVar("_Result")
#: Changes the file inside a transaction; run again from the start where the disk refused.
Write: TypeAlias = Callable[[sqlite3.Connection], None]

#: How long a write that nobody waits for may wait for a commit. A crash meanwhile costs a resend under the same id.
LAZY_MS: Final = 20
#: Pause before writes that the disk refused are tried again.
_REFUSED_PAUSE_S: Final = 0.5


class Commits:
    """Use it inside one event loop; `open` comes first.

    `epoch`: under which its process owns the file, None: whoever opens it last. A write of an earlier owner fails with
    Fenced and changes nothing.
    """

    def __init__(self, path: Path, name: str, epoch: int | None = None) -> None:
        self._path = path
        self._epoch = epoch
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: sqlite3.Connection
        self._occupancy: Occupancy
        self._waiting: list[tuple[Write, asyncio.Future[None]]] = []
        self._committer: asyncio.Task[None] | None = None
        self._lazy: asyncio.TimerHandle | None = None
        #: Somebody waits for one of the waiting writes.
        self._urgent = False
        #: Why the disk refuses writes, empty while it takes them.
        self.failure = ""
        #: How often writes were rolled back: what writes have left in memory is void with each.
        self.rolled_back = 0

    @property
    def folder(self) -> Path:
        """Where the file lies."""
        return self._path.parent

    async def open(self, prepare: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Open or create the file; `prepare` runs in a transaction of its own. Raises StorageFull or DataDirError."""

        def begin() -> _Result:
            self._connection = connect_writer(self._path)
            self._occupancy = Occupancy.take(self._connection, self._path, self._epoch)
            with self._occupancy.transaction():
                return prepare(self._connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, begin)
        except BaseException:
            self._thread.shutdown()
            raise

    async def close(self) -> None:
        """Commit what waits, then close the file."""
        self._commit_now()
        while self._committer is not None and not self._committer.done():
            await asyncio.shield(self._committer)
        await self.read(lambda connection: connection.close())
        self._thread.shutdown()

    async def abandon(self) -> None:
        """Close the file and forget what waits, as the end of the process would."""
        self._waiting.clear()
        self._commit_now()
        if self._committer is not None:
            self._committer.cancel()
            await asyncio.gather(self._committer, return_exceptions=True)
        await self.read(lambda connection: connection.close())
        self._thread.shutdown()

    async def read(self, work: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Give what `work` finds. It may not see writes that nobody waited for; see `caught_up`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(self._connection))

    async def caught_up(self) -> None:
        """Wait until everything asked so far is durable."""
        if self._waiting:
            last = self._waiting[-1][1]
            self._commit_now()
            await asyncio.wait([last])
        elif self._committer is not None and not self._committer.done():
            await asyncio.wait([self._committer])

    def write(self, write: Write, *, lazy: bool = False) -> asyncio.Future[None]:
        """Have a write made, after all that were asked for before."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((write, done))
        if not lazy:
            self._commit_now()
        elif self._lazy is None:
            self._lazy = loop.call_later(LAZY_MS / 1000, self._commit_now)
        return done

    def _commit_now(self) -> None:
        """Commit everything that waits, lazy or not: the order of writes is the order asked."""
        if self._lazy is not None:
            self._lazy.cancel()
            self._lazy = None
        self._urgent = bool(self._waiting)
        if self._urgent and (self._committer is None or self._committer.done()):
            task = self._commit_waiting()
            self._committer = asyncio.get_running_loop().create_task(task, name="delivery-commit")

    async def _commit_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        while self._urgent:
            group, self._waiting = self._waiting, []
            self._urgent = False
            try:
                await self._commit_until_taken(loop, [write for write, _ in group])
            except Exception as error:
                # Not a full disk: a bug or a damaged file. Whoever waits must know; nothing is retried.
                self.failure = str(error)
                for _, done in group:
                    if not done.done():
                        done.set_exception(error)
                continue
            for _, done in group:
                if not done.done():
                    done.set_result(None)

    async def _commit_until_taken(self, loop: asyncio.AbstractEventLoop, writes: list[Write]) -> None:
        while True:
            try:
                await self._commit_once(loop, writes)
            except StorageFull as error:
                self.failure = str(error)
                await asyncio.sleep(_REFUSED_PAUSE_S)
                continue
            self.failure = ""
            return

    async def _commit_once(self, loop: asyncio.AbstractEventLoop, writes: list[Write]) -> None:
        try:
            await loop.run_in_executor(self._thread, self._commit, writes)
        except BaseException:
            self.rolled_back += 1
            raise

    def _commit(self, writes: list[Write]) -> None:
        with self._occupancy.transaction():
            for write in writes:
                write(self._connection)

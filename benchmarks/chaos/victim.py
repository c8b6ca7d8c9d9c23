"""The Usher that is struck: its processes by name, and what becomes of them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.machine import began, is_running, process_tree
from cluster.client.asynchronous import AsyncClient
from cluster.client.errors import UsherApiError
from cluster.demo.process import UsherProcess

_ANSWER_S: Final = 3.0
_GONE_S: Final = 20.0


class Victim:
    """`usher up` on a data dir, whose processes may be killed and stopped. A killed run is followed by another."""

    def __init__(self, folder: Path, definitions: Path, options: list[str]) -> None:
        self._folder = folder
        self._definitions = definitions
        self._options = options
        self._port = 0
        self._process: UsherProcess
        self.client: AsyncClient
        self._stopped: set[int] = set()
        #: When each process began that may be sent a signal: another one may come to have its number.
        self._began: dict[int, str] = {}

    @property
    def data_dir(self) -> Path:
        """Where it keeps everything."""
        return self._process.data_dir

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.data_dir / "admin.key").read_text().strip()

    async def start(self, on_step: Callable[[str], None]) -> None:
        """Start it, on the port that it had before, and wait until it is ready."""
        self._process = UsherProcess(self._folder, self._definitions, self._port, {}, self._options)
        client = await self._process.ready(on_step)
        await client.close()
        if not self._port:
            self._port = urlsplit(client.url).port or 0
            self.client = AsyncClient(client.url, self.key, timeout_s=_ANSWER_S)

    async def pids(self) -> dict[str, int]:
        """Give the processes that status knows now, by name; none where it does not answer."""
        try:
            rows = (await self.client.status()).actors
        except UsherApiError:
            return {}
        return {row.name: row.pid for row in rows if row.pid is not None}

    async def pid_of(self, prefix: str, choose: Callable[[list[str]], str]) -> tuple[str, int] | None:
        """Give a living process whose name begins so."""
        pids = await self.pids()
        own = set(await asyncio.to_thread(process_tree, self._process.pid))
        names = sorted(name for name, pid in pids.items() if name.startswith(prefix) and pid in own)
        if not names:
            return None
        name = choose(names)
        self._began[pids[name]] = began(pids[name])
        return name, pids[name]

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a process that `pid_of` gave; false where that has ended."""
        if not is_running(pid) or began(pid) != self._began.get(pid):
            return False
        _signal(pid, number)
        if number == signal.SIGSTOP:
            self._stopped.add(pid)
        else:
            self._stopped.discard(pid)
        return True

    def go_on(self) -> None:
        """Let all that is stopped go on."""
        for pid in list(self._stopped):
            self.signal(pid, signal.SIGCONT)
        self._stopped.clear()

    async def kill_everything(self) -> None:
        """Kill every process of it at once, and see that none is left."""
        tree = await asyncio.to_thread(process_tree, self._process.pid)
        # Those below first: the launcher would be waited for as soon as it is gone.
        for pid in reversed(tree[1:]):
            _signal(pid, signal.SIGKILL)
        self._process.kill()
        until_s = time.monotonic() + _GONE_S
        while time.monotonic() < until_s and any(map(is_running, tree)):
            await asyncio.sleep(0.05)
        self._stopped.clear()

    async def stop(self) -> bool:
        """Let it drain; true where it ended by itself with exit code 0."""
        return await self._process.stop()

    async def end(self) -> None:
        """Leave nothing of it, whatever state it is in."""
        tree = await asyncio.to_thread(process_tree, self._process.pid)
        self._process.kill()
        for pid in tree[1:]:
            _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself

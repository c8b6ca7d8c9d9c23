"""The Usher of the demo: a child process of its own, in a data dir that is gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cluster.client.asynchronous import AsyncClient
from cluster.client.errors import TooBusy
from cluster.errors import NotReady
from cluster.limits import DRAIN_DEADLINE_MS, RETRY_AFTER_MS

#: A first start on a small machine compiles for most of this.
_START_WAIT_S: Final = 300.0
_POLL_S: Final = 0.2
_STOP_SLACK_S: Final = 15.0
_LOG_LINES_SHOWN: Final = 25


class UsherProcess:
    """`usher up` as a child, with further options; a data dir that is there already is gone on with."""

    def __init__(
        self, folder: Path, definitions: Path, port: int, env: Mapping[str, str], options: Sequence[str] = ()
    ) -> None:
        self.data_dir = folder / "data"
        self._log = folder / "usher.log"
        command = [sys.executable, "-m", "cluster.cli.main", "up", "--detached", "-f", str(definitions)]
        command += ["--data-dir", str(self.data_dir), "--port", str(port), *options]
        with self._log.open("ab") as output:
            # A session of its own: Ctrl-C is for the demo, which then ends Usher in order.
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**os.environ, **env},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The process that owns all others."""
        return self._child.pid

    async def ready(self, on_step: Callable[[str], None]) -> AsyncClient:
        """Wait until it serves and has the traits; gives a client with its admin key. Raises NotReady."""
        try:
            async with asyncio.timeout(_START_WAIT_S):
                client = AsyncClient(await self._url(on_step), (self.data_dir / "admin.key").read_text().strip())
                on_step("loading traits")
                await self._traits(client)
        except TimeoutError as error:
            message = f"Usher did not become ready within {_START_WAIT_S:.0f} s; it was at: {self._newest_step()}."
            raise NotReady(message, retry_after_ms=RETRY_AFTER_MS) from error
        return client

    async def _traits(self, client: AsyncClient) -> None:
        try:
            while not _has_traits(await _status(client)):
                self._check_alive()
                await asyncio.sleep(_POLL_S)
        except BaseException:
            await client.close()
            raise

    async def _url(self, on_step: Callable[[str], None]) -> str:
        described = self.data_dir / "usher.json"
        step, url = "", ""
        while not url:
            self._check_alive()
            if (newest := self._newest_step()) != step:
                on_step(step := newest)
            await asyncio.sleep(_POLL_S)
            # One that a killed run left behind names that run.
            found = json.loads(described.read_bytes()) if described.exists() else {}
            url = str(found["url"]) if found.get("pid") == self._child.pid else ""
        return url

    def _newest_step(self) -> str:
        steps = [line for line in self._lines() if line.endswith("…")]
        return steps[-1].removesuffix("…").strip() if steps else "beginning"

    def _check_alive(self) -> None:
        if self._child.poll() is None:
            return
        tail = "\n".join(self._lines()[-_LOG_LINES_SHOWN:])
        message = f"Usher ended while it started (exit code {self._child.returncode}). Its last words:\n{tail}"
        raise NotReady(message, retry_after_ms=RETRY_AFTER_MS)

    def _lines(self) -> list[str]:
        return self._log.read_text("utf-8", "replace").splitlines()

    def kill(self) -> None:
        """End it at once, as kill -9 does; what it started is not its own and lives on for a moment."""
        self._child.kill()
        self._child.wait()

    async def stop(self) -> bool:
        """Let it drain; true when it ended by itself, with exit code 0."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(self._child.wait, DRAIN_DEADLINE_MS / 1000 + _STOP_SLACK_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            await asyncio.to_thread(self._child.wait)
            return False
        return code == 0


async def _status(client: AsyncClient) -> dict[str, Any]:
    try:
        return (await client.status()).document
    except TooBusy:
        return {}


def _has_traits(status: Mapping[str, Any]) -> bool:
    """Say whether every parent model's snapshot is loaded, and every evaluator has taken it."""
    rows = status.get("traits", [])
    return bool(rows) and all(row.get("state") == "ok" and not row.get("waiting_for") for row in rows)

"""The demo from beginning to end: set up, start, shop, watch, sum up."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from cluster.client.asynchronous import AsyncClient
from cluster.clock import SystemClock
from cluster.demo.board import Board, Seen
from cluster.demo.customers import make_customers, write_traits
from cluster.demo.followed import HIDE, SHOW, Followed, Memberships
from cluster.demo.process import UsherProcess
from cluster.demo.screen import Screen, make_screen
from cluster.demo.shop import Receiver, Sender
from cluster.demo.shoppers import Act, Shoppers
from cluster.demo.summary import print_summary

DEFINITIONS: Final = Path(__file__).parent / "data" / "definitions.yaml"
#: The traits of `make_customers(SHIPPED_COUNT)`.
SHIPPED_TRAITS: Final = DEFINITIONS.with_name("users.parquet")
SHIPPED_COUNT: Final = 10_000

_SEED: Final = 7
_STEP_S: Final = 0.05
#: The followed shopper begins when the view has filled a little, and buys in the middle.
_FOLLOW_AFTER_S: Final = 2.0
#: After the last event, for the last webhooks.
_SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `usher demo` was told. `port` 0: a free one."""

    keep: bool = False
    seconds: int = 25
    users: int = SHIPPED_COUNT
    port: int = 0


def run(options: DemoOptions) -> int:
    """Run the demo; 0 when the followed buyer left and entered as it should be, and the membership API agreed."""
    return asyncio.run(_Demo(options).run())


class _Demo:
    def __init__(self, options: DemoOptions) -> None:
        self._options = options
        self._board = Board()
        self._clock = SystemClock()
        self._customers = make_customers(options.users)
        self._user = next(iter(self._customers.worthy))
        self._stop = asyncio.Event()
        self._began = 0.0

    async def run(self) -> int:
        """Everything; whatever happens, the child is ended and the folder removed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        with tempfile.TemporaryDirectory(prefix="usher-demo-") as name:
            return await self._run_in(Path(name))

    async def _run_in(self, folder: Path) -> int:
        traits = SHIPPED_TRAITS
        if self._options.users != SHIPPED_COUNT:
            traits = folder / "users.parquet"
            write_traits(self._customers, traits)
        write_key, secret = secrets.token_urlsafe(24), secrets.token_urlsafe(32)
        followed = Followed(self._user, self._send, self._lookup, self._tell)
        self._followed = followed
        self._screen: Screen = make_screen(self._board, followed.story)
        receiver = Receiver(secret, self._board, self._clock, self._on_change)
        env = {
            "WEB_WRITE_KEY": write_key, "WEBHOOK_SECRET": secret, "USERS_PARQUET": str(traits),
            "WEBHOOK_URL": await receiver.start(),
        }  # fmt: skip
        usher = UsherProcess(folder, DEFINITIONS, self._options.port, env)
        drained = False
        try:
            if not await self._serve(usher, write_key):
                return 1
        finally:
            self._screen.close()
            sys.stdout.write("Stopping Usher …\n")
            drained = await usher.stop()
            await receiver.stop()
        print_summary(self._board, followed.story, drained=drained, keep=self._options.keep)
        return 0 if followed.story.right else 1

    async def _serve(self, usher: UsherProcess, write_key: str) -> bool:
        """Shop until the time is over; false when it was stopped before Usher served."""
        began = time.monotonic()
        ready = asyncio.create_task(usher.ready(self._screen.starting))
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            with suppress(asyncio.CancelledError):
                await ready
            return False
        stopped.cancel()
        self._client: AsyncClient = ready.result()
        self._sender = Sender(self._client.url, write_key, self._board, self._clock)
        try:
            hint = f"Ctrl-C ends it · meanwhile: usher status --data-dir {usher.data_dir}" if self._options.keep else ""
            self._screen.started(self._client.url, time.monotonic() - began, hint)
            await self._shop()
        finally:
            await self._sender.close()
            await self._client.close()
        return True

    async def _shop(self) -> None:
        """Send what shoppers do, while the followed one's story is played; ends with both."""
        shoppers = Shoppers([user for user in self._customers.ids if user != self._user], Random(_SEED))
        self._began = time.monotonic()
        story = asyncio.create_task(self._follow())
        sending: set[asyncio.Task[bool]] = set()
        while not self._is_over(story):
            for act in shoppers.due(self._elapsed_s()):
                task = asyncio.create_task(self._sender.send(act))
                sending.add(task)
                task.add_done_callback(sending.discard)
            self._screen.refresh(self._elapsed_s(), self._board.events_sent / max(self._elapsed_s(), 0.1))
            await asyncio.sleep(_STEP_S)
        if not story.done():
            story.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        await asyncio.gather(story, return_exceptions=self._stop.is_set())
        await asyncio.sleep(_SETTLE_S)
        self._screen.refresh(self._elapsed_s(), self._board.events_sent / max(self._elapsed_s(), 0.1))

    def _is_over(self, story: asyncio.Task[None]) -> bool:
        if self._stop.is_set():
            return True
        if self._options.keep:
            return False
        return self._elapsed_s() >= self._options.seconds and story.done()

    async def _follow(self) -> None:
        await asyncio.sleep(_FOLLOW_AFTER_S)
        await self._followed.play(browse_s=self._options.seconds * 0.3)

    # --- what the followed shopper's story is played with ----------------------------------------

    async def _send(self, act: Act) -> bool:
        return await self._sender.send(act)

    async def _lookup(self, user: str) -> Memberships:
        found = await self._client.memberships([user], [SHOW, HIDE])
        return found[user]

    def _tell(self, line: str) -> None:
        self._screen.line(line)

    def _on_change(self, seen: Seen) -> None:
        self._followed.on_change(seen)
        self._screen.change(seen)

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began

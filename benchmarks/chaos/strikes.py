"""What befalls Usher's processes, and when: at random, and in the middle of what must be whole or not at all."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.chaos.clients import Owner
from benchmarks.chaos.victim import Victim
from benchmarks.receiver import Receiver

#: How long a moment to strike in is waited for.
_MOMENT_S: Final = 4.0
_POLL_S: Final = 0.000_5
_NAMES_S: Final = 8.0
_STOPPED_S: Final = (0.3, 4.0)
#: About when a stopped process is replaced, and ended: it goes on before, between and after.
_MISSED_S: Final = (6.0, 12.0)
_MOOD_S: Final = (0.5, 2.0)

Act = Callable[[], Awaitable[str]]


@dataclass(slots=True)
class Strikes:
    """Deals strikes from a shuffled deck, so that each kind comes before any comes again.

    `story` has each one that befell somebody: when (s since the first), its kind, and whom.
    """

    victim: Victim
    receiver: Receiver
    owner: Owner
    stream: Random
    on_step: Callable[[str], None]
    pause_s: float
    without: Sequence[str] = ()
    story: list[tuple[float, str, str]] = field(default_factory=list)

    async def run(self, until_s: float) -> None:
        """Strike until then (of the monotonic clock), then let everything go on."""
        began_s = time.monotonic()
        deck: list[str] = []
        acts = {kind: act for kind, act in self.acts().items() if kind not in self.without}
        while time.monotonic() < until_s:
            if not deck:
                deck = sorted(acts)
                self.stream.shuffle(deck)
            kind = deck.pop()
            self.on_step(kind)
            at_s = round(time.monotonic() - began_s, 3)
            whom = await acts[kind]()
            if whom:
                self.story.append((at_s, kind, whom))
            await asyncio.sleep(min(self.stream.expovariate(1 / self.pause_s), 3 * self.pause_s))
        self.victim.go_on()
        self.receiver.be("takes")

    def acts(self) -> dict[str, Act]:
        """Give what can befall it, by the name of its kind."""
        killed = ("evaluator", "edge-front", "edge-ingest", "delivery", "traits", "controller")
        return {
            **{f"kill {name}": self._killing(name) for name in killed},
            "kill evaluator in a commit": self._in_commit,
            "kill evaluator in a checkpoint": self._in_checkpoint,
            "kill in a publication": self._in_publication,
            "kill delivery in a delivery": self._in_delivery,
            "stop a process": lambda: self._stop(_STOPPED_S),
            "stop a process until it is missed": lambda: self._stop(_MISSED_S),
            "stop an evaluator, then kill it": self._stop_and_kill,
            "the receiver refuses": lambda: self._mood("refuses"),
            "the receiver hangs up": lambda: self._mood("hangs up"),
            "kill everything": self._everything,
        }

    # --- one a kind: gives whom it befell, empty where nobody could be found -----------------------------

    def _killing(self, prefix: str) -> Act:
        async def act() -> str:
            found = await self._find(prefix)
            return found[0] if found and self.victim.signal(found[1], signal.SIGKILL) else ""

        return act

    async def _in_commit(self) -> str:
        """Kill an evaluator when it has begun to write to its log, which it has not synced by then."""
        found = await self._find("evaluator")
        if found is None:
            return ""
        index = found[0].rpartition("-")[2]
        log = self.victim.data_dir / f"evaluator-{index}.db-wal"
        before = _written(log)
        return await self._kill_when(found, lambda: _written(log) != before)

    async def _in_checkpoint(self) -> str:
        """Kill an evaluator while the file of its next checkpoint is being written."""
        found = await self._find("evaluator")
        if found is None:
            return ""
        folder = self.victim.data_dir / "checkpoints" / found[0]
        return await self._kill_when(found, lambda: any(folder.rglob(".*.tmp")))

    async def _in_publication(self) -> str:
        """Kill whoever takes part in a publication soon after it has begun."""
        found = await self._find(self.stream.choice(["evaluator", "controller"]))
        if found is None:
            return ""
        self.owner.publish_now()
        await asyncio.sleep(self.stream.uniform(0.0, 0.4))
        return found[0] if self.victim.signal(found[1], signal.SIGKILL) else ""

    async def _in_delivery(self) -> str:
        """Kill delivery while requests that have arrived wait for their answers."""
        found = await self._find("delivery")
        if found is None:
            return ""
        self.receiver.be("holds")
        try:
            return await self._kill_when(found, lambda: self.receiver.held > 0)
        finally:
            self.receiver.be("takes")

    async def _stop(self, between_s: tuple[float, float]) -> str:
        """Stop a process for some seconds: it answers nobody, and nobody hears that it is gone."""
        found = await self._find("")
        if found is None or not self.victim.signal(found[1], signal.SIGSTOP):
            return ""
        for_s = self.stream.uniform(*between_s)
        await asyncio.sleep(for_s)
        self.victim.signal(found[1], signal.SIGCONT)
        return f"{found[0]} for {for_s:.1f} s"

    async def _stop_and_kill(self) -> str:
        found = await self._find("evaluator")
        if found is None or not self.victim.signal(found[1], signal.SIGSTOP):
            return ""
        await asyncio.sleep(self.stream.uniform(*_STOPPED_S) / 2)
        return found[0] if self.victim.signal(found[1], signal.SIGKILL) else ""

    async def _mood(self, mood: str) -> str:
        self.receiver.be("refuses" if mood == "refuses" else "hangs up")
        await asyncio.sleep(self.stream.uniform(*_MOOD_S))
        self.receiver.be("takes")
        return "the receiver"

    async def _everything(self) -> str:
        await self.victim.kill_everything()
        await self.victim.start(self.on_step)
        return "every process"

    async def _find(self, prefix: str) -> tuple[str, int] | None:
        """Give a process; while those that answer are restarting, wait for a while."""
        until_s = time.monotonic() + _NAMES_S
        while time.monotonic() < until_s:
            found = await self.victim.pid_of(prefix, self.stream.choice)
            if found is not None:
                return found
            await asyncio.sleep(0.2)
        return None

    async def _kill_when(self, found: tuple[str, int], moment: Callable[[], bool]) -> str:
        """Kill a process as soon as a moment has come; empty where it never does."""
        name, pid = found

        def wait() -> bool:
            until_s = time.monotonic() + _MOMENT_S
            while time.monotonic() < until_s:
                if moment():
                    return self.victim.signal(pid, signal.SIGKILL)
                time.sleep(_POLL_S)
            return False

        return name if await asyncio.to_thread(wait) else ""


def _written(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size

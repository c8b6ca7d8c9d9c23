"""One shopper followed closely: what the membership API and the webhooks say before and after a purchase."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from cluster.demo.board import Seen
from cluster.demo.shoppers import Act, ordered, viewed

SHOW, HIDE = "promo_eligible", "hide_promo"
_WEBHOOK_WAIT_S: Final = 10.0

Memberships = dict[str, bool]


class Lookup(Protocol):
    """Asks the membership API."""

    async def __call__(self, user: str) -> Memberships:
        """Give the user's membership in SHOW and HIDE."""
        ...


@dataclass(slots=True)
class Story:
    """What happened to the followed shopper, as lines to show, and what did not agree."""

    user: str
    lines: list[str] = field(default_factory=list)
    before: Memberships | None = None
    after: Memberships | None = None
    wrong: list[str] = field(default_factory=list)
    changes: list[Seen] = field(default_factory=list)
    finished: bool = False

    @property
    def right(self) -> bool:
        """The buyer left and entered, and the API agreed before and after."""
        return self.finished and not self.wrong

    def heard(self, kind: str, audience: str) -> bool:
        """Say whether a verified webhook told of this change."""
        return any(seen.kind == kind and seen.audience == audience for seen in self.changes)


class Followed:
    """Plays the story. `tell` shows each line as it happens."""

    def __init__(
        self,
        user: str,
        send: Callable[[Act], Awaitable[bool]],
        lookup: Lookup,
        tell: Callable[[str], None],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.story = Story(user)
        self._send = send
        self._lookup = lookup
        self._tell = tell
        self._pause = pause
        self._news = asyncio.Event()

    def on_change(self, seen: Seen) -> None:
        """Take a change that a webhook brought, of anybody."""
        if seen.user != self.story.user:
            return
        self.story.changes.append(seen)
        delay = "" if seen.delay_ms is None else f" (+{seen.delay_ms:.0f} ms)"
        self._say(f"webhook: {seen.kind} {seen.audience}{delay}")
        self._news.set()

    async def play(self, browse_s: float) -> Story:
        """Look at a product, look around for `browse_s`, buy; ask the API before and after."""
        story = self.story
        await self._do(viewed(0, story.user, "espresso cups"), "looks at espresso cups")
        self._expect(await self._ask("API:"), {SHOW: True, HIDE: False}, "after looking at a product")
        await self._hear("entered", SHOW)
        await self._pause(browse_s)
        story.before = await self._ask("API before:")
        self._expect(story.before, {SHOW: True, HIDE: False}, "before the purchase")
        await self._do(ordered(0, story.user, 49.90, channel="web"), "BUYS for 49.90 on the web")
        story.after = await self._ask("API after:")
        self._expect(story.after, {SHOW: False, HIDE: True}, "after the purchase")
        await self._hear("exited", SHOW)
        await self._hear("entered", HIDE)
        story.finished = True
        self._say("banner off; back by time alone in five minutes" if story.right else "did NOT go right")
        return story

    async def _do(self, act: Act, words: str) -> None:
        self._say(words)
        if not await self._send(act):
            self.story.wrong.append(f"the event of {words!r} was refused")

    async def _ask(self, prefix: str) -> Memberships:
        found = await self._lookup(self.story.user)
        answers = (f"{audience} {'yes' if found[audience] else 'no'}" for audience in (SHOW, HIDE))
        self._say(f"{prefix} {', '.join(answers)}")
        return found

    async def _hear(self, kind: str, audience: str) -> None:
        try:
            async with asyncio.timeout(_WEBHOOK_WAIT_S):
                while not self.story.heard(kind, audience):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self.story.wrong.append(f"no webhook said that {self.story.user} {kind} {audience}")

    def _expect(self, found: Memberships, wanted: Memberships, when: str) -> None:
        if found != wanted:
            self.story.wrong.append(f"{when} the API says {found}, expected {wanted}")

    def _say(self, line: str) -> None:
        self.story.lines.append(line)
        self._tell(f"{self.story.user} {line}")

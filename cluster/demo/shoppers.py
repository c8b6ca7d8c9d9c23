"""The shopper simulation: who does what, when. Pure: time and chance are given."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

PRODUCTS: Final = ("sneakers", "rain jacket", "backpack", "headphones", "espresso cups", "desk lamp", "yoga mat")
VIEWED: Final = "Product Viewed"
ORDERED: Final = "Order Completed"

_SESSIONS_PER_S: Final = 12.0
_VIEWS_MAX: Final = 3
_BUYS: Final = 0.35
_ON_THE_WEB: Final = 0.75
#: Share of sessions that are an order from a phone without network: sent almost five minutes later, it counts by its
#: own time, so its window lapses while one watches.
_WAS_OFFLINE: Final = 0.10
_WINDOW_MS: Final = 5 * 60_000


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """One event to send at `at_s` of the simulation; it happened `age_ms` before that."""

    at_s: float
    user: str
    event: str = field(compare=False)
    properties: dict[str, Any] = field(compare=False)
    age_ms: int = field(default=0, compare=False)


class Shoppers:
    """Sessions of random customers at a steady rate. `due` is to be called with growing times."""

    def __init__(self, users: Sequence[str], random: Random) -> None:
        self._users = users
        self._random = random
        self._next_session_s = 0.0
        #: Acts of sessions that began, a heap by time.
        self._waiting: list[Act] = []

    def due(self, now_s: float) -> list[Act]:
        """Give every act due by `now_s`, in order."""
        while self._next_session_s <= now_s:
            for act in self._session(self._next_session_s):
                heapq.heappush(self._waiting, act)
            self._next_session_s += self._random.expovariate(_SESSIONS_PER_S)
        acts: list[Act] = []
        while self._waiting and self._waiting[0].at_s <= now_s:
            acts.append(heapq.heappop(self._waiting))
        return acts

    def _session(self, begins_s: float) -> list[Act]:
        user = self._random.choice(self._users)
        if self._random.random() < _WAS_OFFLINE:
            return [self._order(begins_s, user, _WINDOW_MS - self._random.randrange(2_000, 14_000), web=True)]
        acts: list[Act] = []
        at_s = begins_s
        for _ in range(self._random.randint(1, _VIEWS_MAX)):
            acts.append(viewed(at_s, user, self._random.choice(PRODUCTS)))
            at_s += self._random.uniform(0.3, 1.5)
        if self._random.random() < _BUYS:
            acts.append(self._order(at_s, user, 0, web=self._random.random() < _ON_THE_WEB))
        return acts

    def _order(self, at_s: float, user: str, age_ms: int, *, web: bool) -> Act:
        amount = round(self._random.uniform(9, 240), 2)
        return ordered(at_s, user, amount, channel="web" if web else "app", age_ms=age_ms)


def viewed(at_s: float, user: str, product: str) -> Act:
    """Look at a product."""
    return Act(at_s, user, VIEWED, {"sku": product.replace(" ", "-"), "name": product})


def ordered(at_s: float, user: str, amount: float, *, channel: str, age_ms: int = 0) -> Act:
    """Buy."""
    return Act(at_s, user, ORDERED, {"amount": amount, "channel": channel, "currency": "EUR"}, age_ms)

"""Which anonymous id belongs to which user: the rule of docs/stitching.md. Pure; remembers no more than it has to."""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from cluster.definitions.model import Stitching

#: What a row that names an id beside a user comes to. `joined` is the one that moves events.
Verdict: TypeAlias = Literal[
    "joined", "renewed", "no_id", "same_id", "other_user", "is_user", "user_is_joined", "ids_per_user", "links"
]
#: Those that are no link, and that nobody is told of.
QUIET: Final = frozenset({"joined", "renewed", "no_id", "same_id"})


class Links:
    """The links in force, and the users who were identified lately: both for a retention since they were last told.

    Orders are by when that was: what has lapsed lies at the front.
    """

    def __init__(self, bounds: Stitching, retention_ms: int) -> None:
        self._bounds = bounds
        self._retention_ms = retention_ms
        #: By anonymous id: its user, and the clock of the newest row that said so.
        self._user_of: OrderedDict[str, tuple[str, int]] = OrderedDict()
        self._ids_of: Counter[str] = Counter()
        self._identified: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """Give the number of links kept; some may have lapsed since the last input."""
        return len(self._user_of)

    def user_of(self, id_: str, clock_ms: int) -> str | None:
        """Give whom an anonymous id belongs to."""
        found = self._user_of.get(id_)
        return found[0] if found is not None and self._holds(found[1], clock_ms) else None

    def owners(self, ids: list[str], clocks_ms: np.ndarray) -> dict[int, str]:
        """Give by place whom these ids belong to, each at its clock; 0.1 µs an id."""
        if not self._user_of:
            return {}
        found = enumerate(map(self._user_of.get, ids))
        return {
            place: link[0] for place, link in found if link is not None and self._holds(link[1], int(clocks_ms[place]))
        }

    def judge(self, user: str, id_: str | None, clock_ms: int) -> Verdict:
        """Say what a link row comes to; `joined` is subject to the id's own events (`machine.py` knows those)."""
        self._lapse(clock_ms)
        if id_ is None:
            return "no_id"
        if id_ == user:
            return "same_id"
        owner = self.user_of(id_, clock_ms)
        if owner is not None:
            return "renewed" if owner == user else "other_user"
        if id_ in self._identified:
            return "is_user"
        if user in self._user_of:
            return "user_is_joined"
        if self._ids_of[user] >= self._bounds.ids_per_user:
            return "ids_per_user"
        return "links" if len(self._user_of) >= self._bounds.links else "joined"

    def hold(self, user: str, id_: str, clock_ms: int) -> None:
        """Note that an id belongs to a user from now on, or still does."""
        self._lapse(clock_ms)
        before = self._user_of.get(id_)
        if before is None or before[0] != user:
            self._end(id_)
            self._ids_of[user] += 1
        self._user_of[id_] = user, clock_ms
        self._user_of.move_to_end(id_)

    def identify(self, user: str, clock_ms: int) -> None:
        """Note that a row called someone this user."""
        self._identified[user] = clock_ms
        self._identified.move_to_end(user)

    def _holds(self, told_ms: int, clock_ms: int) -> bool:
        return told_ms + self._retention_ms > clock_ms

    def lapses_by(self, clock_ms: int) -> bool:
        """Say whether some link that is kept has lapsed at a clock: events before it are looked at first."""
        return bool(self._user_of) and not self._holds(next(iter(self._user_of.values()))[1], clock_ms)

    def _lapse(self, clock_ms: int) -> None:
        while self.lapses_by(clock_ms):
            self._end(next(iter(self._user_of)))
        while self._identified and not self._holds(next(iter(self._identified.values())), clock_ms):
            self._identified.popitem(last=False)

    def _end(self, id_: str) -> None:
        found = self._user_of.pop(id_, None)
        if found is not None:
            self._ids_of[found[0]] -= 1
            if not self._ids_of[found[0]]:
                del self._ids_of[found[0]]

    # --- checkpoints -----------------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """Give all that is remembered, as JSON."""
        links = [[id_, user, told_ms] for id_, (user, told_ms) in self._user_of.items()]
        return {"links": links, "identified": list(self._identified.items())}

    def take(self, kept: dict[str, Any]) -> None:
        """Remember what another one kept."""
        self._user_of = OrderedDict((id_, (user, told_ms)) for id_, user, told_ms in kept["links"])
        self._ids_of = Counter(user for user, _ in self._user_of.values())
        self._identified = OrderedDict((user, told_ms) for user, told_ms in kept["identified"])

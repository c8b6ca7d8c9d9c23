"""What the demo has seen: what was sent, what the webhooks said, and how long that took. Pure: times are given."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

LATEST_MAX: Final = 200
_SENT_KEPT_PER_USER: Final = 8
#: Transition ids remembered: a webhook may come twice, and counts once.
_IDS_MAX: Final = 100_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One change as a webhook brought it. `delay_ms`: after the event's POST began, or after the due time."""

    audience: str
    user: str
    kind: str
    cause: str
    at_ms: int
    delay_ms: float | None


@dataclass(slots=True)
class Tally:
    """One audience's changes."""

    entered: int = 0
    exited: int = 0


@dataclass(slots=True)
class Board:
    """Everything the screen shows. `latest` holds the newest changes, newest first."""

    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    latest: deque[Seen] = field(default_factory=lambda: deque(maxlen=LATEST_MAX))
    events_sent: int = 0
    events_refused: int = 0
    webhooks: int = 0
    bad_signatures: int = 0
    repeated: int = 0
    #: ms from the beginning of an event's POST to the webhook's arrival, for changes with cause `event`.
    event_delays_ms: list[float] = field(default_factory=list)
    #: ms from a change's exact due time to the webhook's arrival, for changes with cause `time`.
    time_delays_ms: list[float] = field(default_factory=list)
    _sent: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)
    _ids: dict[str, None] = field(default_factory=dict)

    def sending(self, user: str, now_ms: int, monotonic_ms: float) -> None:
        """Note that an event's POST begins."""
        self._sent.setdefault(user, deque(maxlen=_SENT_KEPT_PER_USER)).append((now_ms, monotonic_ms))

    def received(self, change: Mapping[str, Any], now_ms: int, monotonic_ms: float) -> Seen | None:
        """Take one change of a webhook; None for one that came before."""
        if change["transition_id"] in self._ids:
            self.repeated += 1
            return None
        self._remember(str(change["transition_id"]))
        at_ms = round(datetime.fromisoformat(change["at"]).timestamp() * 1000)
        seen = Seen(
            audience=change["audience_id"], user=change["user_id"], kind=change["kind"], cause=change["cause"],
            at_ms=at_ms, delay_ms=self._delay_ms(change, at_ms, now_ms, monotonic_ms),
        )  # fmt: skip
        tally = self.tallies[seen.audience]
        if seen.kind == "entered":
            tally.entered += 1
        else:
            tally.exited += 1
        self.latest.appendleft(seen)
        return seen

    def _delay_ms(self, change: Mapping[str, Any], at_ms: int, now_ms: int, monotonic_ms: float) -> float | None:
        if change["cause"] == "time":
            delay_ms = float(now_ms - at_ms)
            self.time_delays_ms.append(delay_ms)
            return delay_ms
        # The event that made the change is the last whose POST had begun at its clock.
        begun = [began for sent_ms, began in self._sent.get(str(change["user_id"]), ()) if sent_ms <= at_ms]
        if change["cause"] != "event" or not begun:
            return None
        self.event_delays_ms.append(monotonic_ms - begun[-1])
        return monotonic_ms - begun[-1]

    def _remember(self, transition_id: str) -> None:
        self._ids[transition_id] = None
        if len(self._ids) > _IDS_MAX:
            del self._ids[next(iter(self._ids))]


def percentile(values: list[float], share: float) -> float | None:
    """Give the value below which `share` of the values lie (nearest rank); None of none."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(share * (len(ranked) - 1)))]

"""Flap control: how long a change waits before it is sent, so that a user who goes back and forth tells nothing.

- `debounce`: a change is sent once it has lasted so long.
- `min_stay`: who was added stays at least so long; an exit waits, and an entry meanwhile cancels it.
- `cooldown`: who was removed stays away at least so long; an entry waits, and an exit meanwhile cancels it.

All counted from the changes' own times (`at`), so that a backlog is not held up twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from actors.delivery.changes import REPEATS, Change, Told


@dataclass(frozen=True, slots=True)
class Flaps:
    """A sync's flap control, in ms; 0 is none."""

    min_stay_ms: int = 0
    cooldown_ms: int = 0
    debounce_ms: int = 0


def due_ms(flaps: Flaps | None, change: Change, told: Told | None, now_ms: int) -> int:
    """Give from when a change may be sent; `told` is what was last sent of its user.

    `now_ms` where nothing holds it back.
    """
    if flaps is None or change.cause in REPEATS:
        return now_ms
    due = change.at_ms + flaps.debounce_ms
    if told is not None and change.kind == "exited" and told.inside:
        due = max(due, told.at_ms + flaps.min_stay_ms)
    if told is not None and change.kind == "entered" and not told.inside:
        due = max(due, told.at_ms + flaps.cooldown_ms)
    return max(due, now_ms)

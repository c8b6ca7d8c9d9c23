"""The oldest changes of a backlog by user, so that what came of these users later is found in one pass over the rest.

A backlog is only ever appended to (see `backlog`); what undoes what is worked out a window at a time, when the window's
turn comes. All of it is arrays: of each change its number, 128 bits of its user under a seed that no sender knows, and
what its cause means for what comes after it (codes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Numbers: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = npt.NDArray[np.uint64]
Flags: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.uint8]

#: A change of membership; what only repeats it, for either cause; a change in the place of such a repeat, which is due
#: again where the change is undone (see `changes.instead`).
CHANGE: Final = 0
IDENTIFIERS_CODE: Final = 1
RESYNC_CODE: Final = 2
#: From a repeat's code to that of a change in its place.
OWES: Final = 2

#: Bits of a key that are looked at first: most keys of the rest are of nobody in the window.
_PREFIX_BITS: Final = 20
_SHIFT: Final = np.uint64(64 - _PREFIX_BITS)
_NONE: Final = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Folded:
    """Numbers of changes that come to nothing, and of those that have another code now."""

    dead: Numbers
    recoded: Numbers
    codes: Codes


NOTHING_FOLDED: Final = Folded(_NONE, _NONE, np.empty(0, np.uint8))


class Window:
    """Of every user of the window, which of their changes waits. `gather` all of its changes, `close` it, then `fold`.

    The window's own changes are folded first, then all that came later, in order; once that is done (`complete`)
    whatever comes is folded as it comes. A call of `fold` has each user at most once.
    """

    def __init__(self) -> None:
        #: The last number of the window's own changes, and up to which number all are gathered, then folded.
        self.through = 0
        self.position = 0
        self.closed = False
        self.complete = False
        self.rows = 0
        self._gathered: list[tuple[Keys, Keys]] = []
        self._keys: Keys = np.empty(0, np.uint64)
        self._checks: Keys = np.empty(0, np.uint64)
        self._seldom = np.zeros(1 << _PREFIX_BITS, np.bool_)
        #: Of each user the number of what waits, 0 for nothing, and its code.
        self._waiting: Numbers = _NONE
        self._codes: Codes = np.empty(0, np.uint8)

    def gather(self, keys: Keys, checks: Keys, through: int) -> None:
        """Take in more of the window's users: both halves of their hashes. `through`: the last number so far."""
        self._gathered.append((keys, checks))
        self.rows += len(keys)
        self.through = self.position = through

    def close(self) -> None:
        """Take in no more: folding begins. 10 ms for 131,072 changes."""
        keys = np.concatenate([keys for keys, _ in self._gathered])
        checks = np.concatenate([checks for _, checks in self._gathered])
        self._gathered.clear()
        # Of two users with one key (one in 2**64) the second is not found: both their changes are sent.
        self._keys, places = np.unique(keys, return_index=True)
        self._checks = checks[places]
        self._seldom[self._keys >> _SHIFT] = True
        self._waiting = np.zeros(len(self._keys), np.int64)
        self._codes = np.zeros(len(self._keys), np.uint8)
        self.position = 0
        self.closed = True

    def fold(self, numbers: Numbers, keys: Keys, checks: Callable[[], Keys], codes: Codes, taken: int) -> Folded:
        """Let changes undo what waits, or wait.

        A change undoes a change. What only repeats membership gives way to one, and comes to nothing where something
        waits. What is numbered up to `taken` has left. `checks` is called only where a key is of the window.
        """
        rows = np.flatnonzero(self._seldom[keys >> _SHIFT])
        slots = np.minimum(np.searchsorted(self._keys, keys[rows]), len(self._keys) - 1)
        same = self._keys[slots] == keys[rows]
        if not same.any():
            return NOTHING_FOLDED
        rows, slots = rows[same], slots[same]
        same = self._checks[slots] == checks()[rows]
        rows, slots = rows[same], slots[same]
        new, new_codes = numbers[rows], codes[rows]
        old, old_codes = self._waiting[slots], self._codes[slots]
        meets = old > taken
        repeats = (new_codes == IDENTIFIERS_CODE) | (new_codes == RESYNC_CODE)
        undone = meets & ~repeats
        gives_way = undone & ((old_codes == IDENTIFIERS_CODE) | (old_codes == RESYNC_CODE))
        owed = undone & (old_codes > OWES)
        nothing = meets & ~gives_way & ~owed
        left_codes = np.where(gives_way, old_codes + OWES, np.where(owed, old_codes - OWES, new_codes))
        waits = ~nothing
        self._waiting[slots[undone]] = 0
        self._waiting[slots[waits]] = new[waits]
        self._codes[slots[waits]] = left_codes[waits]
        recoded = waits & (left_codes != new_codes)
        return Folded(np.concatenate([new[nothing], old[undone]]), new[recoded], left_codes[recoded])

"""A machine's state as named arrays, and back. Whatever `StateArrays` holds is kept, by its names.

So a change of the layout needs no change here. The few names below only say what need not be kept: scratch, and room
that is not in use yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from actors.evaluator.layout import (
    S_ARENA_TOP,
    S_INSTANT_LEN,
    S_KEY_TOP,
    S_OUT,
    S_TOUCHED,
    S_USERS,
    StateArrays,
)
from cluster.checkpoints.parts import Part
from cluster.errors import CheckpointError

#: Empty between two inputs, or taken anew before use.
SCRATCH: Final = frozenset({
    "wave", "ahead", "due_pages", "fed_struct", "fed_page", "dirty", "heap", "audience_stamp", "touched",
    "touched_stamp", "out_user", "out_audience", "out_at", "out_n", "out_kind", "out_cause",
    "fresh_row", "fresh_words", "fresh_times",
})  # fmt: skip
#: The scalar that says how many rows of an array are in use; all of any other.
IN_USE: Final = {
    "users": S_USERS,
    "user_parent": S_USERS,
    "user_hash": S_USERS,
    "key_place": S_USERS,
    "key_bytes": S_KEY_TOP,
    "arena": S_ARENA_TOP,
    "instant_audience": S_INSTANT_LEN,
    "instant_n": S_INSTANT_LEN,
    "instant_previous": S_INSTANT_LEN,
}  # fmt: skip
#: Links of a user.
_LINKS: Final = 2


def _used(s: StateArrays, name: str) -> int:
    """Give the rows of an array that hold something."""
    if name in SCRATCH:
        return 0
    if name == "timer_links":
        return _LINKS * int(s.scalars[S_USERS])
    return int(s.scalars[IN_USE[name]]) if name in IN_USE else len(getattr(s, name))


def parts_of(s: StateArrays) -> dict[str, Part]:
    """Give what a checkpoint keeps of a state between two inputs, uncopied."""
    parts: dict[str, Part] = {}
    owners: dict[int, str] = {}
    for name, array in s._asdict().items():
        owner = owners.setdefault(array.__array_interface__["data"][0], name) if array.nbytes else name
        if owner != name:
            parts[name] = Part(array[:0], len(array), view_of=owner)
            continue
        used = _used(s, name)
        # Rows beyond those in use hold what a row begins with.
        fill = int(array.flat[-1]) if used < len(array) and name not in SCRATCH else 0
        parts[name] = Part(array[:used], len(array), fill)
    return parts


def state_of(arrays: Mapping[str, NDArray[Any]], like: StateArrays) -> StateArrays:
    """Give the state that these arrays were kept of; `like` is a new one of the same program.

    Raises CheckpointError (incompatible) where names, dtypes or rows differ from `like`'s.
    """
    wanted = {name: (array.dtype, array.shape[1:]) for name, array in like._asdict().items()}
    found = {name: (array.dtype, array.shape[1:]) for name, array in arrays.items()}
    if found != wanted:
        differ = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        message = f"The checkpoint's state has another layout: {', '.join(differ)}."
        raise CheckpointError(message, reason="incompatible")
    state = StateArrays(**arrays)
    # Nothing is shown of it yet: who shows it shows all of it.
    state.scalars[[S_TOUCHED, S_OUT]] = 0
    return state

"""What a checkpoint keeps of a state: arrays, each with what of it is in use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Part:
    """An array to keep: `rows` are those in use; a reader gets `capacity` rows, the others filled with `fill`.

    `view_of` names another part whose memory, read as this one's dtype, is this one: then nothing is kept of it.
    """

    rows: NDArray[Any]
    capacity: int
    fill: int = 0
    view_of: str = ""

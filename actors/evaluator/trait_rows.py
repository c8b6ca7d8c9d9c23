"""A snapshot as an evaluator prepares it beside its work: its own rows, what the program says of them, and a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from actors.evaluator.inputs import string_buffers
from actors.evaluator.key_table import Generation
from actors.evaluator.layout import I32, I64, U8, U64
from actors.evaluator.program import Program
from actors.evaluator.state import KeyRoom
from actors.evaluator.traits import time_width, trait_times, trait_words, whole

#: Rows worked out at once: some ms of one thread, with the interpreter given up in between.
_STEP_ROWS: Final = 16_384


@dataclass(frozen=True, slots=True)
class TraitRows:
    """A snapshot's rows for one program: keys, and what its conditions say of each row (`traits.py`)."""

    program: Program
    parent: str
    version: int
    path: str
    table: pa.Table
    offsets: I32
    data: U8
    words: U64
    times: I64

    def __len__(self) -> int:
        return len(self.words)


def prepare(
    program: Program, parent: str, version: int, path: str, table: pa.Table, pause: Callable[[], None]
) -> TraitRows:
    """Work a snapshot's own rows out, 1 to 2 µs each; `pause` is called between steps of some ms. On any thread."""
    index = program.parents.index(parent)
    rows = table.num_rows
    words = np.zeros((rows, program.leaf_words), np.uint64)
    times = np.zeros((rows, time_width(program)), np.int64)
    for start in range(0, rows, _STEP_ROWS):
        part = table.slice(start, _STEP_ROWS)
        words[start : start + _STEP_ROWS] = trait_words(program, index, part)
        times[start : start + _STEP_ROWS] = trait_times(program, index, part)
        pause()
    offsets, data = string_buffers(whole(table.column("key")))
    return TraitRows(program, parent, version, path, table, offsets, data, words, times)


@dataclass(frozen=True, slots=True)
class UserRoom:
    """Room for the users of a snapshot, made beside the work where it was lacking: growing takes long.

    `files`: larger membership files; `keys`: a larger table of keys.
    """

    files: Generation | None = None
    keys: KeyRoom | None = None


@dataclass(slots=True)
class TraitPlan:
    """How far an evaluator is with a snapshot: rows looked at, users looked at for who is gone, marks made due.

    `marked` holds the users who have other traits in it, `armed` how many of these arrays are due when it is to hold.
    """

    rows: TraitRows
    by_time: U64
    #: A byte a slot: whether the snapshot has the user.
    seen: U8 = field(default_factory=lambda: np.zeros(0, np.uint8))
    looked: int = 0
    gone_looked: int = 0
    marked: list[I32] = field(default_factory=list)
    armed: int = 0
    #: The clock when it was first said when it is to hold; whether that was said again since, as time told.
    aimed_from_ms: int = 0
    aimed_anew: bool = False
    #: All who have other traits are due when it is to hold.
    ready: bool = False
    #: It holds.
    taken: bool = False

    @property
    def armed_users(self) -> int:
        """How many of them are due when it is to hold."""
        return sum(map(len, self.marked[: self.armed]))

    @property
    def changed(self) -> int:
        """How many users have other traits in it, as far as it was looked at."""
        return sum(map(len, self.marked))

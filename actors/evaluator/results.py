"""What the machine gives back: transitions in columns, and a batch's outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from actors.evaluator.layout import CAUSES, I32, I64, U8
from cluster.log.records import TransitionBlock

#: The Arrow schema of transitions (docs/architecture.md §3).
TRANSITION_SCHEMA = pa.schema(
    [
        ("audience_id", pa.string()),
        ("audience_version", pa.int32()),
        ("user_id", pa.string()),
        ("kind", pa.string()),
        ("at", pa.int64()),
        ("n", pa.int32()),
        ("cause", pa.string()),
        ("partition", pa.int16()),
    ]
)

#: Transitions stored as one block. A reader unpacks a block whole for the rows that it wants, and keeps some in memory.
BLOCK_ROWS_MAX: Final = 8_192

_COLUMNS: Final = ("user", "audience", "at", "n", "entered", "cause")
_KINDS: Final = ("exited", "entered")
#: Up to so many names are quicker to look up one by one than all together (50 µs).
_NAMED_SINGLY_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Transitions:
    """Transitions in the order they were made; all arrays of one length.

    `user` and `audience` are indexes of the machine and program that made them: turn them into names
    (`EvaluatorMachine.transitions_table`) before the machine takes new definitions.
    """

    user: I32
    audience: I32
    at: I64
    n: I32
    entered: U8
    cause: U8

    def __len__(self) -> int:
        """Give the number of transitions."""
        return len(self.user)


def no_transitions() -> Transitions:
    """Give an empty set."""
    return Transitions(
        np.zeros(0, np.int32),
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
        np.zeros(0, np.int32),
        np.zeros(0, np.uint8),
        np.zeros(0, np.uint8),
    )


def joined(parts: list[Transitions]) -> Transitions:
    """Put several sets behind each other."""
    if not parts:
        return no_transitions()
    if len(parts) == 1:
        return parts[0]
    return Transitions(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in _COLUMNS
        )
    )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """`outcomes`: uint8 per hit in the order given (0 accepted, 1 duplicate, 2 too late)."""

    outcomes: U8
    transitions: Transitions
    clock_ms: int


def table_of(
    transitions: Transitions, audiences: Sequence[str], versions: I32, users: pa.Array, partitions: np.ndarray
) -> pa.RecordBatch:
    """Write transitions as Arrow; `users` and `partitions` are aligned to the transitions."""
    return pa.RecordBatch.from_arrays(
        [
            _named(audiences, transitions.audience),
            pa.array(versions[transitions.audience], pa.int32()),
            users,
            _named(_KINDS, transitions.entered),
            pa.array(transitions.at, pa.int64()),
            pa.array(transitions.n, pa.int32()),
            _named(CAUSES, transitions.cause),
            pa.array(partitions, pa.int16()),
        ],
        schema=TRANSITION_SCHEMA,
    )


def _named(names: Sequence[str], codes: np.ndarray) -> pa.Array:
    """Give each code's name."""
    if len(codes) <= _NAMED_SINGLY_MAX:
        return pa.array([names[code] for code in codes.tolist()], pa.string())
    return pa.array(names, pa.string()).take(pa.array(codes))


def parts_of(transitions: Transitions, rows: int) -> list[Transitions]:
    """Cut a set into parts of at most so many rows."""
    if len(transitions) <= rows:
        return [transitions]
    return [
        Transitions(*(getattr(transitions, name)[start : start + rows] for name in _COLUMNS))
        for start in range(0, len(transitions), rows)
    ]


def blocks_of(tables: Iterable[pa.RecordBatch], first_seq: int) -> list[TransitionBlock]:
    """Pack tables of transitions, in order, into blocks numbered from `first_seq`: few, none above the bound."""
    blocks: list[TransitionBlock] = []
    gathered: list[pa.RecordBatch] = []

    def pack() -> None:
        nonlocal gathered, first_seq
        if gathered:
            table = gathered[0] if len(gathered) == 1 else pa.concat_batches(gathered)
            blocks.append(TransitionBlock.of(first_seq, table))
            first_seq += table.num_rows
            gathered = []

    for table in tables:
        for start in range(0, table.num_rows, BLOCK_ROWS_MAX):
            part = table.slice(start, BLOCK_ROWS_MAX)
            if sum(each.num_rows for each in gathered) + part.num_rows > BLOCK_ROWS_MAX:
                pack()
            gathered.append(part)
    pack()
    return blocks

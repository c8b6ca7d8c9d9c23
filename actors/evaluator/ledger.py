"""What is left of old transitions: the last `entered` of everybody whom they left inside, under its own number.

Transitions that every sync has passed and that are older than the retention are dropped. A sync that begins later, an
evaluator that takes users over and `since` need of them only who was inside at their end: that is kept here, as named
values of the log (`contract.Log.meta`), in order of the numbers.

The ledger is written before the transitions are dropped. A crash in between leaves both, which gives the same to every
reader: who folds a ledger and the transitions that it was made of, in this order, ends where they ended.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from actors.evaluator.results import TRANSITION_SCHEMA
from cluster.log.contract import Log
from cluster.log.records import pack_transitions, unpack_transitions

#: Rows of one value of the log.
PAGE_ROWS: Final = 65_536
#: Transitions that are dropped at once at least: each time the ledger is written anew, so as many as it has rows, too.
ROWS_MIN: Final = 200_000
#: Transitions read at a time.
_STEP: Final = 8_192
#: Transitions that are folded at a time, which bounds the memory for it.
ROWS_A_FOLD: Final = 1_000_000
_KEY: Final = "ledger"

#: Transitions and their numbers.
Numbered: TypeAlias = tuple[NDArray[np.int64], Any]


class Pages(msgspec.Struct, frozen=True, array_like=True):
    """Up to which number transitions were folded, how often, and of each page the numbers of its first and last row."""

    through_seq: int = 0
    turn: int = 0
    ends: list[tuple[int, int]] = []
    row_count: int = 0


def pages_of(log: Log) -> Pages:
    """Give what the log's ledger consists of."""
    packed = log.meta(_KEY)
    return Pages() if packed is None else msgspec.msgpack.decode(packed, type=Pages)


def rows_after(log: Log, seq: int, pages: Pages | None = None) -> Iterator[Numbered]:
    """Give the ledger's rows numbered above `seq` in order, page by page."""
    pages = pages or pages_of(log)
    for place, (_, last) in enumerate(pages.ends):
        if last > seq:
            packed = log.meta(_page(pages.turn, place))
            assert packed is not None, "a page is committed before it is named"
            size = int.from_bytes(packed[:8], "little")
            numbers = np.frombuffer(packed, "<i8", size, 8).astype(np.int64)
            rows = unpack_transitions(packed[8 + 8 * size :])
            first = int(np.searchsorted(numbers, seq, "right"))
            yield numbers[first:], rows.slice(first)


def fold(log: Log, read_seq: int, before_ms: int) -> int:
    """Put old transitions into the ledger, as many as are worth it, and drop them; give how many went.

    Old: numbered up to `read_seq` and made before `before_ms`. Blocks on the disk; O(ledger + what is dropped). Raises
    what `Log.commit` raises. Not beside another call.
    """
    pages = pages_of(log)
    dropped = log.trim_transitions(pages.through_seq)  # what a crash left
    least = max(ROWS_MIN, pages.row_count)
    probe = pages.through_seq + least
    if probe > read_seq or not any(block.max_at_ms < before_ms for block in log.transitions_after(probe - 1, 1)):
        return dropped
    through_seq, parts = _old(log, pages, max(least, ROWS_A_FOLD), read_seq, before_ms)
    if through_seq == pages.through_seq:
        return dropped  # what is read at a time ends with a younger one
    _write(log, pages, through_seq, *_inside(parts))
    return dropped + log.trim_transitions(through_seq)


def _old(log: Log, pages: Pages, rows: int, read_seq: int, before_ms: int) -> tuple[int, list[Numbered]]:
    """Give the ledger and the next old transitions, some `rows` of them, and up to which number they go."""
    parts = list(rows_after(log, 0, pages))
    seq, until = pages.through_seq, min(read_seq, pages.through_seq + rows)
    while seq < until:
        blocks = log.transitions_after(seq, min(_STEP, until - seq))
        old = list(itertools.takewhile(lambda block: block.max_at_ms < before_ms, blocks))
        parts += [(np.arange(block.first_seq, block.last_seq + 1, dtype=np.int64), block.rows()) for block in old]
        if len(old) < len(blocks) or not old:
            seq = old[-1].last_seq if old else seq
            break
        seq = old[-1].last_seq
    return seq, parts


def _inside(parts: list[Numbered]) -> Numbered:
    """Give the newest transition of each (audience, user) where it is an entry, in order."""
    numbers = np.concatenate([part for part, _ in parts])
    table = pa.Table.from_batches([rows for _, rows in parts], TRANSITION_SCHEMA).combine_chunks()
    users, audiences = (_codes(table.column(name)) for name in ("user_id", "audience_id"))
    pairs = audiences * (int(users.max()) + 1) + users
    # The first of each in the reversed order is the newest.
    _, places = np.unique(pairs[::-1], return_index=True)
    newest = np.sort(len(pairs) - 1 - places)
    inside = newest[np.asarray(pc.equal(table.column("kind"), "entered"))[newest]]
    return numbers[inside], table.take(pa.array(inside)).combine_chunks()


def _codes(column: Any) -> NDArray[np.int64]:
    return np.asarray(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _write(log: Log, before: Pages, through_seq: int, numbers: NDArray[np.int64], table: Any) -> None:
    """Make a ledger take the place of the one before; that one is whole until the new one is."""
    turn = before.turn + 1
    ends: list[tuple[int, int]] = []
    for start in range(0, len(numbers), PAGE_ROWS):
        own = numbers[start : start + PAGE_ROWS]
        rows = table.slice(start, PAGE_ROWS).combine_chunks().to_batches()[0]
        packed = len(own).to_bytes(8, "little") + own.astype("<i8").tobytes() + pack_transitions(rows)
        log.commit((), (), {_page(turn, len(ends)): packed})
        ends.append((int(own[0]), int(own[-1])))
    log.commit((), (), {_KEY: msgspec.msgpack.encode(Pages(through_seq, turn, ends, len(numbers)))})
    for place in range(len(before.ends)):
        log.commit((), (), {_page(before.turn, place): b""})


def _page(turn: int, place: int) -> str:
    """Name a page: two ledgers take turns, so that names do not pile up."""
    return f"{_KEY}/{turn % 2}/{place}"

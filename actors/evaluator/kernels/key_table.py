"""The table of membership files: entering and finding users by the 128-bit hash of their key.

An entry is three words: high half, low half, row + 1 (0: empty). The table's size is a power of two.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import kernel
from actors.evaluator.layout import I32, I64, U64

_EMPTY = np.uint64(0)


@kernel
def enter_hashes(table: U64, hashes: U64, places: I64) -> None:
    """Write the hashes ([n, 2]: high, low) of new users into free entries, and give each one's place.

    The rows stay 0, so that nobody is found yet: the caller writes them in a call of its own, after this one.
    """
    mask = table.shape[0] - 1
    for i in range(hashes.shape[0]):
        high, low = hashes[i, 0], hashes[i, 1]
        place = np.int64(low & np.uint64(mask))
        while table[place, 2] != _EMPTY or table[place, 0] != _EMPTY or table[place, 1] != _EMPTY:
            place = (place + 1) & mask
        table[place, 0] = high
        table[place, 1] = low
        places[i] = place


@kernel
def find_rows(table: U64, hashes: U64) -> I32:
    """Give the row of each hash ([n, 2]: high, low), -1 where it has none."""
    mask = table.shape[0] - 1
    result = np.full(hashes.shape[0], -1, np.int32)
    for i in range(hashes.shape[0]):
        high, low = hashes[i, 0], hashes[i, 1]
        place = np.int64(low & np.uint64(mask))
        while table[place, 2] != _EMPTY:
            if table[place, 0] == high and table[place, 1] == low:
                result[i] = np.int32(table[place, 2]) - 1
                break
            place = (place + 1) & mask
    return result

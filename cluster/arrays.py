"""Arrays that begin a line of the processor's cache, and arrays that grow where they are."""

from __future__ import annotations

import math
import mmap
import sys
from contextlib import suppress
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE_BYTES: Final = 64
#: From this size on an array gets addresses to grow into, so that it is never copied again.
GROWS_IN_PLACE_BYTES: Final = 4 << 20
#: So many of them: addresses, not memory. A process has 8,000 times as many.
_RESERVED_BYTES: Final = 16 << 30
#: Linux: the addresses count for nothing until they are written to. Python names it from 3.13 on.
_MAP_NORESERVE: Final = 0x4000


def line_zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make zeros that begin a cache line; they cost memory only where they are written."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    start = -int(raw.__array_interface__["data"][0]) % LINE_BYTES
    result: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return result


class _Reserve(mmap.mmap):
    """Addresses of one array that grows. `given_bytes`: how long the array is that was made of them last."""

    given_bytes: int = 0

    def give(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        count = math.prod(shape)
        result = np.frombuffer(self, dtype, count).reshape(shape)
        self.given_bytes = result.nbytes
        return result


@cache
def grows_in_place() -> bool:
    """Say whether this system gives addresses ahead, so that growing costs nothing."""
    return _reserve() is not None


def _reserve() -> _Reserve | None:
    if sys.platform != "linux":
        return None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    try:
        reserve = _Reserve(-1, _RESERVED_BYTES, flags=flags)
    except (OSError, ValueError):
        return None  # a limit on addresses, or on what may be promised: arrays are copied then
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            reserve.madvise(mmap.MADV_HUGEPAGE)
    return reserve


def growing_zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make zeros that `grown_in_place` may lengthen, where they are many and the system gives addresses ahead."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    reserve = _reserve() if GROWS_IN_PLACE_BYTES <= size <= _RESERVED_BYTES // 2 else None
    return line_zeros(shape, dtype) if reserve is None else reserve.give(shape, dtype)


def grown_in_place(array: NDArray[Any], rows: int) -> NDArray[Any] | None:
    """Give an array with more rows in the same place, those beyond zeros; None where it has to be copied.

    Both are the same memory from then on; only the longest one of a place grows.
    """
    reserve: Any = array
    while isinstance(reserve, np.ndarray):
        reserve = reserve.base
    if isinstance(reserve, memoryview):
        reserve = reserve.obj
    if not isinstance(reserve, _Reserve) or reserve.given_bytes != array.nbytes:
        return None
    shape = (rows, *array.shape[1:])
    if math.prod(shape) * array.itemsize > len(reserve):
        return None
    return reserve.give(shape, array.dtype)

"""Arrays that begin a line of the processor's cache."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE_BYTES: Final = 64


def line_zeros(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make zeros that begin a cache line; they cost memory only where they are written."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE_BYTES, np.uint8)
    start = -int(raw.__array_interface__["data"][0]) % LINE_BYTES
    result: NDArray[Any] = raw[start : start + size].view(dtype).reshape(shape)
    return result

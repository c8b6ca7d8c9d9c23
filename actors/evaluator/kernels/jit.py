"""How the loops are compiled: GIL released, cached on disk, inner functions inlined into the loop that calls them.

The arrays go in as tables of addresses (`tables.py`), not as tuples of arrays: numba counts references of every
member each time a tuple is touched, 15 ns an array; with fifty arrays that made the first version of the hot loop
50 times slower.
"""

from __future__ import annotations

from typing import Any, Final

import numba
from numba import njit

from actors.evaluator.kernels.cache import cache_dir

if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = str(cache_dir())

#: For loops that Python calls, or that are called too rarely to inline.
kernel: Final[Any] = njit(cache=True, nogil=True)
#: For what such a loop calls per hit, timer or leaf.
inner: Final[Any] = njit(cache=True, nogil=True, forceinline=True)

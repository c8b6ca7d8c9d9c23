"""How the loops are compiled: GIL released, cached on disk, inner functions inlined into the loop that calls them.

The arrays go in as tables of addresses (`tables.py`), not as tuples of arrays: numba counts references of every
member each time a tuple is touched, 15 ns an array; with fifty arrays that made the first version of the hot loop
50 times slower.

numba's cache only looks at the file of the function itself, not at the functions it inlines: so the cache lies in
a folder named after the content of all kernel files, and an edit anywhere compiles anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, Final

import numba
from numba import njit


def _cache_dir() -> str:
    """Give the folder for compiled code: beside the sources if that can be written, else the user's own."""
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    for path in [*sorted(here.glob("*.py")), here.parent / "layout.py"]:
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()}"
    beside = here / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
        writable = os.access(beside, os.W_OK)
    except OSError:
        writable = False
    if writable:
        return str(beside / name)
    return str(Path(tempfile.gettempdir()) / f"usher-{os.getuid()}" / name)


if not numba.config.CACHE_DIR:
    numba.config.CACHE_DIR = _cache_dir()

#: For loops that Python calls, or that are called too rarely to inline.
kernel: Final[Any] = njit(cache=True, nogil=True)
#: For what such a loop calls per hit, timer or leaf.
inner: Final[Any] = njit(cache=True, nogil=True, forceinline=True)

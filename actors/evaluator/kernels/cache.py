"""Where compiled kernels are kept, and whether they are there. Imports no numba: `usher up` asks before it starts.

numba's cache only looks at the file of the function itself, not at the functions it inlines: so the folder is named
after the content of all kernel files, and an edit anywhere compiles anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from cluster import limits


def cache_dir() -> Path:
    """Give the folder: NUMBA_CACHE_DIR if set, else beside the sources if that can be written, else the user's own."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    if chosen:
        return Path(chosen)
    here = Path(__file__).parent
    digest = hashlib.blake2b(digest_size=8)
    # Bounds are compiled in too.
    bounds = Path(limits.__file__)
    for path in [*sorted(here.glob("*.py")), here.parent / "layout.py", bounds]:
        digest.update(path.read_bytes())
    name = f"kernels-{digest.hexdigest()}"
    beside = here / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
        if os.access(beside, os.W_OK):
            return beside / name
    except OSError:
        pass  # read-only sources: the user's own folder serves as well
    return Path(tempfile.gettempdir()) / f"usher-{os.getuid()}" / name


def is_compiled() -> bool:
    """Say whether every kernel was compiled into the folder once."""
    return (cache_dir() / "complete").exists()


def note_compiled() -> None:
    """Note that every kernel is in the folder now."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "complete").touch()

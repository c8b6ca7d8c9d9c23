"""Definitions files from disk: the only part of definitions that touches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.definitions.faults import Faults
from cluster.definitions.reading import SUFFIXES
from cluster.limits import DEFINITIONS_FILE_BYTES_MAX


def read_files(paths: Sequence[str | Path], faults: Faults) -> list[tuple[str, bytes]]:
    """Read files, and folders with all below them, in the order of names; what cannot be read is a fault.

    A file above the size limit is read one byte past it: enough for its fault.
    """
    contents: dict[str, bytes] = {}
    for path in map(Path, paths):
        for file in _files_of(path, faults):
            if str(file) in contents:
                continue
            try:
                with file.open("rb") as stream:
                    contents[str(file)] = stream.read(DEFINITIONS_FILE_BYTES_MAX + 1)
            except OSError as error:
                faults.add_to_file(str(file), (), f"the file cannot be read: {error.strerror or error}")
    return list(contents.items())


def _files_of(path: Path, faults: Faults) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = [
        file for file in sorted(path.rglob("*"))
        if file.suffix in SUFFIXES and file.is_file() and not _is_hidden(file.relative_to(path))
    ]
    if not found:
        allowed = f"files ending in {', '.join(SUFFIXES)}"
        faults.add_to_file(str(path), (), "the folder has no definitions file", allowed=allowed)
    yield from found


def _is_hidden(file: Path) -> bool:
    return any(part.startswith(".") for part in file.parts)

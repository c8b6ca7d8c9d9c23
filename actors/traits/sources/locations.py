"""The files that a path names: a file, a folder or a glob, local or on any filesystem that pyarrow knows by URI."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.fs

from actors.traits.sources.contract import changed, reachable
from actors.traits.stimuli import Fingerprint
from cluster.definitions.trait_sources import is_remote, redact_uri
from cluster.errors import SnapshotError

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: In a URI only `*` is a wildcard: `?` begins its options.
_WILD: Final = {False: re.compile(r"[*?\[]"), True: re.compile(r"\*")}


@dataclass(frozen=True, slots=True)
class Files:
    """What a path names now: a pyarrow filesystem and the files on it, in order of path."""

    filesystem: Any
    infos: tuple[Any, ...]

    def fingerprint(self) -> Fingerprint:
        """Give each file's path, size and mtime in ns; changes when any of them does."""
        return tuple(f"{info.path} {info.size or 0} {info.mtime_ns or 0}" for info in self.infos)


def find(path: str, endings: tuple[str, ...], base_dir: Path) -> Files:
    """List the files of a path, those of a folder by their endings (all where there are none).

    Relative paths start at `base_dir`. Raises `SnapshotError`, reason `no_files` or `unreachable`.
    """
    shown = redact_uri(path)
    with reachable(shown):
        filesystem, place = _filesystem(path, base_dir)
        infos = _infos(filesystem, place, endings, wild=_WILD[is_remote(path)])
    if not infos:
        allowed = f"a folder with {', '.join(endings)} files" if endings else "a folder with files"
        message = f"{shown} (at {place}) names no file; allowed: a file, {allowed}, or a glob."
        raise SnapshotError(message, reason="no_files", next_step="Write the file or correct the path.")
    return Files(filesystem, tuple(sorted(infos, key=lambda info: info.path)))


def _filesystem(path: str, base_dir: Path) -> tuple[Any, str]:
    """Give the filesystem and the path on it. Raises `OSError` or `ValueError`."""
    if _URI.match(path):
        # A wildcard is no character of some URIs: only the folder before it is taken for one.
        place, question, options = path.partition("?")
        fixed, star, rest = place.partition("*")
        folder, slash, name = fixed.rpartition("/") if star else (fixed, "", "")
        filesystem, start = pa.fs.FileSystem.from_uri(f"{folder}{question}{options}")
        return filesystem, f"{start}{slash}{name}{star}{rest}"
    return pa.fs.LocalFileSystem(), local_path(path, base_dir)


def local_path(path: str, base_dir: Path) -> str:
    """Give the absolute path of a local one."""
    return str(base_dir.absolute() / Path(path).expanduser())


def _infos(filesystem: Any, path: str, endings: tuple[str, ...], wild: re.Pattern[str]) -> list[Any]:
    found = filesystem.get_file_info(path)
    if found.type == pa.fs.FileType.File:
        return [found]
    if found.type == pa.fs.FileType.Directory:
        below = _below(filesystem, path)
        return [info for info in below if not endings or info.path.lower().endswith(endings)]
    if not wild.search(path):
        return []
    parts = PurePosixPath(path).parts
    fixed = next(i for i, part in enumerate(parts) if wild.search(part))
    folder = str(PurePosixPath(*parts[:fixed]))
    found_below = _below(filesystem, folder)
    return [info for info in found_below if _matches(_relative(info.path, folder).parts, parts[fixed:])]


def _below(filesystem: Any, folder: str) -> list[Any]:
    """List the files below a folder, without what writers leave beside (`_SUCCESS`, `.crc`, `_temporary/`)."""
    selector = pa.fs.FileSelector(folder, recursive=True, allow_not_found=True)
    files = [info for info in filesystem.get_file_info(selector) if info.type == pa.fs.FileType.File]
    return [info for info in files if not any(part[0] in "._" for part in _relative(info.path, folder).parts)]


def _relative(path: str, folder: str) -> PurePosixPath:
    return PurePosixPath(path).relative_to(folder)


def _matches(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Match a path folder by folder; `**` stands for any folders, also none."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _matches(parts, patterns[1:]) or (bool(parts) and _matches(parts[1:], patterns))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Tell a file that is not what it should be (cut off, another format) from one that cannot be reached."""
    try:
        yield
    except FileNotFoundError as error:
        raise changed(path) from error
    except PermissionError as error:
        message = f"{path} may not be read by this user."
        raise SnapshotError(message, reason="unreachable", next_step="Let Usher's user read it.") from error
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        # Arrow reports damage inside a file as OSError as often as it does by its own classes.
        message = f"{path} is cut off or not what its kind says: {str(error).rstrip('.')}."
        step = "Write it anew, best beside and then renamed."
        raise SnapshotError(message, reason="damaged", next_step=step) from error

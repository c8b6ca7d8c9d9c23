"""Reading trait sources: a file, a folder or a glob, local or on any filesystem that pyarrow knows by URI."""

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
import pyarrow.parquet

from actors.traits.snapshot import Table, check_schema, needed_columns
from actors.traits.stimuli import Fingerprint
from cluster.definitions.model import ParentModel, TraitSource
from cluster.errors import SnapshotError

#: What files of a folder are read, by kind; a file named by itself or by a glob may end as it likes.
_ENDINGS: Final = {"parquet": (".parquet", ".pq", ".parq"), "arrow": (".arrow", ".arrows", ".feather", ".ipc")}
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
#: In a URI only `*` is a wildcard: `?` begins its options.
_WILD: Final = {False: re.compile(r"[*?\[]"), True: re.compile(r"\*")}



@dataclass(frozen=True, slots=True)
class _Files:
    """What a source names now: a pyarrow filesystem and the files on it, in order of path."""

    filesystem: Any
    infos: tuple[Any, ...]


def is_remote(source: TraitSource) -> bool:
    """Say whether looking at the source costs a request over a network."""
    return bool(_URI.match(source.path)) and not source.path.startswith("file://")


def fingerprint(source: TraitSource, base_dir: Path) -> Fingerprint:
    """Give what tells a changed source from an unchanged one, files in order of path, without reading any.

    Raises `SnapshotError`, reason `no_files` or `unreachable`.
    """
    return _fingerprint(_find(source, base_dir))


def read_table(source: TraitSource, parent: ParentModel, base_dir: Path) -> tuple[Table, Fingerprint]:
    """Read the columns that the parent needs, and no others, from all files of the source.

    The table has the source's own types (`build_snapshot` makes it a snapshot); the fingerprint belongs to
    exactly these rows. Relative paths start at `base_dir`. Raises `SnapshotError`, reason `no_files`, `unreachable`,
    `damaged`, `missing_column`, `ambiguous_column`, `mixed_types`, or `changing` where a file changed meanwhile.
    """
    files = _find(source, base_dir)
    read = _READ[source.kind]
    tables = [read(files.filesystem, info.path, parent) for info in files.infos]
    before = _fingerprint(files)
    if fingerprint(source, base_dir) != before:
        message = f"{source.path} changed while it was read."
        raise SnapshotError(message, reason="changing", next_step="Nothing to do: it is read again.")
    return _joined(tables, source), before


def _find(source: TraitSource, base_dir: Path) -> _Files:
    if source.kind not in _READ:
        message = f"Trait sources of kind {source.kind!r} are not read yet; allowed: {', '.join(_READ)}."
        raise SnapshotError(message, reason="unknown_kind", next_step="Export the traits to Parquet or Arrow.")
    with _reachable(source.path):
        filesystem, path = _filesystem(source.path, base_dir)
        infos = _infos(filesystem, path, source.kind, wild=_WILD[is_remote(source)])
    if not infos:
        endings = ", ".join(_ENDINGS[source.kind])
        message = f"{source.path} (at {path}) names no file; allowed: a file, a folder with {endings} files, or a glob."
        raise SnapshotError(message, reason="no_files", next_step="Write the file or correct the path.")
    return _Files(filesystem, tuple(sorted(infos, key=lambda info: info.path)))


def _filesystem(path: str, base_dir: Path) -> tuple[Any, str]:
    """Give the filesystem and the path on it. Raises `OSError` or `ValueError`."""
    if _URI.match(path):
        # A wildcard is no character of some URIs: only the folder before it is taken for one.
        place, question, options = path.partition("?")
        fixed, star, rest = place.partition("*")
        folder, slash, name = fixed.rpartition("/") if star else (fixed, "", "")
        filesystem, start = pa.fs.FileSystem.from_uri(f"{folder}{question}{options}")
        return filesystem, f"{start}{slash}{name}{star}{rest}"
    return pa.fs.LocalFileSystem(), str(base_dir.absolute() / Path(path).expanduser())


def _infos(filesystem: Any, path: str, kind: str, wild: re.Pattern[str]) -> list[Any]:
    found = filesystem.get_file_info(path)
    if found.type == pa.fs.FileType.File:
        return [found]
    if found.type == pa.fs.FileType.Directory:
        return [info for info in _below(filesystem, path) if info.path.lower().endswith(_ENDINGS[kind])]
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


def _fingerprint(files: _Files) -> Fingerprint:
    return tuple((info.path, info.size or 0, info.mtime_ns or 0) for info in files.infos)


def _read_parquet(filesystem: Any, path: str, parent: ParentModel) -> Table:
    with _readable(path), filesystem.open_input_file(path) as file:
        # Only the footer is read here; a missing column is known before any data is.
        parquet = pa.parquet.ParquetFile(file)
        check_schema(parquet.schema_arrow, parent, where=path)
        return parquet.read(columns=needed_columns(parent))


def _read_arrow(filesystem: Any, path: str, parent: ParentModel) -> Table:
    """Read an IPC file, or an IPC stream where it is none."""
    with _readable(path), filesystem.open_input_file(path) as file:
        is_file = file.read(6) == b"ARROW1"
        open_reader = pa.ipc.open_file if is_file else pa.ipc.open_stream
        file.seek(0)
        schema = open_reader(file).schema
        check_schema(schema, parent, where=path)
        indices = sorted(schema.get_field_index(name) for name in needed_columns(parent))
        file.seek(0)
        return open_reader(file, options=pa.ipc.IpcReadOptions(included_fields=indices)).read_all()


_READ: Final = {"parquet": _read_parquet, "arrow": _read_arrow}


def _joined(tables: list[Table], source: TraitSource) -> Table:
    """Put the files' tables together; a column may be int32 here and float64 there, but not text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        message = f"The files of {source.path} disagree about a column's type: {error}."
        step = "Write them with one schema."
        raise SnapshotError(message, reason="mixed_types", next_step=step) from error


@contextmanager
def _reachable(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        message = f"{path} cannot be reached: {error}."
        step = "Check the path, the network and the credentials in Usher's environment."
        raise SnapshotError(message, reason="unreachable", next_step=step) from error


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Tell a file that is not what it should be (cut off, another format) from one that cannot be reached."""
    try:
        yield
    except FileNotFoundError as error:
        message = f"{path} went away while it was read."
        raise SnapshotError(message, reason="changing", next_step="Nothing to do: it is read again.") from error
    except PermissionError as error:
        message = f"{path} may not be read by this user."
        raise SnapshotError(message, reason="unreachable", next_step="Let Usher's user read it.") from error
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        # Arrow reports damage inside a file as OSError as often as it does by its own classes.
        message = f"{path} is cut off or not what its kind says: {str(error).rstrip('.')}."
        step = "Write it anew, best beside and then renamed."
        raise SnapshotError(message, reason="damaged", next_step=step) from error

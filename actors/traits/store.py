"""Immutable copies of snapshots, `PARENT/VERSION.arrow`: evaluators recover from them, the loader too."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from actors.traits.snapshot import Table, TraitSnapshot
from actors.traits.stimuli import Fingerprint, SnapshotInfo
from cluster.log.database import require_room
from cluster.log.durable_files import InSlices, replacing, sync_folder

_LOG = logging.getLogger(__name__)
_ENDING: Final = ".arrow"
#: What another node is given of a snapshot at a time.
PART_BYTES: Final = 16 * 1024 * 1024
#: Where a copy's SnapshotInfo is kept, as JSON, in the schema's metadata.
_META: Final = b"usher.snapshot"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored snapshot. `table` is mapped from the file at `path`: its memory is the page cache's."""

    info: SnapshotInfo
    path: Path
    table: Table


class SnapshotStore:
    """The folder of all parents' snapshots. One process writes; anybody may read.

    `owns` says whether this is the one: what it was writing when it was stopped must not take its successor's place.
    """

    def __init__(self, folder: Path, owns: Callable[[], bool] = lambda: True) -> None:
        self._folder = folder
        self._owns = owns

    def newest(self, parent: str) -> Stored | None:
        """Open the parent's newest snapshot; None if there is none, or none that can be read (it is loaded anew)."""
        for version in reversed(self._versions(parent)):
            path = self._path(parent, version)
            try:
                return _open(path, version)
            except (pa.ArrowException, OSError, ValueError, KeyError) as error:
                _LOG.warning("The trait snapshot %s cannot be read and is passed over: %s", path, error)
        return None

    def version(self, parent: str, version: int) -> Table | None:
        """Open one of the parent's snapshots; None where it is no longer kept or cannot be read."""
        try:
            return open_snapshot(self._path(parent, version))
        except (pa.ArrowException, OSError) as error:
            _LOG.info("The trait snapshot %s of %s is not at hand: %s", version, parent, error)
            return None

    def write(
        self, snapshot: TraitSnapshot, *, shape: str, source: str, fingerprint: Fingerprint, loaded_at_ms: int
    ) -> Stored:
        """Store a snapshot durably under the next version. Nothing is if it raises `StorageFull` or `OSError`."""
        parent = snapshot.parent
        version = max(self._versions(parent), default=0) + 1
        info = SnapshotInfo(version, shape, source, fingerprint, snapshot.row_count, loaded_at_ms, snapshot.left_out)
        path = self._path(parent, version)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        require_room(path, snapshot.table.nbytes)
        # In one piece where Arrow can: readers then take columns from the mapped file without copying them.
        table = snapshot.table.combine_chunks().replace_schema_metadata({_META: _to_json(info)})
        with replacing(path, check=self._check) as file, pa.ipc.new_file(InSlices(file), table.schema) as writer:
            writer.write_table(table)
        return _open(path, version)

    def _check(self) -> None:
        if not self._owns():
            raise OSError(errno.ESTALE, "the lease of the traits has lapsed", str(self._folder))

    def kept(self) -> list[tuple[str, int]]:
        """Give parent and version of every snapshot that is kept."""
        parents = sorted(path.name for path in self._folder.glob("*") if path.is_dir())
        return [(parent, version) for parent in parents for version in self._versions(parent)]

    def part(self, parent: str, version: int, offset: int) -> bytes | None:
        """Give the next PART_BYTES of a snapshot's file, none at its end; None where it is not kept."""
        if (parent, version) not in self.kept():
            return None
        with suppress(FileNotFoundError), self._path(parent, version).open("rb") as file:
            file.seek(offset)
            return file.read(PART_BYTES)
        return None

    def remove_below(self, parent: str, version: int) -> None:
        """Remove older versions; who has one open keeps it. Raises `OSError`."""
        old = [known for known in self._versions(parent) if known < version]
        for known in old:
            self._path(parent, known).unlink(missing_ok=True)
        if old:
            sync_folder(self._folder / parent)

    def _versions(self, parent: str) -> list[int]:
        paths = (self._folder / parent).glob(f"*{_ENDING}")
        return sorted(int(path.stem) for path in paths if path.stem.isdigit())

    def _path(self, parent: str, version: int) -> Path:
        return self._folder / parent / f"{version}{_ENDING}"


def open_snapshot(path: Path) -> Table:
    """Map the table of a stored snapshot: what an evaluator recovers from. Raises `OSError` or an Arrow error."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _open(path: Path, version: int) -> Stored:
    table = open_snapshot(path)
    info = _from_json((table.schema.metadata or {})[_META], version)
    return Stored(info, path, table.replace_schema_metadata(None))


def _to_json(info: SnapshotInfo) -> bytes:
    known = [info.shape, info.source, info.fingerprint, info.row_count, info.loaded_at_ms, dict(info.left_out)]
    return json.dumps(known).encode()


def _from_json(text: bytes, version: int) -> SnapshotInfo:
    shape, source, fingerprint, row_count, loaded_at_ms, *more = json.loads(text)
    left_out = more[0] if more else {}
    return SnapshotInfo(version, shape, source, tuple(map(str, fingerprint)), row_count, loaded_at_ms, left_out)

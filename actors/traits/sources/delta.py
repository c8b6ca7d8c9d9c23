"""Delta Lake tables by delta-rs: a version is read as it was, whatever writers do meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from actors.traits.sources.contract import Batches, needed, pieces, without_secrets
from actors.traits.sources.locations import local_path
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted, check_schema
from cluster.definitions.trait_sources import DeltaSource, is_remote
from cluster.errors import SnapshotError

_TABLE: Final = "traits"


class DeltaReader:
    """Reads a Delta table."""

    def __init__(self, source: DeltaSource, base_dir: Path) -> None:
        self._source = source
        remote = is_remote(source.path)
        self._uri = source.path if remote else local_path(source.path.removeprefix("file://"), base_dir)

    def look(self) -> Fingerprint:
        """See `Reader`: the table's version."""
        with without_secrets(self._source):
            return _fingerprint(self._open())

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """See `Reader`."""
        with without_secrets(self._source):
            table = self._open()
            check_schema([field.name for field in table.schema().fields], wanted, where=self._source.label)
            return _fingerprint(table), self._batches(table, wanted)

    def _batches(self, table: Any, wanted: Wanted) -> Batches:
        with without_secrets(self._source):
            deltalake = needed("deltalake", "delta", "delta")
            columns = ", ".join('"' + name.replace('"', '""') + '"' for name in wanted.names())
            try:
                rows = deltalake.QueryBuilder().register(_TABLE, table).execute(f"SELECT {columns} FROM {_TABLE}")
                for batch in pa.RecordBatchReader.from_stream(rows):
                    yield from pieces(batch, wanted)
            except (deltalake.exceptions.DeltaError, pa.ArrowException, OSError) as error:
                message = f"{self._source.label} cannot be read: {str(error).rstrip('.')}."
                step = "Check that every file of the table is there, and the storage's credentials."
                raise SnapshotError(message, reason="damaged", next_step=step) from error

    def _open(self) -> Any:
        deltalake = needed("deltalake", "delta", "delta")
        options = {name: value.get_secret_value() for name, value in self._source.storage_options.items()}
        try:
            return deltalake.DeltaTable(self._uri, version=self._source.version, storage_options=options or None)
        except deltalake.exceptions.TableNotFoundError as error:
            message = f"{self._source.label} is no Delta table: {str(error).rstrip('.')}."
            step = "Write the table or correct the path."
            raise SnapshotError(message, reason="no_files", next_step=step) from error
        except (deltalake.exceptions.DeltaError, OSError, ValueError) as error:
            message = f"{self._source.label} cannot be opened: {str(error).rstrip('.')}."
            step = "Check the path, the version, the network and the storage's credentials."
            raise SnapshotError(message, reason="unreachable", next_step=step) from error


def _fingerprint(table: Any) -> Fingerprint:
    # The id tells a table that was written anew, whose versions begin at 0 again.
    return (f"{table.metadata().id} {table.version()}",)

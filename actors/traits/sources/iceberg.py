"""Iceberg tables by pyiceberg: a snapshot is read as it was, whatever writers do meanwhile."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from actors.traits.sources.contract import Batches, needed, pieces, without_secrets
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted, check_schema
from cluster.definitions.trait_sources import IcebergSource
from cluster.errors import SnapshotError

#: The catalog's name where its properties give none; SQL catalogs keep several catalogs' tables apart by it.
_CATALOG: Final = "default"


class IcebergReader:
    """Reads an Iceberg table."""

    def __init__(self, source: IcebergSource) -> None:
        self._source = source

    def look(self) -> Fingerprint:
        """See `Reader`: the table's and the snapshot's id."""
        with without_secrets(self._source):
            return self._fingerprint(self._open())

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """See `Reader`."""
        with without_secrets(self._source):
            table = self._open()
            check_schema([field.name for field in table.schema().fields], wanted, where=self._source.label)
            return self._fingerprint(table), self._batches(table, wanted)

    def _batches(self, table: Any, wanted: Wanted) -> Batches:
        with without_secrets(self._source):
            try:
                scan = table.scan(selected_fields=tuple(wanted.names()), snapshot_id=self._source.snapshot_id)
                for batch in scan.to_arrow_batch_reader():
                    yield from pieces(batch, wanted)
            except FileNotFoundError as error:
                message = f"{self._source.label} lacks a file: {str(error).rstrip('.')}."
                step = "If the table was being maintained, nothing to do: it is read again."
                raise SnapshotError(message, reason="changing", next_step=step) from error
            except ValueError as error:
                raise self._unreadable(error, "bad_query", "Check snapshot_id.") from error
            except (pa.ArrowException, OSError) as error:
                raise self._unreadable(error, "damaged", "Check that every file of the table is there.") from error

    def _open(self) -> Any:
        catalogs = needed("pyiceberg.catalog", "iceberg", "iceberg")
        exceptions = needed("pyiceberg.exceptions", "iceberg", "iceberg")
        properties = {name: value.get_secret_value() for name, value in self._source.catalog.items()}
        try:
            return catalogs.load_catalog(properties.pop("name", _CATALOG), **properties).load_table(self._source.table)
        except (exceptions.NoSuchTableError, exceptions.NoSuchNamespaceError) as error:
            raise self._unreadable(
                error, "no_files", "Write the table, or correct its name or catalog.name."
            ) from error
        except exceptions.NotInstalledError as error:
            step = "On every machine of Usher: pip install 'usher-audiences[iceberg]'"
            raise self._unreadable(error, "missing_extra", step) from error
        except Exception as error:
            # Each catalog raises what its own client does: SQLAlchemy's, requests', botocore's errors.
            step = "Check the catalog's properties, the network and the credentials."
            raise self._unreadable(error, "unreachable", step) from error

    def _unreadable(self, error: Exception, reason: str, step: str) -> SnapshotError:
        message = f"{self._source.label} cannot be read: {str(error).rstrip('.')}."
        return SnapshotError(message, reason=reason, next_step=step)

    def _fingerprint(self, table: Any) -> Fingerprint:
        snapshot = table.current_snapshot()
        newest = None if snapshot is None else snapshot.snapshot_id
        return (f"{table.metadata.table_uuid} {self._source.snapshot_id or newest}",)

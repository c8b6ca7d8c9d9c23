"""Queries by DuckDB, over its own file or over what the query names: Parquet, CSV, attached databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from actors.traits.sources.contract import (
    TRAITS_BATCH_ROWS_MAX,
    Batches,
    lists_from_json,
    needed,
    pieces,
    without_secrets,
)
from actors.traits.sources.deadline import deadline
from actors.traits.sources.locations import find, local_path
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted, check_schema
from cluster.definitions.trait_sources import DuckdbSource, is_remote
from cluster.errors import SnapshotError

_IN_MEMORY: Final = ":memory:"


class DuckdbReader:
    """Runs one SELECT, in a database that is opened for it alone and read-only."""

    def __init__(self, source: DuckdbSource, base_dir: Path) -> None:
        self._source = source
        self._base_dir = base_dir

    def look(self) -> Fingerprint:
        """See `Reader`: the watched files; a database's own write-ahead log is one of them."""
        with without_secrets(self._source):
            return tuple(
                line for path in self._source.watched() for line in find(path, (), self._base_dir).fingerprint()
            )

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """See `Reader`. What is written while the query runs is seen by the next look."""
        return self.look(), self._batches(wanted)

    def _batches(self, wanted: Wanted) -> Batches:
        with without_secrets(self._source), self._connected() as (duckdb, connection):
            try:
                with deadline(self._source.timeout, connection.interrupt, self._source.label):
                    rows = connection.sql(self._query(duckdb))
                    check_schema(rows.columns, wanted, where=self._source.label)
                    for batch in rows.to_arrow_reader(TRAITS_BATCH_ROWS_MAX):
                        yield from pieces(lists_from_json(batch.select(wanted.names()), wanted), wanted)
            except duckdb.Error as error:
                raise self._failed(duckdb, error) from error

    def _query(self, duckdb: Any) -> str:
        """Give the query, which must be one statement that only reads."""
        statements = duckdb.extract_statements(self._source.query)
        if len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT:
            return self._source.query
        kinds = ", ".join(statement.type.name for statement in statements) or "no statement"
        message = f"The query of {self._source.label} is {kinds}; allowed: one SELECT."
        raise SnapshotError(message, reason="bad_query", next_step="Correct the query in the definitions.")

    @contextmanager
    def _connected(self) -> Iterator[tuple[Any, Any]]:
        duckdb = needed("duckdb", "duckdb", "duckdb")
        path = self._source.path
        place = _IN_MEMORY if not path else path if is_remote(path) else local_path(path, self._base_dir)
        # Nothing is fetched from the network by a query's mention of it: extensions are the operator's to install.
        config = {"file_search_path": str(self._base_dir.absolute()), "autoinstall_known_extensions": False}
        try:
            connection = duckdb.connect(place, read_only=bool(path), config=config)
        except duckdb.Error as error:
            raise self._failed(duckdb, error) from error
        try:
            yield duckdb, connection
        finally:
            connection.close()

    def _failed(self, duckdb: Any, error: Exception) -> SnapshotError:
        if isinstance(error, duckdb.IOException | duckdb.HTTPException | duckdb.ConnectionException):
            reason, step = "unreachable", "Check the paths; a file that another process writes is read when it is free."
        elif isinstance(error, duckdb.ProgrammingError):
            reason, step = "bad_query", "Correct the query in the definitions."
        else:
            reason, step = "query_failed", "Run the query by hand to see more."
        message = f"{self._source.label} failed: {str(error).strip().rstrip('.')}."
        return SnapshotError(message, reason=reason, next_step=step)

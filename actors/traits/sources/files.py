"""Parquet, Arrow and CSV: one file after the other, each opened by its kind's own function, never read whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow as pa

from actors.traits.sources import arrow, csv, parquet
from actors.traits.sources.contract import Batch, Batches, Schema, changed, pieces, without_secrets
from actors.traits.sources.locations import Files, find, readable
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted
from cluster.definitions.trait_sources import ArrowSource, CsvSource, ParquetSource
from cluster.errors import SnapshotError

FileSource: TypeAlias = ParquetSource | ArrowSource | CsvSource
#: Opens one file: filesystem, path, what is wanted, the source; gives the needed columns' schema and batches.
Open: TypeAlias = Callable[[Any, str, Wanted, Any], AbstractContextManager[tuple[Schema, Iterator[Batch]]]]

#: What files of a folder are read, by kind; a file named by itself or by a glob may end as it likes.
_ENDINGS: Final[dict[str, tuple[str, ...]]] = {
    "parquet": (".parquet", ".pq", ".parq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
    "csv": (".csv", ".csv.gz", ".csv.bz2", ".csv.zst", ".csv.lz4", ".tsv", ".tsv.gz"),
}
_OPEN: Final[dict[str, Open]] = {"parquet": parquet.opened, "arrow": arrow.opened, "csv": csv.opened}


class FileReader:
    """Reads a source of files."""

    def __init__(self, source: FileSource, base_dir: Path) -> None:
        self._source = source
        self._base_dir = base_dir

    def look(self) -> Fingerprint:
        """See `Reader`."""
        return self._find().fingerprint()

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """See `Reader`."""
        files = self._find()
        return files.fingerprint(), self._batches(files, wanted)

    def _find(self) -> Files:
        with without_secrets(self._source):
            return find(self._source.path, _ENDINGS[self._source.kind], self._base_dir)

    def _batches(self, files: Files, wanted: Wanted) -> Batches:
        with without_secrets(self._source):
            schemas: list[Schema] = []
            for info in files.infos:
                with (
                    readable(info.path),
                    _OPEN[self._source.kind](files.filesystem, info.path, wanted, self._source) as (schema, batches),
                ):
                    self._check_alike(schemas, schema)
                    for batch in batches:
                        yield from pieces(batch, wanted)
            if self._find().fingerprint() != files.fingerprint():
                raise changed(self._source.label)

    def _check_alike(self, schemas: list[Schema], schema: Schema) -> None:
        """Raise unless files agree: a column may be int32 here and float64 there, but not text."""
        schemas.append(schema)
        try:
            schemas[:] = [pa.unify_schemas(schemas, promote_options="permissive")]
        except pa.ArrowException as error:
            message = f"The files of {self._source.label} disagree about a column's type: {str(error).rstrip('.')}."
            step = "Write them with one schema."
            raise SnapshotError(message, reason="mixed_types", next_step=step) from error

"""CSV files, compressed by their ending or not. Everything is read as text: `007` is a key, not a number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv

from actors.traits.sources.contract import Batch, Schema, lists_from_json
from actors.traits.wanted import Wanted, check_schema
from cluster.definitions.trait_sources import CsvSource


@contextmanager
def opened(filesystem: Any, path: str, wanted: Wanted, source: CsvSource) -> Iterator[tuple[Schema, Iterator[Batch]]]:
    """Open a file; its first block is read twice, once for the columns' names."""
    read = pa.csv.ReadOptions(encoding=source.encoding, column_names=source.column_names)
    parse = pa.csv.ParseOptions(delimiter=source.delimiter, quote_char=source.quote, newlines_in_values=True)
    with filesystem.open_input_stream(path) as file, pa.csv.open_csv(file, read, parse) as head:
        check_schema(head.schema.names, wanted, where=path)
    convert = pa.csv.ConvertOptions(
        include_columns=wanted.names(),
        column_types=dict.fromkeys(wanted.names(), pa.string()),
        null_values=source.null_values,
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with filesystem.open_input_stream(path) as file, pa.csv.open_csv(file, read, parse, convert) as rows:
        yield rows.schema, (lists_from_json(batch, wanted) for batch in rows)

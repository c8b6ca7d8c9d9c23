"""From the columns of a batch to the filters that match each row.

What a row costs follows the filters that match it: equalities, thresholds and patterns are an index from values to
filters (`filter_tables.py`), and only what a filter asks besides is tested, on the rows that the index selected.
Negated operators are true for a missing value, all others false (semantics.md §2).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.evaluator.batch_columns import BatchColumns
from actors.evaluator.filter_tables import FilterTables, build
from actors.evaluator.filter_trees import equality_key, equality_keys
from actors.evaluator.filters import evaluate_test
from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import address_of
from actors.evaluator.kernels.matching import match_rows
from actors.evaluator.layout import I32, I64
from cluster.definitions.model import Filter

__all__ = ["Matcher", "equality_key", "equality_keys", "match_hits"]
_WORD_BYTES: Final = 8


class Matcher:
    """The filters of one event model, indexed. None among them matches every row."""

    def __init__(self, filters: Sequence[Filter | None]) -> None:
        self.tables = build(filters)

    def match(self, columns: Mapping[str, pa.Array], rows: int) -> tuple[I32, I32]:
        """Give each row's filters as offsets [rows + 1] and ids: indexes into `filters`, ascending within a row."""
        batch = _Batch(1, columns.__getitem__)
        batch.add(0, self.tables, None, 0)
        return batch.match(np.zeros(rows, np.int64))


def match_hits(
    matchers: Sequence[Matcher],
    model_columns: Sequence[Mapping[str, str]],
    hits: pa.RecordBatch,
    models: NDArray[np.int16],
    first_filter: NDArray[np.int32],
) -> tuple[I32, I32]:
    """Give each hit's filters as offsets [hits + 1] and ids `first_filter[model] + index`, ascending within a hit.

    By model: `matchers`, its columns' names in `hits`, `first_filter`. Hits keep their places: each model reads its
    own rows of the columns, whatever their order.
    """
    batch = _Batch(len(matchers), hits.column)
    for model in np.flatnonzero(np.bincount(models, minlength=len(matchers))).tolist():
        batch.add(model, matchers[model].tables, model_columns[model], int(first_filter[model]))
    return batch.match(models.astype(np.int64))


class _Batch:
    """One call of the kernels for all models of a batch, and a second one where regular expressions are asked."""

    def __init__(self, models: int, column_of: Callable[[str], pa.Array]) -> None:
        self._columns = BatchColumns(column_of)
        self._calls = np.zeros((models, at.CALL_WIDTH), np.int64)
        self._words: list[int] = []
        #: by model that has rows: its first pattern's number in questions, ascending, and where to look it up
        self._firsts: list[int] = []
        self._asked: list[tuple[FilterTables, Mapping[str, str] | None]] = []
        self._patterns = 0

    def add(self, model: int, tables: FilterTables, names: Mapping[str, str] | None, first_filter: int) -> None:
        """Add a model that has rows; `names` are those of its columns in the batch, None: the same."""
        asking = -1 if tables.regexes else 0
        table = address_of(tables.table)
        columns = _WORD_BYTES * len(self._words)
        self._calls[model, : at.CALL_NEXT] = (table, columns, first_filter, self._patterns, 0, asking)
        for column, kind, folds in tables.facets:
            self._words += self._columns.words(column if names is None else names[column], kind, folds)
        self._firsts.append(self._patterns)
        self._asked.append((tables, names))
        self._patterns += tables.pattern_count

    def match(self, models: I64) -> tuple[I32, I32]:
        """Match the rows, given each one's model."""
        words = np.array(self._words, np.int64)
        calls = self._calls.reshape(-1)
        self._calls[:, at.CALL_COLUMNS] += address_of(words)
        offsets, ids, asked = match_rows(calls, models)
        if len(asked):
            known = self._answer(np.unique(asked))
            self._calls[:, at.CALL_KNOWN] = address_of(known)
            self._calls[:, at.CALL_KNOWN_COUNT] = len(known)
            offsets, ids, _ = match_rows(calls, models)
        return offsets, ids

    def _answer(self, questions: I64) -> I64:
        """Run each regular expression once, over the distinct values that it is asked for; give what is true."""
        patterns = questions >> at.VALUE_BITS
        cuts = np.flatnonzero(np.diff(patterns)) + 1
        truths = [self._truth(int(part[0] >> at.VALUE_BITS), part) for part in np.split(questions, cuts)]
        return questions[np.concatenate(truths)]

    def _truth(self, number: int, questions: I64) -> NDArray[np.bool_]:
        place = bisect_right(self._firsts, number) - 1
        tables, names = self._asked[place]
        facet, test = tables.regexes[number - self._firsts[place]]
        column = tables.facets[facet][0]
        values = self._columns.dictionary(column if names is None else names[column])
        return evaluate_test(values.take(pa.array(questions & (2**at.VALUE_BITS - 1))), test)

"""From the columns of a batch to the filters that match each row.

What a row costs follows the filters that match it: equalities, thresholds and patterns are an index from values to
filters (`tables.py`), and only what a filter asks besides is tested, on the rows that the index selected.
Negated operators are true for a missing value, all others false (semantics.md §2).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.kernels.addresses import address_of
from actors.evaluator.kernels.matching import match_rows
from actors.evaluator.layout import I32, I64
from actors.evaluator.matching.columns import BatchColumns
from actors.evaluator.matching.operators import evaluate_test
from actors.evaluator.matching.tables import FilterTables, build
from actors.evaluator.matching.trees import equality_key, equality_keys
from cluster.definitions.model import Filter, Test

__all__ = ["Matcher", "equality_key", "equality_keys", "match_hits"]
_WORD_BYTES: Final = 8
_NOTHING: Final = np.zeros(0, np.int64)


class Matcher:
    """The filters of one event model, indexed. None among them matches every row.

    Made once a program: 10 to 30 us and some hundred bytes a filter. Holds addresses, so it does not leave its process.
    Matching changes nothing in it: threads may share one.
    """

    def __init__(self, filters: Sequence[Filter | None]) -> None:
        self.tables = build(filters)

    def match(self, columns: Mapping[str, pa.Array], rows: int) -> tuple[I32, I32]:
        """Give each row's filters as offsets [rows + 1] and ids: indexes into `filters`, ascending within a row.

        Columns are of the decoder's types, strings plain or as a dictionary; null is missing. Costs about 10 us a call
        and 20 to 50 ns a row with a handful of matches. Raises InternalError for another type or length.
        """
        batch = _Batch(1, columns.__getitem__, rows)
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

    By model: `matchers`, its columns' names in `hits`, `first_filter`. Each model's kernel reads its own rows of the
    columns where they are: nothing is sorted or copied, and one call serves one hit or thousands (10 us, and 2 us a
    model that has hits).
    """
    batch = _Batch(len(matchers), hits.column, len(models))
    for model in np.flatnonzero(np.bincount(models, minlength=len(matchers))).tolist():
        batch.add(model, matchers[model].tables, model_columns[model], int(first_filter[model]))
    return batch.match(models.astype(np.int64))


class _Batch:
    """One call of the kernels for all models of a batch, and another where programs ask regular expressions.

    A regular expression that selects filters is run beforehand, over the distinct values of its column; one that is
    left to be tested is run on what it is asked of. Either is run once a batch.
    """

    def __init__(self, models: int, column_of: Callable[[str], pa.Array], rows: int) -> None:
        self._columns = BatchColumns(column_of, rows)
        self._calls = np.zeros((models, at.CALL_WIDTH), np.int64)
        self._words: list[int] = []
        #: by model that has rows: its first pattern's number in questions, ascending, and where to look it up
        self._firsts: list[int] = []
        self._tables: list[tuple[FilterTables, Mapping[str, str] | None]] = []
        self._patterns = 0
        #: (column, test) -> the places in its dictionary where it is true
        self._truths: dict[tuple[str, Test], I64] = {}
        self._known: list[I64] = []

    def add(self, model: int, tables: FilterTables, names: Mapping[str, str] | None, first_filter: int) -> None:
        """Add a model that has rows, models ascending; `names`: of its columns in the batch, None: the same."""
        call = (address_of(tables.table), _WORD_BYTES * len(self._words), first_filter, self._patterns)
        self._calls[model, : len(call)] = call
        self._calls[model, at.CALL_ASKING] = bool(tables.other_regexes)
        for column, kind, folds in tables.facets:
            self._words += self._columns.words(column if names is None else names[column], kind, folds)
        for pattern, (facet, test) in tables.selecting_regexes.items():
            places = self._places(_column(tables, names, facet), test)
            self._known.append(places | ((self._patterns + pattern) << at.VALUE_BITS))
        self._firsts.append(self._patterns)
        self._tables.append((tables, names))
        self._patterns += tables.pattern_count

    def match(self, models: I64) -> tuple[I32, I32]:
        """Match the rows, given each one's model."""
        words = np.array(self._words, np.int64)
        self._calls[:, at.CALL_COLUMNS] += address_of(words)
        known = np.concatenate(self._known) if self._known else _NOTHING
        offsets, ids, asked = self._run(models, known)
        if len(asked):
            self._calls[:, at.CALL_ASKING] = 0
            known = np.sort(np.concatenate([known, self._answer(np.unique(asked))]))
            offsets, ids, _ = self._run(models, known)
        return offsets, ids

    def _run(self, models: I64, known: I64) -> tuple[I32, I32, I64]:
        self._calls[:, at.CALL_KNOWN] = address_of(known)
        self._calls[:, at.CALL_KNOWN_COUNT] = len(known)
        result: tuple[I32, I32, I64] = match_rows(self._calls.reshape(-1), models)
        return result

    def _places(self, column: str, test: Test) -> I64:
        places = self._truths.get((column, test))
        if places is None:
            truth = evaluate_test(self._columns.dictionary(column), test)
            places = self._truths[column, test] = np.flatnonzero(truth)
        return places

    def _answer(self, questions: I64) -> I64:
        """Give the questions whose answer is yes, of ascending ones."""
        cuts = np.flatnonzero(np.diff(questions >> at.VALUE_BITS)) + 1
        return np.concatenate([self._answer_one(part) for part in np.split(questions, cuts)])

    def _answer_one(self, questions: I64) -> I64:
        """As `_answer`, of one regular expression."""
        number = int(questions[0] >> at.VALUE_BITS)
        place = bisect_right(self._firsts, number) - 1
        tables, names = self._tables[place]
        facet, test = tables.other_regexes[number - self._firsts[place]]
        values = self._columns.dictionary(_column(tables, names, facet))
        asked = values.take(pa.array(questions & (2**at.VALUE_BITS - 1)))
        return questions[evaluate_test(asked, test)]


def _column(tables: FilterTables, names: Mapping[str, str] | None, facet: int) -> str:
    column = tables.facets[facet][0]
    return column if names is None else names[column]

"""Operators on columns: a whole Arrow column against one test.

Laws (semantics.md §2): a negated operator is the exact complement of its positive one, so it is true for a missing
value; every other one is false for a missing value. Strings compare by code point; `ignore_case` compares
`str.casefold()` of both sides. Dictionary columns are tested on their distinct values only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.definitions.model import Test
from cluster.errors import InternalError

Bools = NDArray[np.bool_]

#: Negated operator -> the positive one it complements.
NEGATED: Final = {
    "ne": "eq",
    "not_in": "in",
    "not_contains": "contains",
    "not_has": "has",
}


def true_for_missing(test: Test) -> bool:
    """Say what the test gives for a missing value."""
    return test.op in NEGATED or (test.op == "is_set" and test.operand is False)


def evaluate_test(column: pa.Array, test: Test) -> Bools:
    """Give the test's truth for each row of a column of the declared type; null = missing. O(rows)."""
    if pa.types.is_dictionary(column.type) and test.op != "is_set":
        return _by_dictionary(column, test)
    if test.op == "is_set":
        valid = _numpy(pc.is_valid(column))
        return valid if test.operand is True else ~valid
    result = _positive(column, NEGATED.get(test.op, test.op), test)
    if column.null_count:
        result &= _numpy(pc.is_valid(column))
    return ~result if test.op in NEGATED else result


def _numpy(values: pa.Array) -> Bools:
    result: Bools = np.asarray(values.to_numpy(zero_copy_only=False)).astype(np.bool_)
    return result


def _by_dictionary(column: pa.DictionaryArray, test: Test) -> Bools:
    table = np.append(evaluate_test(column.dictionary, test), true_for_missing(test))
    result: Bools = table[dictionary_codes(column)]
    return result


def dictionary_codes(column: pa.DictionaryArray) -> NDArray[np.int64]:
    """Give each row's place in the dictionary, missing as the place after the last."""
    size = len(column.dictionary)
    codes = column.indices
    if codes.null_count:
        codes = codes.fill_null(size)
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)


def _positive(column: pa.Array, op: str, test: Test) -> Bools:
    if test.type == "list":
        return _list(column, op, test)
    if test.type == "string":
        return _string(column, op, test)
    if test.type == "boolean":
        return _boolean(column, op, test)
    return _ordered(column, op, test)


def _boolean(column: pa.Array, op: str, test: Test) -> Bools:
    values = _numpy(column.fill_null(False))
    wanted = _operands(test) if op == "in" else (test.operand,)
    result = np.zeros(len(values), np.bool_)
    for operand in wanted:
        result |= values == bool(operand)
    return result


def _ordered(column: pa.Array, op: str, test: Test) -> Bools:
    kind = np.float64 if test.type == "number" else np.int64
    filled = column.fill_null(0) if column.null_count else column
    values = np.asarray(filled.to_numpy(zero_copy_only=False)).astype(kind, copy=False)
    operand: Any = test.operand
    if op == "in":
        found: Bools = np.isin(values, np.array(operand, kind))
        return found
    if op == "between":
        low, high = operand
        inside: Bools = (values >= low) & (values <= high)
        return inside
    compare = _COMPARE.get(op)
    if compare is None:
        message = f"no operator {op} on {test.type}"
        raise InternalError(message)
    result: Bools = compare(values, operand)
    return result


_COMPARE: Final = {
    "eq": np.equal,
    "gt": np.greater,
    "gte": np.greater_equal,
    "lt": np.less,
    "lte": np.less_equal,
}


def _string(column: pa.Array, op: str, test: Test) -> Bools:
    if op == "matches":
        return _numpy(
            pc.match_substring_regex(column, str(test.operand), ignore_case=test.ignore_case).fill_null(False)
        )
    values = folded(column) if test.ignore_case else column
    operands = [_fold(operand, test) for operand in _operands(test)]
    if op == "eq":
        result = pc.equal(values, operands[0])
    elif op == "in":
        result = pc.is_in(values, value_set=pa.array(operands, pa.string()))
    elif op == "contains":
        result = pc.match_substring(values, operands[0])
    elif op == "starts_with":
        result = pc.starts_with(values, operands[0])
    elif op == "ends_with":
        result = pc.ends_with(values, operands[0])
    else:
        message = f"no operator {op} on string"
        raise InternalError(message)
    return _numpy(result.fill_null(False) if result.null_count else result)


def folded(values: pa.Array) -> pa.Array:
    """Casefold a string column: ASCII in Arrow, the rest by `str.casefold` (they agree on ASCII)."""
    if bool(pc.all(pc.string_is_ascii(values), min_count=0).as_py()):
        return pc.ascii_lower(values)
    return pa.array([None if v is None else v.casefold() for v in values.to_pylist()], pa.string())


def _fold(operand: Any, test: Test) -> str:
    return str(operand).casefold() if test.ignore_case else str(operand)


def _operands(test: Test) -> Sequence[Any]:
    return test.operand if isinstance(test.operand, tuple) else (test.operand,)


def _list(column: pa.Array, op: str, test: Test) -> Bools:
    """`has` / `has_any`: some element is among the operands; `has_all`: each operand is an element."""
    rows = len(column)
    flat = column.flatten()
    lengths = np.asarray(pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False))
    row_of = np.repeat(np.arange(rows), lengths)
    if test.ignore_case:
        flat = folded(flat)
    wanted = [_fold(operand, test) for operand in _operands(test)]
    groups = [[operand] for operand in wanted] if op == "has_all" else [wanted]
    result = np.ones(rows, np.bool_)
    for group in groups:
        found = np.zeros(rows, np.bool_)
        found[row_of[_numpy(pc.is_in(flat, value_set=pa.array(group, pa.string())))]] = True
        result &= found
    return result

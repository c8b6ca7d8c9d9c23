"""Tables of addresses: how kernels see the arrays of the program, of the state and of a slice of hits.

`ProgramTable(arrays)` holds the address and shape of each array of `ProgramArrays`, `StateTable` and the others of
theirs; inside a kernel `s.users` is a *column*, read and written by its address, without reference counts. A
table must not outlive its arrays: it keeps them. Without numba (NUMBA_DISABLE_JIT, the plain twins) a table hands out
the arrays themselves, so the same source runs in plain Python, every index checked.

A kernel may take for granted that a table does not change while it runs, and that nobody writes what the program says:
loads of both are marked invariant, so the compiler keeps what it has read instead of reading it again behind each
store. And an index counts from the start, never from the end: numba's own arrays test each for its sign.
"""

from __future__ import annotations

import operator
from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import (
    NativeValue,
    intrinsic,
    lower_builtin,
    models,
    overload_attribute,
    register_model,
    typeof_impl,
    unbox,
)

from actors.evaluator.layout import BatchKeys, HitArrays, ProgramArrays, StateArrays

#: Words of one array in a table: address, rows, columns.
_WORDS: Final = 3
#: numpy's names of the annotations.
_KINDS: Final = {"I64": "int64", "I32": "int32", "I16": "int16", "U64": "uint64", "U8": "uint8", "F64": "float64"}


class _Checked(np.ndarray[Any, Any]):
    """For the plain twins: an index from the end is as wrong as one behind it."""

    def __getitem__(self, index: Any) -> Any:
        _check(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        _check(index)
        super().__setitem__(index, value)


def _check(index: Any) -> None:
    places = index if isinstance(index, tuple) else (index,)
    # A test may take a slice.
    if any(not isinstance(place, slice) and place < 0 for place in places):
        raise IndexError(index)


class _Table:
    """Addresses of the arrays of a named tuple; `address` is where the table itself lies."""

    __slots__ = ("_arrays", "_table", "address")

    def __init__(self, arrays: NamedTuple) -> None:
        self._arrays: Any = arrays
        rows = [
            (array.__array_interface__["data"][0], array.shape[0], array.shape[1] if array.ndim > 1 else 1)
            for array in arrays
        ]
        for (name, kind), array in zip(arrays.__annotations__.items(), arrays, strict=True):
            assert array.flags.c_contiguous, name
            assert array.dtype == np.dtype(_KINDS[kind.__forward_arg__]), name
        self._table = np.array(rows, np.int64).reshape(-1)
        self.address = int(self._table.__array_interface__["data"][0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arrays, name).view(_Checked)


class ProgramTable(_Table):
    """The table of `ProgramArrays`."""


class StateTable(_Table):
    """The table of `StateArrays`; made anew whenever an array was replaced by a larger one."""


class HitTable(_Table):
    """The table of `HitArrays`."""


class BatchKeysTable(_Table):
    """The table of `BatchKeys`."""


class _TableType(types.Type):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class ColumnType(types.Type):  # type: ignore[misc]
    """An array of a table; its value is the address of the table's three words about it."""

    def __init__(self, dtype: Any, dimensions: int, constant: bool) -> None:
        self.dtype = dtype
        self.dimensions = dimensions
        self.constant = constant
        super().__init__(name=f"UsherColumn({dtype}, {dimensions}, {constant})")


_TYPES: Final[dict[type[_Table], _TableType]] = {
    table: _TableType(f"Usher{table.__name__}") for table in (ProgramTable, StateTable, HitTable, BatchKeysTable)
}


@typeof_impl.register(_Table)
def _typeof_table(value: _Table, context: object) -> _TableType:
    return _TYPES[type(value)]


@register_model(_TableType)
@register_model(ColumnType)
class _AddressModel(models.PrimitiveModel):  # type: ignore[misc]
    """An address is one 64-bit integer."""

    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, ir.IntType(64))


@unbox(_TableType)
def _unbox_table(kind: Any, value: Any, context: Any) -> NativeValue:
    attribute = context.pyapi.object_getattr_string(value, "address")
    address = context.pyapi.long_as_longlong(attribute)
    context.pyapi.decref(attribute)
    return NativeValue(address, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


def _load(builder: Any, pointer: Any, constant: bool) -> Any:
    loaded = builder.load(pointer)
    if constant:
        loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


def _word(builder: Any, entry: Any, place: int) -> Any:
    """Load one of a table's words about an array."""
    pointer = builder.inttoptr(entry, ir.IntType(64).as_pointer())
    return _load(builder, builder.gep(pointer, [ir.IntType(64)(place)]), True)


def element_pointer(context: Any, builder: Any, column: ColumnType, entry: Any, index_types: Any, indexes: Any) -> Any:
    """Emit the address of an element; `index_types`, `indexes`: one integer, or two for a matrix."""
    places = [
        context.cast(builder, index, kind, types.int64) for index, kind in zip(indexes, index_types, strict=True)
    ]
    place = places[0]
    if column.dimensions == 2:
        place = builder.add(builder.mul(place, _word(builder, entry, 2)), places[1])
    kind = context.get_data_type(column.dtype)
    return builder.gep(builder.inttoptr(_word(builder, entry, 0), kind.as_pointer()), [place])


def _indexes(builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    if isinstance(kind, types.BaseTuple):
        return kind.types, cgutils.unpack_tuple(builder, value)
    return (kind,), (value,)


def _fits(column: Any, index: Any) -> bool:
    if not isinstance(column, ColumnType):
        return False
    if column.dimensions == 1:
        return isinstance(index, types.Integer)
    return isinstance(index, types.BaseTuple) and len(index) == 2 and all(isinstance(i, types.Integer) for i in index)


@infer_global(operator.getitem)
class _TypeOfElement(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        column, index = args
        return signature(column.dtype, column, index) if _fits(column, index) else None


@infer_global(operator.setitem)
class _TypeOfStore(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        column, index, _ = args
        if not _fits(column, index) or column.constant:
            return None
        return signature(types.void, column, index, column.dtype)


def _get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    column = sig.args[0]
    pointer = element_pointer(context, builder, column, args[0], *_indexes(builder, sig.args[1], args[1]))
    return _load(builder, pointer, column.constant)


def _set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    column = sig.args[0]
    pointer = element_pointer(context, builder, column, args[0], *_indexes(builder, sig.args[1], args[1]))
    builder.store(args[2], pointer)
    return context.get_dummy_value()


for _index in (types.Integer, types.BaseTuple):
    lower_builtin(operator.getitem, ColumnType, _index)(_get)
    lower_builtin(operator.setitem, ColumnType, _index, types.Any)(_set)


@intrinsic
def _size(typing_context: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _word(builder, args[0], 1)

    return types.int64(column), generate


@overload_attribute(ColumnType, "size", jit_options={"forceinline": True})
def _size_of(column: Any) -> Any:
    def get(column: Any) -> Any:
        return _size(column)

    return get


def _expose(kind: _TableType, name: str, place: int, column: ColumnType) -> None:
    @intrinsic
    def entry(typing_context: Any, table: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.add(args[0], ir.IntType(64)(8 * _WORDS * place))

        return column(table), generate

    def attribute(table: Any) -> Any:
        def get(table: Any) -> Any:
            return entry(table)

        return get

    overload_attribute(kind, name, jit_options={"forceinline": True})(attribute)


#: The matrices among the arrays; all others are vectors.
_MATRICES: Final = frozenset({"users", "words", "halves", "default_words", "values", "fresh_words", "fresh_times"})
#: What kernels write; nothing else changes while they run.
_WRITTEN: Final[dict[type[_Table], frozenset[str]]] = {
    ProgramTable: frozenset(),
    StateTable: frozenset(StateArrays._fields),
    HitTable: frozenset({"outcomes"}),
    BatchKeysTable: frozenset({"slots", "hashes"}),
}

for _table, _arrays in (
    (ProgramTable, ProgramArrays), (StateTable, StateArrays), (HitTable, HitArrays), (BatchKeysTable, BatchKeys),
):
    for _place, (_name, _annotation) in enumerate(_arrays.__annotations__.items()):
        _dtype = getattr(types, _KINDS[_annotation.__forward_arg__])
        _column = ColumnType(_dtype, 2 if _name in _MATRICES else 1, _name not in _WRITTEN[_table])
        _expose(_TYPES[_table], _name, _place, _column)

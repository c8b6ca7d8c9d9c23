"""Tables of addresses: how kernels see the program's and the state's arrays.

`ProgramTable(arrays)` and `StateTable(arrays)` hold the address and shape of each array of `ProgramArrays` and
`StateArrays`; inside a kernel `s.users` is that array, read by its address, without reference counts. A table must
not outlive its arrays: it keeps them. Without numba (NUMBA_DISABLE_JIT, the plain twins) a table hands out the
arrays themselves, so the same source runs in plain Python.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    overload_attribute,
    register_model,
    typeof_impl,
    unbox,
)

from actors.evaluator.layout import ProgramArrays, StateArrays

#: Words of one array in a table: address, rows, columns.
_WORDS: Final = 3


class _Table:
    """Addresses of the arrays of a named tuple; `address` is where the table itself lies."""

    __slots__ = ("_arrays", "_table", "address")

    def __init__(self, arrays: NamedTuple) -> None:
        self._arrays: Any = arrays
        rows = [
            (array.__array_interface__["data"][0], array.shape[0], array.shape[1] if array.ndim > 1 else 1)
            for array in arrays
        ]
        assert all(array.flags.c_contiguous for array in arrays)
        self._table = np.array(rows, np.int64).reshape(-1)
        self.address = int(self._table.__array_interface__["data"][0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arrays, name)


class ProgramTable(_Table):
    """The table of `ProgramArrays`."""


class StateTable(_Table):
    """The table of `StateArrays`; made anew whenever an array was replaced by a larger one."""


class _TableType(types.Type):  # type: ignore[misc]
    def __init__(self, name: str) -> None:
        super().__init__(name=name)


_PROGRAM = _TableType("UsherProgramTable")
_STATE = _TableType("UsherStateTable")


@typeof_impl.register(ProgramTable)
def _typeof_program(value: ProgramTable, context: object) -> _TableType:
    return _PROGRAM


@typeof_impl.register(StateTable)
def _typeof_state(value: StateTable, context: object) -> _TableType:
    return _STATE


@register_model(_TableType)
class _TableModel(models.PrimitiveModel):  # type: ignore[misc]
    """An address is one 64-bit integer."""

    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, ir.IntType(64))


@unbox(_TableType)
def _unbox_table(kind: Any, value: Any, context: Any) -> NativeValue:
    attribute = context.pyapi.object_getattr_string(value, "address")
    address = context.pyapi.long_as_longlong(attribute)
    context.pyapi.decref(attribute)
    return NativeValue(address, is_error=cgutils.is_not_null(context.builder, context.pyapi.err_occurred()))


@intrinsic
def _word(typing_context: Any, table: Any, place: Any) -> Any:
    """Load word `place` of a table."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load(builder.gep(pointer, [arguments[1]]))

    return types.int64(table, types.int64), generate


@intrinsic
def _pointer(typing_context: Any, address: Any) -> Any:
    """Take an integer as an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


def _expose(kind: _TableType, name: str, place: int, dtype: Any, dimensions: int) -> None:
    start = place * _WORDS

    def vector(table: Any) -> Any:
        def get(table: Any) -> Any:
            return carray(_pointer(_word(table, start)), (_word(table, start + 1),), dtype)

        return get

    def matrix(table: Any) -> Any:
        def get(table: Any) -> Any:
            shape = (_word(table, start + 1), _word(table, start + 2))
            return carray(_pointer(_word(table, start)), shape, dtype)

        return get

    overload_attribute(kind, name, jit_options={"forceinline": True})(vector if dimensions == 1 else matrix)


#: The matrices among the arrays; all others are vectors.
_MATRICES: Final = frozenset({"users", "words", "default_words"})
_DTYPES: Final = {
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "U64": np.uint64,
    "U8": np.uint8,
    "F64": np.float64,
}

for _kind, _arrays in ((_PROGRAM, ProgramArrays), (_STATE, StateArrays)):
    for _place, (_name, _annotation) in enumerate(_arrays.__annotations__.items()):
        _expose(_kind, _name, _place, _DTYPES[_annotation.__forward_arg__], 2 if _name in _MATRICES else 1)

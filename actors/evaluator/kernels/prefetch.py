"""Prefetching: the hits of a batch say early which memory they will want, and waiting for it is most of the cost.

`prefetch(array, i)` asks for the cache line of a vector's element, `prefetch_row(matrix, i, j)` for that of a
matrix's; nothing waits and nothing changes, so an index that is out of date is harmless (not one out of bounds).
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_READ, _KEEP, _DATA = 0, 3, 1


def _emit(context: Any, builder: Any, kind: Any, value: Any, indexes: list[Any]) -> Any:
    array = context.make_array(kind)(context, builder, value)
    place = cgutils.get_item_pointer(context, builder, kind, array, indexes, wraparound=False)
    place = builder.bitcast(place, cgutils.voidptr_t)
    word = ir.IntType(32)
    function = builder.module.declare_intrinsic(
        "llvm.prefetch", [cgutils.voidptr_t],
        ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word]),
    )
    builder.call(function, [place, word(_READ), word(_KEEP), word(_DATA)])
    return context.get_dummy_value()


@intrinsic
def _vector(typing_context: Any, array: Any, i: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _emit(context, builder, signature.args[0], arguments[0], [arguments[1]])

    return types.void(array, types.intp), generate


@intrinsic
def _matrix(typing_context: Any, array: Any, i: Any, j: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _emit(context, builder, signature.args[0], arguments[0], [arguments[1], arguments[2]])

    return types.void(array, types.intp, types.intp), generate


def _nothing(*_: Any) -> None:
    """In plain Python there is nothing to ask for."""


prefetch = _nothing if numba.config.DISABLE_JIT else _vector
prefetch_row = _nothing if numba.config.DISABLE_JIT else _matrix

"""Prefetching: the hits of a batch say early which memory they will want, and waiting for it is most of the cost.

`prefetch(column, i)` asks for the cache line of a vector's element, `prefetch_row(column, i, j)` for that of a
matrix's; nothing waits and nothing changes, so an index that is out of date is harmless, and so is one out of bounds.
"""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from actors.evaluator.kernels.tables import element_pointer

_READ, _KEEP, _DATA = 0, 3, 1


def _emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    column, *kinds = signature.args
    place = element_pointer(context, builder, column, arguments[0], kinds, arguments[1:])
    word = ir.IntType(32)
    function = builder.module.declare_intrinsic(
        "llvm.prefetch", [cgutils.voidptr_t],
        ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, word, word, word]),
    )
    builder.call(function, [builder.bitcast(place, cgutils.voidptr_t), word(_READ), word(_KEEP), word(_DATA)])
    return context.get_dummy_value()


@intrinsic
def _vector(typing_context: Any, column: Any, i: Any) -> Any:
    return types.void(column, i), _emit


@intrinsic
def _matrix(typing_context: Any, column: Any, i: Any, j: Any) -> Any:
    return types.void(column, i, j), _emit


def _nothing(*_: Any) -> None:
    """In plain Python there is nothing to ask for."""


prefetch = _nothing if numba.config.DISABLE_JIT else _vector
prefetch_row = _nothing if numba.config.DISABLE_JIT else _matrix

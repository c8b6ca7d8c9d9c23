"""Bits of a word, by the processor's own instruction."""

from __future__ import annotations

from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def _count(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _plainly(word: Any) -> int:
    number = int(word)
    return (number & -number).bit_length() - 1


#: Give the place of the lowest set bit of a uint64 that is not 0.
trailing_zeros = _plainly if numba.config.DISABLE_JIT else _count

"""Loads and stores by address, for kernels that read any number of Arrow buffers.

A kernel with an argument per buffer would be compiled anew for each number of columns, and again for read-only
memory; and arrays handed from function to function are counted each time, which cost ten times what the matching
itself does. Who passes an address keeps what lies there alive, and passes its length: without numba
(NUMBA_DISABLE_JIT, the plain twins) places are checked against that; compiled code drops it.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray


def address_of(array: NDArray[Any]) -> int:
    """Give where an array lies; it must be C-contiguous, and kept."""
    assert array.flags.c_contiguous
    return int(array.__array_interface__["data"][0])


def _plain(address: int, length: int, place: int, kind: Any) -> Any:
    assert 0 <= place < length, (place, length)
    return kind.from_address(int(address) + int(place) * ctypes.sizeof(kind))


def _loader(bits: int, kind: Any, signed: bool = True) -> Any:
    """Make `load(address, length, place)`: the place-th integer of `bits` bits, as int64 (uint64 if not `signed`)."""
    if numba.config.DISABLE_JIT:
        wide = np.int64 if signed else np.uint64
        return lambda address, length, place: wide(_plain(address, length, place, kind).value)

    @intrinsic
    def load(typing_context: Any, address: Any, length: Any, place: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            # Arrow promises no more than bytes for text, and IPC no more than its buffers'.
            value = builder.load(builder.gep(pointer, [arguments[2]]), align=1)
            if bits == 64:
                return value
            return builder.zext(value, ir.IntType(64)) if bits == 8 else builder.sext(value, ir.IntType(64))

        return (types.int64 if signed else types.uint64)(types.int64, types.int64, types.int64), generate

    return load


def _storer(bits: int, kind: Any, signed: bool = True) -> Any:
    """Make `store(address, length, place, value)`."""
    if numba.config.DISABLE_JIT:

        def plain(address: int, length: int, place: int, value: int) -> None:
            _plain(address, length, place, kind).value = int(value)

        return plain

    @intrinsic
    def store(typing_context: Any, address: Any, length: Any, place: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            kept = arguments[3] if bits == 64 else builder.trunc(arguments[3], ir.IntType(bits))
            builder.store(kept, builder.gep(pointer, [arguments[2]]), align=1)
            return context.get_dummy_value()

        stored = types.int64 if signed else types.uint64
        return types.void(types.int64, types.int64, types.int64, stored), generate

    return store


load_u8: Final = _loader(8, ctypes.c_uint8)
load_i32: Final = _loader(32, ctypes.c_int32)
load_i64: Final = _loader(64, ctypes.c_int64)
load_u64: Final = _loader(64, ctypes.c_uint64, signed=False)
store_i32: Final = _storer(32, ctypes.c_int32)
store_i64: Final = _storer(64, ctypes.c_int64)
store_u64: Final = _storer(64, ctypes.c_uint64, signed=False)

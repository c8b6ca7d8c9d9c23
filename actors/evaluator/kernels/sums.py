"""Sums over a window: kept in two float64 parts, so that taking a value out again leaves no trace of it.

The sum of all values in the deque is `high + low`, up to `error`: the parts hold 106 bits and every rounding beyond
them is noted (the error-free transformations of Knuth and Dekker; Shewchuk, Adaptive Precision Floating-Point
Arithmetic, 1997). With values of a like size nothing is ever rounded and `high` is what `math.fsum` gives. Only where a
comparison falls within a bound that is not 0 is the sum made anew from the deque, exactly: O(events in the window).
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.chunks import entry, insert, place_for, pop_front
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    D_COUNT,
    EQ,
    GT,
    GTE,
    LT,
    OF_AVERAGE,
    PAIR,
    SUM_ERROR,
    SUM_HIGH,
    SUM_LOW,
)

#: Parts of an exact sum: float64 has 2,098 binary digits, a part holds at least 52 of them.
_PARTS = 48


@inner
def sum_clear(s: StateTable, at: int) -> None:
    """Make the sum 0."""
    s.reals[at + SUM_HIGH] = 0.0
    s.reals[at + SUM_LOW] = 0.0
    s.reals[at + SUM_ERROR] = 0.0


@inner
def _add(s: StateTable, at: int, value: float) -> None:
    high = s.reals[at + SUM_HIGH]
    total = high + value
    back = total - high
    lost = (high - (total - back)) + (value - back)
    low = s.reals[at + SUM_LOW]
    rest = low + lost
    back = rest - low
    s.reals[at + SUM_ERROR] += abs((low - (rest - back)) + (lost - back))
    high = total + rest
    s.reals[at + SUM_HIGH] = high
    s.reals[at + SUM_LOW] = rest - (high - total)


@inner
def sum_insert(s: StateTable, at: int, ts: int, value: float) -> None:
    """Add an event in its place by time."""
    place = insert(s, at, PAIR, place_for(s, at, PAIR, ts))
    s.arena[place] = ts
    s.reals[place + 1] = value
    _add(s, at, value)


@inner
def sum_pop(s: StateTable, at: int) -> None:
    """Take the oldest event out."""
    value = s.reals[entry(s, at, PAIR, 0) + 1]
    pop_front(s, at, PAIR)
    if s.arena[at + D_COUNT] == 0:
        sum_clear(s, at)
    else:
        _add(s, at, -value)


@kernel
def _sum_anew(s: StateTable, at: int) -> None:
    """Sum the deque exactly (Shewchuk's growing expansion, as `math.fsum`); what overflows stays infinite."""
    parts = np.zeros(_PARTS, np.float64)
    used = 0
    for i in range(s.arena[at + D_COUNT]):
        value = s.reals[entry(s, at, PAIR, i) + 1]
        kept = 0
        for j in range(used):
            other = parts[j]
            if abs(value) < abs(other):
                value, other = other, value
            high = value + other
            low = other - (high - value)
            if low != 0.0 and kept < _PARTS - 1:
                parts[kept] = low
                kept += 1
            value = high
        parts[kept] = value
        used = kept + 1
    sum_clear(s, at)
    if used > 0 and not abs(parts[used - 1]) < np.inf:
        # Beyond float64: infinite as a plain sum is, and made anew at each comparison until it fits.
        total = 0.0
        for i in range(s.arena[at + D_COUNT]):
            total += s.reals[entry(s, at, PAIR, i) + 1]
        s.reals[at + SUM_HIGH] = total
        s.reals[at + SUM_ERROR] = np.inf
        return
    j = used - 1
    while j >= 0:
        _add(s, at, parts[j])
        j -= 1


@inner
def _holds(compare: int, value: float, operand: float) -> bool:
    if compare == GT:
        return value > operand
    if compare == GTE:
        return value >= operand
    if compare == LT:
        return value < operand
    if compare == EQ:
        return value == operand
    return value <= operand


@inner
def sum_holds(p: ProgramTable, s: StateTable, leaf: int, at: int) -> bool:
    """Say whether the leaf's comparison holds for the events in the deque; an average of none is undefined: False."""
    count = s.arena[at + D_COUNT]
    divisor = 1.0
    if p.leaf_of[leaf] == OF_AVERAGE:
        if count == 0:
            return False
        divisor = float(count)
    operand = p.leaf_value[leaf]
    error = s.reals[at + SUM_ERROR]
    # `not <=`: also where something overflowed on the way and the parts are no numbers any more.
    if not error <= 0.0 and not abs(s.reals[at + SUM_HIGH] - operand * divisor) > 2.0 * error:
        _sum_anew(s, at)
    return _holds(p.leaf_compare[leaf], s.reals[at + SUM_HIGH] / divisor, operand)

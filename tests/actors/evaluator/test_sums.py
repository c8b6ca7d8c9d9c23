"""Sums in two parts, against exact fractions: whatever came, went and came late, and right where it is compared."""

from __future__ import annotations

import math
import operator
from bisect import bisect_right
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.evaluator.compiling import compile_program
from actors.evaluator.kernels.chunks import clear
from actors.evaluator.kernels.sums import sum_clear, sum_holds, sum_insert, sum_pop
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import D_COUNT, OF_AVERAGE, S_ARENA_TOP, SUM_ERROR, SUM_HIGH, SUM_LOW
from actors.evaluator.state import new_state
from tests.actors.evaluator.examples import published

COMPARED = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le, "eq": operator.eq}
AT = 8
#: (ms since the newest one, value) to add; None: the oldest one goes.
Step = tuple[int, float] | None

PROGRAM = compile_program(published(audiences=[
    {"id": f"{kind}_{comparison}", "parent": "users",
     "where": {"event": "order", kind: "amount", comparison: 0, "within": "1h"}}
    for kind in ("sum", "avg") for comparison in COMPARED
])).arrays  # fmt: skip

PRICES = st.sampled_from([0.1, 0.2, 0.3, 19.99, 4.95, -4.95, 1e-3, 100.0, 1 / 3])
SIZES = st.sampled_from([1.0, -1.0, 1e16, -1e16, 1e100, -1e100, 1e300, -1e300, 2.0**-1074, 1e-300, 2.0**53, 1.5])
ANY = st.floats(-1e150, 1e150)


def steps(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Step]]:
    one = st.tuples(st.sampled_from([0, 0, 0, 1, 3, 20]), values)
    return st.lists(st.one_of(one, one, one, st.none()), max_size=40)


class Sum:
    """A sum alone in an arena, and what it should hold."""

    def __init__(self) -> None:
        self.state = new_state(PROGRAM)
        self.state.scalars[S_ARENA_TOP] = 64
        self.table, self.program = StateTable(self.state), ProgramTable(PROGRAM)
        clear(self.table, AT)
        sum_clear(self.table, AT)
        self.held: list[tuple[int, float]] = []
        self.now = 0

    def step(self, step: Step) -> None:
        if step is None:
            if self.held:
                sum_pop(self.table, AT)
                self.held.pop(0)
            return
        self.now += 1
        ts = self.now - step[0]
        sum_insert(self.table, AT, ts, step[1])
        self.held.insert(bisect_right([each for each, _ in self.held], ts), (ts, step[1]))

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.held]

    @property
    def parts(self) -> tuple[float, float, float]:
        """The high part, the low part, and what they may be off by."""
        high, low, error = (float(self.state.reals[AT + word]) for word in (SUM_HIGH, SUM_LOW, SUM_ERROR))
        return high, low, error

    def compares(self, operand: float) -> dict[str, bool]:
        PROGRAM.leaf_value[:] = operand
        return {name: sum_holds(self.program, self.table, leaf, AT) for leaf, name in LEAVES.items()}


def _leaves() -> dict[int, str]:
    codes = list(COMPARED)
    return {
        leaf: ("avg" if PROGRAM.leaf_of[leaf] == OF_AVERAGE else "sum") + "_" + codes[PROGRAM.leaf_compare[leaf]]
        for leaf in range(len(PROGRAM.leaf_of))
    }


LEAVES = _leaves()


def expected(values: list[float], operand: float) -> dict[str, bool]:
    """By `math.fsum`, as the contract says; an average of none is undefined."""
    total = math.fsum(values)
    found = {f"sum_{name}": compare(total, operand) for name, compare in COMPARED.items()}
    for name, compare in COMPARED.items():
        found[f"avg_{name}"] = bool(values) and compare(total / len(values), operand)
    return found


def near(value: float) -> list[float]:
    return [value, math.nextafter(value, -math.inf), math.nextafter(value, math.inf)]


def operands(values: list[float]) -> list[float]:
    """What to compare with: the sum and the average, a float beside them, and others."""
    total = math.fsum(values)
    return sorted({*near(total), *near(total / max(1, len(values))), 0.0, 100.0})


@given(st.one_of(steps(PRICES), steps(SIZES), steps(st.one_of(PRICES, ANY))))
@example([(0, 1e100), (0, 1.0), (0, 1e300), (0, 1.0), None, (0, -1e300)])
def test_two_parts_are_the_exact_sum_up_to_the_error_they_tell(history: list[Step]) -> None:
    total = Sum()
    for step in history:
        total.step(step)
        exact = sum(map(Fraction, total.values), Fraction())
        high, low, error = total.parts
        # The error is a float64 too, and rounded itself: comparisons allow twice as much.
        assert abs(Fraction(high) + Fraction(low) - exact) <= 2 * Fraction(error)
        if not total.values:
            assert total.parts == (0.0, 0.0, 0.0)
        if error == 0.0:
            assert high == math.fsum(total.values)


@given(steps(PRICES))
def test_with_prices_nothing_is_ever_rounded(history: list[Step]) -> None:
    total = Sum()
    for step in history:
        total.step(step)
        assert total.parts[2] == 0.0
    for operand in operands(total.values):
        assert total.compares(operand) == expected(total.values, operand), operand


@given(st.one_of(steps(SIZES), steps(st.one_of(PRICES, ANY))))
@example([(0, 1.0), (0, 1e16), (0, 5e-324)])
@example([(0, 1e100), (0, 1.0), (0, 1e300), (0, 1.0), None, (0, -1e300)])
@example([(0, 1e200), (0, 1e100), (0, 1.0), (0, 1e300), None, None, (0, -1e300)])
def test_with_any_values_comparisons_are_right_but_for_the_last_bit(history: list[Step]) -> None:
    total = Sum()
    for step in history:
        total.step(step)
    values = total.values
    results = [math.fsum(values), *([math.fsum(values) / len(values)] if values else [])]
    for operand in operands(values):
        last_bit = total.parts[2] > 0 and any(abs(operand - result) <= 2 * math.ulp(result) for result in results)
        assert total.compares(operand) == expected(values, operand) or last_bit, operand


@pytest.mark.parametrize("value", [0.1, 19.99, 1 / 3])
def test_thousands_of_comings_and_goings_leave_no_trace(value: float) -> None:
    """A window that slides: what a plain running sum loses grows; here nothing is lost."""
    total = Sum()
    rng = np.random.default_rng(1)
    drift = 0.0
    for number, noise in enumerate(rng.normal(0, 1e6, 5_000)):
        total.step((0, float(noise)))
        drift += float(noise)
        if number >= 3:
            drift -= total.values[0]
            total.step(None)
    for _ in range(3):
        drift -= total.values[0]
        total.step(None)
        total.step((0, value))
        drift += value
    assert total.parts[0] == math.fsum([value] * 3)
    assert drift != math.fsum([value] * 3), "else this proves nothing"


def test_what_overflowed_is_exact_again_when_it_has_gone() -> None:
    total = Sum()
    for step in [(0, 1e308), (0, 1e308), (0, 0.1), (0, 0.2)]:
        total.step(step)
    total.compares(0.5)  # beyond what float64 holds the contract says nothing
    total.step(None)
    total.step(None)
    assert total.state.arena[AT + D_COUNT] == 2
    for operand in near(math.fsum([0.1, 0.2])):
        assert total.compares(operand) == expected([0.1, 0.2], operand)

"""The kernels as plain Python, every index checked, against the compiled ones: no write out of bounds, same results."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from actors.evaluator import compacting, inputs, state, steps, structures
from tests.actors.evaluator import wide
from tests.properties.engine import Engine, comparable
from tests.reference.evaluator import ReferenceEvaluator

SEEDS = (1, 2)
STEPS = 16


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything begins with next to no room; monkeypatch gives the old sizes back."""
    for module, names in (
        (state, ("USERS", "OUT_ROWS", "ARENA_WORDS", "IDS", "_TABLE_BITS_MIN")),
        (compacting, ("DEPARTED_USERS_MIN", "FREE_WORDS_MIN")),
        (structures, ("PAGE_WORDS_MAX", "PAGE_LEAVES_MAX", "SIMPLE_LEAVES_MAX")),
        (inputs, ("SLICE_HITS",)),
        (steps, ("_NEW_USERS",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    wide.shrink()


@pytest.mark.usefixtures("small")
def test_plain_kernels_stay_in_bounds_and_give_what_compiled_ones_give() -> None:
    command = [sys.executable, "-m", "tests.actors.evaluator.wide", str(STEPS), *map(str, SEEDS)]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    plain = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert plain.returncode == 0, plain.stderr[-4_000:]
    assert plain.stdout.split("\n")[:-1] == [wide.digest(seed, STEPS, compact=True) for seed in SEEDS]


@pytest.mark.parametrize("seed", SEEDS)
def test_neither_room_nor_moves_can_be_seen(seed: int, request: pytest.FixtureRequest) -> None:
    roomy = wide.digest(seed, STEPS, compact=False)
    request.getfixturevalue("small")
    assert wide.digest(seed, STEPS, compact=True) == roomy


@pytest.mark.parametrize("seed", SEEDS)
def test_wide_workloads_give_the_transitions_of_the_reference(seed: int) -> None:
    found = Engine(wide.document(seed), {}, wide.START_MS)
    expected = ReferenceEvaluator(wide.document(seed), {}, wide.START_MS)
    for step in wide.history(seed, STEPS):
        kind, after, value = step
        now = expected.clock + after
        wide.play(found, step, compact=False)
        if kind == "batch":
            for row in value:
                expected.event(row, now)
        elif kind == "traits":
            expected.traits(value[0], value[1], now)
        elif kind == "definitions":
            expected.publish(value, now)
        expected.advance(now)
        assert comparable(found.transitions) == comparable(expected.transitions), step

"""Seeds: some that are always the same, and some that nobody has seen."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from actors.evaluator.worker import EvaluatorWorker
from tests.simulation.plans import make_plan
from tests.simulation.runner import run_plan, run_seed
from tests.simulation.story import smallest_story

#: Always the same seeds, in parts.
FIXED_SEEDS = range(0, 80, 20)
#: How long fresh ones are run, in s.
FRESH_S = 6.0
FRESH_SEEDS_MAX = 150
ROOT = Path(__file__).parents[2]


def hold(seed: int) -> Counter[str]:
    """Run a seed; where something does not hold, fail with the story."""
    result = run_seed(seed)
    if result.violations:
        again = f"python -m tests.simulation --seed {seed} --seeds 1"
        pytest.fail(f"{again}\n{smallest_story(result.run.plan, result.violations[0])}", pytrace=False)
    return Counter(result.run.counts)


def side_by_side(*commands: tuple[Mapping[str, str], Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Run Python with an environment and arguments each, all at once."""

    def run(command: tuple[Mapping[str, str], Sequence[str]]) -> subprocess.CompletedProcess[str]:
        environment, arguments = command
        return subprocess.run(
            [sys.executable, *arguments], cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    with ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(run, commands))


@pytest.mark.parametrize("first", FIXED_SEEDS)
def test_fixed_seeds_hold(first: int) -> None:
    survived = sum((hold(seed) for seed in range(first, first + FIXED_SEEDS.step)), Counter())
    assert survived["kill"] + survived["kill_in_commit"] + survived["kill_all"] > 5, "faults do happen"
    assert survived["power"] + survived["power_in_commit"] > 2
    assert survived["recovery from a checkpoint"] > 2


def test_fresh_seeds_hold() -> None:
    first = secrets.randbelow(1 << 40)
    print(f"fresh seeds from {first}")
    until = time.monotonic() + FRESH_S
    for seed in range(first, first + FRESH_SEEDS_MAX):
        hold(seed)
        if time.monotonic() > until:
            break


def test_without_faults_everything_is_sent_once() -> None:
    for seed in range(5):
        plan = make_plan(seed, ())
        # An evaluator with room for two waiting batches refuses a third without any fault.
        result = run_plan(replace(plan, tightness=replace(plan.tightness, batches_waiting=256)))
        assert result.violations == []
        assert {status for sent in result.run.sent for status in sent.statuses} == {200}
        for receiver in result.run.receivers.values():
            ids = [taken.id for taken in receiver.taken]
            assert len(ids) == len(set(ids))


def test_a_seed_is_the_same_run_in_every_process() -> None:
    script = (
        "from tests.simulation.runner import run_seed\n"
        "from tests.simulation.story import digest\n"
        "print(' '.join(digest(run_seed(seed).run) for seed in range(6)))\n"
    )
    first, second = side_by_side(*(({"PYTHONHASHSEED": salt}, ["-c", script]) for salt in ("1", "2")))
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert len(set(first.stdout.split())) == 6


def test_a_failing_run_is_made_smaller_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EvaluatorWorker, "next_due_ms", lambda self: None)
    plan = make_plan(0)
    violations = run_plan(plan).violations
    story = smallest_story(plan, violations[0], seconds=40)
    assert "membership_is_the_references" in story
    assert re.search("[12] requests, 0 faults", story), "no fault is needed to see that a timer is dropped"
    assert "entered" in story


def test_the_command_counts_and_explains_itself() -> None:
    command = ["-m", "tests.simulation"]
    told, unknown = side_by_side(
        ({}, [*command, "--seeds", "2", "--seed", "3", "--faults", "kill,power", "--story"]),
        ({}, [*command, "--faults", "meteor"]),
    )
    assert told.returncode == 0, told.stderr
    assert "2 seeds from 3:" in told.stdout
    assert "the story (virtual seconds" in told.stdout
    assert unknown.returncode == 2
    assert "meteor" in unknown.stderr
    assert "Traceback" not in unknown.stderr

"""A full window: the oldest event goes, and is counted. In plain Python, where the bound can be made small."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import numpy as np
from actors.evaluator.kernels import feeding
feeding.WINDOW_EVENTS_MAX = 5
from actors.evaluator.machine import EvaluatorMachine
from tests.actors.evaluator.test_memory import START_MS, defined, views
np.seterr(over="ignore")

window = {"event": "view", "within": "5m"}
machine = EvaluatorMachine(defined({
    "five": {**window, "sum": "amount", "gte": 5}, "six": {**window, "sum": "amount", "gte": 6},
    "late": {"event": "view", "between_ago": ["1s", "5m"], "at_least": 6},
    "pair": {"sequence": [{"event": "view"}, {"event": "view"}], "within": "5m"},
    "left": {**window, "after": "0s", "not_followed_by": {"event": "order"}},
}))
machine.handle_batch(views(["u"] * 8, START_MS + np.arange(8)), 0)
machine.handle_batch(views(["u"], np.array([START_MS + 8]), np.array([START_MS - 1])), 0)
machine.tick(START_MS + 10_000)
print({name: machine.is_member(name, "u") for name in sorted(machine.program.audiences)})
print(machine.counters()["events_capped"])
# The sum's oldest event that is left is the fourth: it lapses first.
machine.tick(START_MS + 3 + 300_000 - 1)
print(machine.is_member("five", "u"))
machine.tick(START_MS + 3 + 300_000)
print(machine.is_member("five", "u"))
"""


def test_the_oldest_event_of_a_full_window_goes_and_is_counted() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    assert done.stdout.splitlines() == [
        "{'five': True, 'late': False, 'left': True, 'pair': True, 'six': False}",
        # Each of four structures lets three of eight go, and refuses the one that is older than all.
        "16",
        "True",
        "False",
    ]

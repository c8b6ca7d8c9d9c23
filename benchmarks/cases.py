"""The cases by name, and the process one runs in: `python -m benchmarks.cases NAME [--quick]`.

Speaks JSON lines on stdout: `{"step": ...}` while it works, at the end `{"result": CaseResult}` or `{"error": ...}`.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.results import CaseResult
from cluster.errors import UsherError

#: Says what is being done now.
Step = Callable[[str], None]

#: Where each case is; imported only in its own process.
CASES: dict[str, str] = {
    "engine": "benchmarks.case_engine",
    "audiences": "benchmarks.bench_audiences",
    "users": "benchmarks.bench_users",
    "waves": "benchmarks.bench_waves",
    "publish": "benchmarks.case_publish",
    "recovery": "benchmarks.bench_recovery",
    "read": "benchmarks.bench_read",
    "latency": "benchmarks.bench_latency",
    "ingest": "benchmarks.bench_ingest",
}


def run_case(name: str, step: Step, *, quick: bool) -> CaseResult:
    """Run a case in this process; raises what it raises."""
    began = time.monotonic()
    measure: Callable[[bool, Step], CaseResult] = importlib.import_module(CASES[name]).measure
    result = measure(quick, step)
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - began, 1), quick=quick)


def _say(**message: Any) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the case that the command line names; 1 where it could not be measured."""
    name = sys.argv[1]
    try:
        result = run_case(name, lambda text: _say(step=text), quick="--quick" in sys.argv[2:])
    except UsherError as error:
        _say(error=str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    _say(result=result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

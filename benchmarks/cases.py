"""The cases by name, and the process one runs in: `python -m benchmarks.cases NAME [OPTION]...`.

Options: `--quick`, `--peer=PEER` (PEERS_CASE alone, may be repeated), `--minutes=N` (MINUTES_CASE alone).

Speaks JSON lines on stdout: `{"step": ...}` while it works, at the end `{"result": CaseResult}` or `{"error": ...}`.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
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
    "traits": "benchmarks.bench_traits",
    "publish": "benchmarks.case_publish",
    "recovery": "benchmarks.bench_recovery",
    "log": "benchmarks.bench_log",
    "delivery": "benchmarks.bench_delivery",
    "read": "benchmarks.bench_read",
    "latency": "benchmarks.bench_latency",
    "ingest": "benchmarks.bench_ingest",
    "chaos": "benchmarks.case_chaos",
    "scale": "benchmarks.bench_scale",
}


#: The case that can be measured beside other engines.
PEERS_CASE = "engine"
#: The case that can go on for longer.
MINUTES_CASE = "chaos"


def run_case(
    name: str, step: Step, *, quick: bool, peers: Sequence[str] = (), minutes: float | None = None
) -> CaseResult:
    """Run a case in this process, PEERS_CASE with these other engines, MINUTES_CASE for so long.

    Raises what it raises.
    """
    began = time.monotonic()
    measure: Callable[..., CaseResult] = importlib.import_module(CASES[name]).measure
    further: dict[str, Any] = {**({"peers": peers} if peers else {}), **({"minutes": minutes} if minutes else {})}
    result = measure(quick, step, **further)
    return msgspec.structs.replace(result, seconds=round(time.monotonic() - began, 1), quick=quick)


def _say(**message: Any) -> None:
    sys.stdout.write(msgspec.json.encode(message).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the case that the command line names; 1 where it could not be measured."""
    name, *options = sys.argv[1:]
    peers = [option.removeprefix("--peer=") for option in options if option.startswith("--peer=")]
    minutes = next((float(option[10:]) for option in options if option.startswith("--minutes=")), None)
    try:
        result = run_case(
            name, lambda text: _say(step=text), quick="--quick" in options, peers=peers, minutes=minutes
        )
    except UsherError as error:
        _say(error=str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    _say(result=result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

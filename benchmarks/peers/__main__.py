"""`python -m benchmarks.peers [flink] [--quick] [--json]`: the engine against its peers, on the same events."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from benchmarks.bench_engine import published_of
from benchmarks.machine import describe, in_words
from benchmarks.peers import PEERS, PeerResult, run_peer
from benchmarks.workloads import engine_workload
from cluster.errors import UsherError


def main() -> int:
    """Run the peers named (all of them if none is); 1 where one cannot run or makes other transitions."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    options.add_argument("names", nargs="*", help=f"of {', '.join(PEERS)}; all if none is named")
    options.add_argument("--quick", action="store_true", help="few events: whether it works, not how fast")
    options.add_argument("--json", action="store_true", help="one JSON object a peer")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.names if name not in PEERS]:
        options.error(f"no peer {', '.join(unknown)}; allowed: {', '.join(PEERS)}")
    workload = engine_workload(users=10_000, events=100_000) if chosen.quick else engine_workload()
    failed = False
    for name in chosen.names or PEERS:
        try:
            result = run_peer(name, workload, published_of(workload))
        except UsherError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        failed |= not result.same_transitions
        print(json.dumps(dataclasses.asdict(result)) if chosen.json else _said(result))
    return int(failed)


def _said(result: PeerResult) -> str:
    same = "the same transitions" if result.same_transitions else "OTHER TRANSITIONS"
    return (
        f"{result.name} {result.version}: {result.peer_per_cpu_s:,.0f} events a processor second "
        f"({result.peer_per_s:,.0f}/s), Usher {result.engine_per_cpu_s:,.0f}: {result.ratio} times; {same}, "
        f"{result.transitions:,} of them.\n{in_words(describe())}"
    )


if __name__ == "__main__":
    sys.exit(main())

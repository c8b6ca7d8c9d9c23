"""`python -m benchmarks.peers [NAME...] [--quick] [--json]`: the engine and other engines, nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.bench_engine import published_of, sized_workload
from benchmarks.machine import describe
from benchmarks.peers import PEERS
from benchmarks.peers.comparing import Comparison, compare
from cluster.cli.output import print_json, say, stdout, table
from cluster.errors import UsherError


def main(arguments: Sequence[str]) -> int:
    """Compare and print; 1 where transitions differ or a peer cannot run, with the others measured all the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Other engines on the same events.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(PEERS)}; all without a name")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the events: whether it works")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.names if name not in PEERS]:
        parser.error(f"there is no peer {', '.join(unknown)}; allowed: {', '.join(PEERS)}")
    workload = sized_workload(quick=asked.quick)
    published = published_of(workload)
    found: list[Comparison] = []
    failed: dict[str, str] = {}
    for name in dict.fromkeys(asked.names or PEERS):
        try:
            found.append(compare(name, workload, published, step=lambda text: say(f"{text} …")))
        except UsherError as error:
            failed[name] = str(error)
            say(f"{name}: {error}")
    if asked.json:
        print_json({"machine": describe(), "quick": asked.quick, "events": len(workload),
                    "peers": [to_document(each) for each in found], "failed": failed})
    elif found:
        stdout().print(table(["peer", "events/CPU s", "engine's", "times", "events/s", "same transitions"],
                             [to_row(each) for each in found]))
    return 0 if not failed and all(each.same_transitions for each in found) else 1


def to_document(comparison: Comparison) -> dict[str, Any]:
    """Give a comparison as JSON values."""
    peer = comparison.peer
    return {
        "name": peer.name,
        "version": peer.version,
        "events_per_s": round(peer.events_per_s),
        "events_per_cpu_s": round(peer.events_per_cpu_s),
        "engine_events_per_cpu_s": round(comparison.engine_events_per_cpu_s),
        "ratio": round(comparison.ratio, 2),
        "transitions": len(peer.transitions),
        "same_transitions": comparison.same_transitions,
        "notes": peer.notes,
    }


def to_row(comparison: Comparison) -> list[object]:
    """Give a comparison as a row of the table."""
    row = to_document(comparison)
    return [f"{row['name']} {row['version']}", f"{row['events_per_cpu_s']:,}", f"{row['engine_events_per_cpu_s']:,}",
            f"{row['ratio']:.2f}", f"{row['events_per_s']:,}", "yes" if row["same_transitions"] else "NO"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

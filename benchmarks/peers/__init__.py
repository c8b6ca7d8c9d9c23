"""Other engines on the `engine` benchmark's events: `python -m benchmarks.peers [NAME...]`; see benchmarks/README.md.

`comparing.run_peer` measures one alone, `comparing.compare` in turn with Usher's engine, held to the same transitions.
"""

from __future__ import annotations

#: Peers by name: the module whose `command(folder)` serves passes over the files in a folder.
PEERS: dict[str, str] = {
    "flink": "benchmarks.peers.flink_peer",
    "bytewax": "benchmarks.peers.bytewax_peer",
    "pathway": "benchmarks.peers.pathway_peer",
}

"""Bytewax as a peer: `flows/bytewax_flow.py` under a Python environment with Bytewax and pyarrow."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.installing import environment_of, python_of

REQUIREMENTS = ("bytewax==0.21.1", "pyarrow>=18")


def command(folder: Path) -> list[str]:
    """Give the command that serves passes over the files in `folder`; raises PeerUnavailable where pip fails."""
    environment = environment_of("bytewax", REQUIREMENTS)
    return [str(python_of(environment)), "-m", "benchmarks.peers.flows.bytewax_flow", str(folder)]

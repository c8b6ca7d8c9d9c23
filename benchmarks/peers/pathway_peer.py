"""Pathway as a peer: `flows/pathway_flow.py` under a Python environment with Pathway and what it brings (1.6 GB)."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers.installing import environment_of, python_of

REQUIREMENTS = ("pathway==0.33.0",)


def command(folder: Path) -> list[str]:
    """Give the command that serves passes over the files in `folder`; raises PeerUnavailable where pip fails."""
    environment = environment_of("pathway", REQUIREMENTS)
    return [str(python_of(environment)), "-m", "benchmarks.peers.flows.pathway_flow", str(folder)]

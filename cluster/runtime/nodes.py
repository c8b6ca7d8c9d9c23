"""Which of Ray's nodes Usher is on, who goes where, and under which address each node's edge listens.

The home node is the launcher's: controller, delivery and trait loader are there, beside the data dir. Every node that
Usher uses has an edge of its own. Evaluators are spread where what they keep outlives a node: logs in Kafka,
checkpoints at a state URI. Otherwise they stay at home, beside their files.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.errors import DataDirError

#: A Ray resource: where any node has it, only those that do are used (`ray start --resources '{"usher": 1}'`).
NODE_RESOURCE: Final = "usher"
#: Digits of a node's id that name what is on it.
_DIGITS: Final = 8
#: The names of unix sockets must be shorter than 108 bytes; ours add 20 to their folder.
_FOLDER_BYTES_MAX: Final = 80


@dataclass(frozen=True, slots=True)
class Node:
    """A Ray node that Usher uses. `address` is that of its machine as Ray knows it."""

    id: str
    address: str

    @property
    def short(self) -> str:
        """What names it in the names of its processes."""
        return self.id[:_DIGITS]


def used_nodes(reported: Iterable[Mapping[str, Any]], home: str) -> tuple[Node, ...]:
    """Give the nodes that are used, of what `ray.nodes()` says: home first, whatever its resources, then by id."""
    alive = [node for node in reported if node["Alive"]]
    marked = {node["NodeID"] for node in alive if node.get("Resources", {}).get(NODE_RESOURCE)}
    chosen = [node for node in alive if node["NodeID"] == home or not marked or node["NodeID"] in marked]
    chosen.sort(key=lambda node: (node["NodeID"] != home, node["NodeID"]))
    return tuple(Node(node["NodeID"], node["NodeManagerAddress"]) for node in chosen)


def emptiest(nodes: Sequence[Node], running: Iterable[str]) -> Node:
    """Give the node with the fewest evaluators, `running` naming the node of each; the first of those in order."""
    counts = {node.id: 0 for node in nodes}
    for node_id in running:
        if node_id in counts:
            counts[node_id] += 1
    return min(nodes, key=lambda node: counts[node.id])


def edge_address(node: Node, home: Node, host: str, port: int, taken: Iterable[Node]) -> tuple[str, int]:
    """Give where a node's edge listens, `taken` being the nodes before it: as at home, as far as that can be.

    A host of one machine alone is another's own address there. Nodes that share a machine cannot share a port: 0 takes
    a free one, and `usher status` shows which.
    """
    if node.id == home.id:
        return host, port
    shares = any(other.address == node.address for other in taken)
    return host if _on_every_machine(host) else node.address, 0 if shares else port


def _on_every_machine(host: str) -> bool:
    """Whether a host is there on every machine: loopback, or all of its addresses."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def node_folder(data_dir: Path, home: str, node_id: str) -> Path:
    """Give the folder for what processes on a node share with each other; at home it is the data dir.

    Elsewhere it is made (mode 700) and holds nothing that is needed once its node is gone. Raises DataDirError where
    it belongs to somebody else.
    """
    if node_id == home:
        return data_dir
    folder = _scratch(data_dir, node_id)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        message = f"The folder {folder} belongs to another user, or lets others in."
        raise DataDirError(message, next_step="Remove it.")
    return folder


def _scratch(data_dir: Path, node_id: str) -> Path:
    run = hashlib.sha256(str(data_dir).encode()).hexdigest()[:_DIGITS]
    name = f"usher-{os.getuid()}-{run}-{node_id[:_DIGITS]}"
    parent = Path(tempfile.gettempdir())
    return (parent if len(os.fsencode(parent / name)) <= _FOLDER_BYTES_MAX else Path("/tmp")) / name

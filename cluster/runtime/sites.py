"""The nodes of a run as its launcher sees them: an edge on each, evaluators spread over them, what is lost made anew.

Every process is bound to the node that it is made on. Ray has a looser bond too, after which it would move evaluators
by itself, but it does not keep it for actors that take no resources (2.60: they land anywhere).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from cluster.errors import InputError
from cluster.runtime.nodes import Node, edge_address, emptiest, used_nodes
from cluster.runtime.plan import Plan

_log = logging.getLogger("usher.nodes")


class Starter(Protocol):
    """Makes and ends processes; the fleet."""

    def start(self, names: Sequence[str], plan: Plan, node_id: str) -> None:
        """Make these processes on a node. Raises InputError where a name is taken."""
        ...

    def forget(self, name: str) -> None:
        """End a process that nobody can ask any more."""
        ...

    def answers(self, name: str) -> bool:
        """Say whether a process gives a sign."""
        ...

    def replace(self, name: str, node_id: str | None = None) -> bool:
        """Have another process take a silent one's place, on this node; None: on its own."""
        ...


class Sites:
    """Where processes of a run are made. `reported` gives what Ray says of its nodes."""

    def __init__(self, plan: Plan, starter: Starter, reported: Callable[[], list[dict[str, Any]]]) -> None:
        self._plan = plan
        self._starter = starter
        self._reported = reported
        self._nodes: tuple[Node, ...] = used_nodes(reported(), plan.node_id)
        #: The edge processes of each node that has some, by the node's id.
        self._edges: dict[str, list[str]] = {}
        self._addresses: dict[str, Node] = {}
        #: By name, the node of each evaluator that was made.
        self._evaluators: dict[str, str] = {}
        #: Evaluators whose node was lost and that run nowhere yet.
        self._homeless: list[str] = []
        #: Held while something is made, let go or replaced: two threads do so.
        self._lock = threading.RLock()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that were there at the last look, home first."""
        return self._nodes

    @property
    def edges(self) -> list[str]:
        """Name the edge processes that were made, those at home first."""
        return [name for names in self._edges.values() for name in names]

    @property
    def evaluators(self) -> set[str]:
        """Name the evaluators that were made and not forgotten."""
        return {*self._evaluators, *self._homeless}

    def start_at_home(self, names: Sequence[str]) -> None:
        """Make processes beside the data dir."""
        self._starter.start(names, self._plan, self._plan.node_id)

    def start_evaluators(self, names: Sequence[str]) -> None:
        """Make evaluators, each on the node with the fewest; all at home where they keep their files there."""
        with self._lock:
            for name in names:
                spread = self._plan.spreads
                node = emptiest(self._nodes, self._evaluators.values()) if spread else self._nodes[0]
                self._starter.start([name], self._plan, node.id)
                self._evaluators[name] = node.id

    def forget_evaluator(self, name: str) -> None:
        """Note that an evaluator was ended for good."""
        with self._lock:
            self._evaluators.pop(name, None)
            self._homeless = [other for other in self._homeless if other != name]

    def replace(self, name: str) -> bool:
        """Have another process take the place of a silent one; from another thread. False where there is none.

        On the same node, but for an evaluator whose node's edge is silent too: a machine that hangs, of which Ray says
        nothing for a minute.
        """
        with self._lock:
            return self._replace(name)

    def _replace(self, name: str) -> bool:
        here = self._evaluators.get(name)
        if here is None or not self._plan.spreads or any(map(self._starter.answers, self._edges.get(here, ()))):
            return self._starter.replace(name)
        others = [node for node in self._nodes if node.id != here]
        if not others:
            return self._starter.replace(name)
        node = emptiest(others, list(self._evaluators.values()))
        replaced = self._starter.replace(name, node.id)
        if replaced:
            self._evaluators[name] = node.id
        return replaced

    def start_edges(self) -> list[str]:
        """Make an edge on each node that has none; gives the names of its processes."""
        made: list[str] = []
        for node in self._nodes:
            if node.id in self._edges:
                continue
            host, port = edge_address(node, self._nodes[0], self._plan.host, self._plan.port, self._addresses.values())
            plan = replace(self._plan, host=host, port=port)
            names = plan.edge_names("" if node.id == self._plan.node_id else node.short)
            self._starter.start(names, plan, node.id)
            self._edges[node.id], self._addresses[node.id] = names, node
            made += names
        return made

    def follow(self) -> list[str]:
        """Look which nodes there are, make anew what was on lost ones, have an edge on new ones; in words what was."""
        with self._lock:
            return self._follow()

    def _follow(self) -> list[str]:
        before = self._nodes
        reported = self._reported()
        if not any(node["NodeID"] == self._plan.node_id and node["Alive"] for node in reported):
            return []  # this process is there: Ray's word is worth nothing now
        self._nodes = used_nodes(reported, self._plan.node_id)
        present = {node.id for node in self._nodes}
        told = [f"node {node.short} at {node.address} is lost" for node in before if node.id not in present]
        self._let_go(present)
        told += [f"{name}: made anew" for name in self._house()]
        told += [f"{name}: started" for name in self.start_edges()]
        return told

    def _let_go(self, present: set[str]) -> None:
        for node_id in [node_id for node_id in self._edges if node_id not in present]:
            for name in self._edges.pop(node_id):
                self._starter.forget(name)
            del self._addresses[node_id]
        for name in [name for name, node_id in self._evaluators.items() if node_id not in present]:
            self._starter.forget(name)
            del self._evaluators[name]
            self._homeless.append(name)

    def _house(self) -> list[str]:
        """Make evaluators that lost their node on others; a name that Ray has not let go yet is tried again."""
        housed: list[str] = []
        for name in list(self._homeless):
            try:
                self.start_evaluators([name])
            except InputError as error:
                _log.info("%s cannot be made yet: %s", name, error)
                continue
            self._homeless.remove(name)
            housed.append(name)
        return housed

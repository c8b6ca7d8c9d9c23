"""A Ray cluster of several nodes on this machine: real raylets, in a process of their own that adds and ends them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
#: A node whose raylet was killed is given up after about two seconds; Ray's defaults make it fifteen.
QUICK: Final = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


class RayNodes:
    """The cluster: a head at once, more with `add`. Everything listens on loopback and asks for the token."""

    def __init__(self, folder: Path) -> None:
        token = folder / "ray.token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        #: What a process needs to join or use it.
        self.environment = {
            **QUICK,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(ROOT)}
        environment.pop("RAY_ADDRESS", None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.nodes"],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.address: str = self._answer()["address"]

    def add(self) -> str:
        """Add a node; gives its id."""
        return str(self._ask("add")["node"])

    def kill(self, node: str) -> None:
        """Kill every process of a node at once."""
        self._ask("kill", node)

    def hang(self, node: str) -> None:
        """Stop every process of a node, as a machine that hangs: nobody hears that they are gone."""
        self._ask("signal", node, str(int(signal.SIGSTOP)))

    def wake(self, node: str) -> None:
        """Let the processes of a node that hangs go on."""
        self._ask("signal", node, str(int(signal.SIGCONT)))

    def close(self) -> None:
        """End every node."""
        if self._process.poll() is None:
            self._process.communicate("[]\n", timeout=60)

    def _ask(self, *words: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith('{"usher": '):
                answer: dict[str, Any] = json.loads(line)["usher"]
                return answer
        raise AssertionError("the process of the Ray cluster ended")


def processes_of(node: Any) -> list[int]:
    """A node's processes, its workers first: they are children of what Ray started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [info.process.pid for infos in node.all_processes.values() for info in infos]
    for pid in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == pid]
    return found[::-1]


def serve() -> None:
    """Run the cluster and do what is asked, a JSON list a line, until an empty one."""
    from ray.cluster_utils import Cluster

    def say(**fields: Any) -> None:
        print(json.dumps({"usher": fields}), flush=True)

    common = {"node_ip_address": "127.0.0.1", "num_cpus": 2}
    cluster = Cluster(initialize_head=True, head_node_args={**common, "include_dashboard": False})
    nodes: dict[str, Any] = {}
    say(address=cluster.address)
    for line in sys.stdin:
        match json.loads(line):
            case ["add"]:
                node = cluster.add_node(**common)
                nodes[node.node_id] = node
                say(node=node.node_id)
            case ["signal", node_id, number]:
                pids = processes_of(nodes[node_id])
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, int(number))
                say(signalled=pids)
            case ["kill", node_id]:
                cluster.remove_node(nodes.pop(node_id), allow_graceful=False)
                say(killed=node_id)
            case _:
                break
    cluster.shutdown()


if __name__ == "__main__":
    serve()

"""What one run of Usher consists of: names, places, numbers. Known before Ray runs, and to every process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cluster.checkpoints.settings import CheckpointSettings
from cluster.edge.acceptor import url_of
from cluster.leases.keeper import LeaseSettings
from cluster.log.settings import LogSettings
from cluster.runtime.data_dir import DataDir
from cluster.runtime.placement import Placement
from cluster.runtime.protocols import EvaluatorInfo


class Stopped(Exception):  # not an error: the user asked for it
    """A stop signal came before the system was ready."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of Usher consists of; every process gets it whole.

    `node_id` is the Ray node of the data dir, `base_dir` where relative paths of trait sources start, `socket_dir`
    short enough for the names of unix sockets. `host` and `port` are those of the edge at home.
    """

    data_dir: str
    epoch: int
    host: str
    port: int
    node_id: str
    socket_dir: str
    base_dir: str
    placement: Placement
    ingest_edges: int
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    log: LogSettings = field(default_factory=LogSettings)
    leases: LeaseSettings | None = None

    @property
    def files(self) -> DataDir:
        """Give the names of the files in the data dir."""
        return DataDir(Path(self.data_dir))

    @property
    def lease_settings(self) -> LeaseSettings:
        """Give where it is noted who owns which evaluator: the data dir unless said otherwise."""
        return self.leases or LeaseSettings(self.data_dir)

    @property
    def home_leases(self) -> LeaseSettings:
        """Give where it is noted who runs what owns files in the data dir."""
        return LeaseSettings(self.data_dir)

    def lease_of(self, name: str) -> LeaseSettings | None:
        """Give where it is noted who runs a process that owns something; None for an edge, which owns nothing."""
        if name.startswith(EVALUATOR_PREFIX):
            return self.lease_settings
        return self.home_leases if name in OWNERS_AT_HOME else None

    @property
    def spreads(self) -> bool:
        """Whether evaluators may be on any node: what they keep is neither in the data dir nor on a node's disk."""
        return bool(self.log.uri and self.checkpoints.uri)

    @property
    def url(self) -> str:
        """Give the address people use."""
        return url_of(self.host, self.port)

    def edge_names(self, site: str = "") -> list[str]:
        """Name the edge processes of a node: the front one and those that take events. `site` is empty at home."""
        names = ["edge-front", *(f"edge-ingest-{index}" for index in range(self.ingest_edges))]
        return [f"{name}{AT_SITE}{site}" for name in names] if site else names

    def socket_path(self, index: int, folder: Path | None = None) -> str:
        """Give the unix socket on which an ingest edge takes connections, at home unless a folder is given."""
        return str((folder or Path(self.socket_dir)) / f"ingest-{index}.sock")

    def evaluator_names(self) -> list[str]:
        """Name the evaluators' processes at the start, those included that only give their transitions."""
        return [evaluator_name(index) for index in sorted({*self.placement.evaluators, *self.placement.retired})]


def info_on(node_id: str, folder: Path, index: int) -> EvaluatorInfo:
    """Give where an evaluator is that runs on this node, with this folder for what processes on it share."""
    name = evaluator_name(index)
    return EvaluatorInfo(index, name, node_id, str(DataDir(folder).membership / name))


#: Processes beside the data dir, each of which owns files in it.
OWNERS_AT_HOME = ("controller", "delivery", "traits")
#: What the names of evaluators' processes begin with; their index follows.
EVALUATOR_PREFIX = "evaluator-"
#: Between what an edge process is and the node that it is on, in the names of those that are not at home.
AT_SITE = "@"


def evaluator_name(index: int) -> str:
    """Name an evaluator's process."""
    return f"{EVALUATOR_PREFIX}{index}"

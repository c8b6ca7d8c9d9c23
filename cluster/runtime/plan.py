"""What one run of Usher consists of: names, places, numbers. Known before Ray runs, and to every process."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cluster.checkpoints.settings import CheckpointSettings
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
    short enough for the names of unix sockets.
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

    def lease_of(self, name: str) -> LeaseSettings | None:
        """Give where it is noted who runs a process that owns something; None for an edge, which owns nothing."""
        return self.lease_settings if name.startswith(EVALUATOR_PREFIX) else None

    @property
    def url(self) -> str:
        """Give the address people use."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def edge_names(self) -> list[str]:
        """Name the edge processes: the front one and those that take events."""
        return ["edge-front", *(f"edge-ingest-{index}" for index in range(self.ingest_edges))]

    def socket_path(self, index: int) -> str:
        """Give the unix socket on which an ingest edge takes connections."""
        return str(Path(self.socket_dir) / f"ingest-{index}.sock")

    def evaluator_names(self) -> list[str]:
        """Name the evaluators' processes at the start, those included that only give their transitions."""
        return [evaluator_name(index) for index in sorted({*self.placement.evaluators, *self.placement.retired})]

    def membership_dir(self, index: int) -> Path:
        """Give the folder of an evaluator's mapped membership files."""
        return self.files.membership / evaluator_name(index)

    def info_of(self, index: int) -> EvaluatorInfo:
        """Give where an evaluator is."""
        return EvaluatorInfo(index, evaluator_name(index), self.node_id, str(self.membership_dir(index)))


#: What the names of evaluators' processes begin with; their index follows.
EVALUATOR_PREFIX = "evaluator-"


def evaluator_name(index: int) -> str:
    """Name an evaluator's process."""
    return f"{EVALUATOR_PREFIX}{index}"

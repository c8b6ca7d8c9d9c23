"""What the trait loader's machine wants done; each but `Forget` is answered by a stimulus, whatever happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from cluster.definitions.model import ParentModel


@dataclass(frozen=True, slots=True)
class Restore:
    """Look for the parent's newest stored snapshot: Restored."""

    parent: str


@dataclass(frozen=True, slots=True)
class Poll:
    """Look whether the source has changed: Polled or LoadFailed."""

    model: ParentModel


@dataclass(frozen=True, slots=True)
class Load:
    """Read, check and store a new version, of no rows where the model has no source: Loaded or LoadFailed.

    `shape` goes into its SnapshotInfo.
    """

    model: ParentModel
    partitions: int
    shape: str


@dataclass(frozen=True, slots=True)
class Offer:
    """Give the stored version to an evaluator: Taken or NotTaken."""

    evaluator: int
    parent: str
    version: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove stored versions below this one."""

    parent: str
    version: int


Instruction: TypeAlias = Restore | Poll | Load | Offer | Forget

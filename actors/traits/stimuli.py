"""What the trait loader's machine is told: definitions, what reading gave, what evaluators answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from cluster.definitions.model import ParentModel

#: What tells a changed source from an unchanged one: a text a file (path, size, mtime), a version, a query's answer.
#: Empty: the source cannot tell.
Fingerprint: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of a stored snapshot without its rows.

    `shape` is `shape_of` its parent model, `source` its sources' identity (empty: none), `fingerprint` theirs
    when they were read, `left_out` as in TraitSnapshot.
    """

    version: int
    shape: str
    source: str
    fingerprint: Fingerprint
    row_count: int
    loaded_at_ms: int
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DefinitionsSeen:
    """The definitions in force and the evaluators there are; told again with each change of either."""

    parents: Mapping[str, ParentModel]
    partitions: int
    evaluators: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """The newest stored snapshot of a parent, None if there is none."""

    parent: str
    info: SnapshotInfo | None


@dataclass(frozen=True, slots=True)
class Polled:
    """The source's fingerprint now."""

    parent: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class Loaded:
    """A snapshot was read, checked and stored; if it equals the present one, `info` keeps that one's version."""

    parent: str
    info: SnapshotInfo


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A look at the source or a load failed; `reason` as in SnapshotError, `fingerprint` if it was known."""

    parent: str
    reason: str
    message: str
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """An evaluator has this version durably in its log."""

    evaluator: int
    parent: str
    version: int


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An evaluator did not take this version, for now."""

    evaluator: int
    parent: str
    version: int
    message: str


@dataclass(frozen=True, slots=True)
class RefreshAsked:
    """Somebody wants the source read now."""

    parent: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Stimulus: TypeAlias = DefinitionsSeen | Restored | Polled | Loaded | LoadFailed | Taken | NotTaken | RefreshAsked | Tick

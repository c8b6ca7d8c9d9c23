"""When checkpoints are written, where, and how many are kept."""

from __future__ import annotations

from dataclasses import dataclass

from cluster.limits import (
    CHECKPOINT_EVERY_BYTES,
    CHECKPOINT_EVERY_EVENTS,
    CHECKPOINT_EVERY_MS,
    CHECKPOINTS_KEPT,
)


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """What an operator may say of checkpoints.

    One is due `every_ms` after the one before, or once so many bytes or events were logged since, whichever comes
    first; none while nothing was. `uri`: a folder or a pyarrow filesystem URI; empty: the data dir.
    """

    uri: str = ""
    every_ms: int = CHECKPOINT_EVERY_MS
    every_bytes: int = CHECKPOINT_EVERY_BYTES
    every_events: int = CHECKPOINT_EVERY_EVENTS
    kept: int = CHECKPOINTS_KEPT

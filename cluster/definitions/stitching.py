"""`parent_models[].stitching`: events of anonymous ids join the user who identifies with them (docs/stitching.md)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from cluster.definitions.document import StitchingDocument
from cluster.definitions.model import ParentModel, Path, Stitching

#: What the event models of such a parent are keyed by.
STITCHED_KEYS: Final[tuple[tuple[Path, ...], ...]] = ((("user_id",),), (("user_id",), ("anonymous_id",)))


def stitching_of(read: StitchingDocument | bool | None) -> Stitching | None:
    """Give the bounds, those that are not given by default; None where it is off."""
    if read is None or read is False:
        return None
    given = {} if read is True else {key: value for key, value in read.model_dump().items() if value is not None}
    return Stitching(**given)


def stitching_document(parent: ParentModel) -> dict[str, object]:
    """Write it out whole: a later release's defaults must not change what a log means."""
    return {} if parent.stitching is None else {"stitching": asdict(parent.stitching)}

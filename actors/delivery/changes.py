"""A change on its way to one sync, as read from an evaluator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Change(msgspec.Struct, frozen=True, gc=False):
    """One transition of the sync's audience. `seq` is its number in the log of evaluator `evaluator`."""

    evaluator: int
    seq: int
    audience_id: str
    audience_version: int
    user_id: str
    kind: Literal["entered", "exited"]
    at_ms: int
    n: int
    cause: str


#: Evaluator index -> the seq up to which everything is in a durable batch or needs no sending.
Cursors = Mapping[int, int]

"""Where evaluators are: what each says when it starts, remembered over a restart of the controller.

An evaluator that Ray moved to another node, because its own is gone, says so before it works. Who reads an older word
of it finds a node that is gone, or no such node at all, and asks the evaluator itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.protocols import EvaluatorInfo

_KEY: Final = "whereabouts"


class Whereabouts:
    """Give an index, get where that evaluator is: `default(index)` before it has ever said."""

    def __init__(self, store: ControllerStore, default: Callable[[int], EvaluatorInfo]) -> None:
        self._store = store
        self._default = default
        known = msgspec.json.decode(store.meta(_KEY) or "[]", type=list[EvaluatorInfo])
        self._known = {info.index: info for info in known}

    def __call__(self, index: int) -> EvaluatorInfo:
        """Give where an evaluator is."""
        return self._known.get(index) or self._default(index)

    def note(self, info: EvaluatorInfo, processes: Iterable[int]) -> None:
        """Remember, durably, where an evaluator is; forget those that are not among `processes` any more."""
        kept = {*processes, info.index}
        self._known = {index: known for index, known in self._known.items() if index in kept}
        self._known[info.index] = info
        self._store.set_meta(_KEY, msgspec.json.encode(list(self._known.values())).decode())

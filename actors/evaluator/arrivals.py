"""Accepted events by event model and by source, since this process began: for rules about silence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.definitions.model import Definitions, Published

_ACCEPTED = 0


class _Counter:
    """Counts by code; names are looked up when somebody asks, not with every batch."""

    def __init__(self) -> None:
        self._ids: Sequence[str] = ()
        self._counts: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._before: dict[str, int] = {}

    def name(self, ids: Sequence[str]) -> None:
        """Give codes their names from now on."""
        self._before = self.counts()
        self._ids, self._counts = ids, np.zeros(len(ids), np.int64)

    def take(self, codes: npt.NDArray[np.int16]) -> None:
        """Count codes; those below 0 have no name in the definitions."""
        size = len(self._counts)
        self._counts += np.bincount(codes[(codes >= 0) & (codes < size)], minlength=size)

    def counts(self) -> dict[str, int]:
        """Give the counts so far, of earlier definitions too."""
        counts = dict(self._before)
        for id_, count in zip(self._ids, self._counts.tolist(), strict=True):
            counts[id_] = counts.get(id_, 0) + count
        return counts


class Arrivals:
    """Counts what one evaluator accepted: an event once for each event model that takes it, and so for its source."""

    def __init__(self) -> None:
        self._version = -1
        self._models = _Counter()
        self._sources = _Counter()

    def take(self, published: Published, hits: pa.RecordBatch, outcomes: npt.NDArray[np.uint8]) -> None:
        """Count the accepted ones of hits that were decoded under these definitions."""
        if published.version != self._version:
            self._version = published.version
            self._models.name(tuple(published.definitions.event_models))
            self._sources.name(tuple(published.definitions.sources))
        accepted = outcomes == _ACCEPTED
        self._models.take(hits.column("model").to_numpy()[accepted])
        self._sources.take(hits.column("source").to_numpy()[accepted])

    def shown(self, definitions: Definitions | None) -> dict[str, dict[str, int]]:
        """Give the counts of what definitions have, those of which nothing came included."""
        if definitions is None:
            return {"models": {}, "sources": {}}
        models, sources = self._models.counts(), self._sources.counts()
        return {
            "models": {id_: models.get(id_, 0) for id_ in definitions.event_models},
            "sources": {id_: sources.get(id_, 0) for id_ in definitions.sources},
        }

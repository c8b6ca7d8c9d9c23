"""What of another evaluator's log an heir takes: the events and transitions of the partitions that it gets from there.

A row that has hits for keys of several evaluators is in the log of each. So an entry that was taken over says of which
partitions its events are (`Entry.subject`), where its reader would else find hits of others in it: they come with
the other log's entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.admission.splitting import fallback_partitions
from cluster.definitions.model import Published
from cluster.log.records import Entry
from cluster.model.partition_ranges import read_ranges, write_ranges
from cluster.model.partitions import partitions_of
from cluster.wire.envelope import pack, unpack


class Parting:
    """Between one log, of an evaluator that owned `theirs`, and an heir that gets `own` partitions in all."""

    def __init__(self, published: Published, theirs: Sequence[int], own: Sequence[int]) -> None:
        self._decoder = Decoder(EventPlan(published.definitions))
        self._count = published.definitions.settings.partitions
        self._theirs = np.array(sorted(theirs), np.int64)
        self._own = frozenset(own)
        #: Of the partitions that come from there, those that are the heir's.
        self._taken = frozenset(theirs) & self._own

    def batch(self, entry: Entry) -> Entry | None:
        """Give what the heir logs of a batch, None: nothing of it is its own. `seq` is still the other log's."""
        theirs = frozenset(read_ranges(entry.subject)) if entry.subject else frozenset(self._theirs.tolist())
        taken = theirs & self._own
        if not taken:
            return None
        # Without a word its reader takes the hits of all of the heir's partitions.
        subject = "" if self._own <= taken else write_ranges(taken)
        if theirs <= self._own:
            return replace(entry, subject=subject)
        envelope = unpack(entry.payload)
        rows = self._own_rows(envelope, theirs, taken)
        if not len(rows):
            return None
        if len(rows) == envelope.num_rows:
            return replace(entry, subject=subject)
        payload = pack(envelope.take(pa.array(rows)))
        return replace(entry, subject=subject, row_count=len(rows), payload=payload)

    def transitions(self, table: pa.RecordBatch) -> pa.RecordBatch:
        """Keep the transitions of users who are the heir's."""
        mine = np.isin(table.column("partition").to_numpy(), np.array(sorted(self._taken), np.int16))
        return table if mine.all() else table.filter(pa.array(mine))

    def _own_rows(self, envelope: pa.RecordBatch, theirs: frozenset[int], taken: frozenset[int]) -> np.ndarray:
        """Give the rows with a hit in the partitions taken, and of those without any hit in `theirs` the heir's share.

        They wait for definitions that take them, and are dealt as the edge deals them; those that it dealt under
        other definitions, by the same number among the partitions that there are.
        """
        hits = self._decoder.decode(envelope).hits
        rows = hits.column("row").to_numpy().astype(np.int64)
        partitions = partitions_of(hits.column("key"), self._count)
        hit = rows[np.isin(partitions, sorted(theirs))]
        mine = rows[np.isin(partitions, sorted(taken))]
        bare = np.setdiff1d(np.arange(envelope.num_rows), hit)
        if not len(bare):
            return np.unique(mine)
        dealt = fallback_partitions(envelope, bare, self._count)
        of_theirs = np.array(sorted(theirs))
        dealt = np.where(np.isin(dealt, of_theirs), dealt, of_theirs[dealt % len(of_theirs)])
        return np.union1d(mine, bare[np.isin(dealt, sorted(taken))])

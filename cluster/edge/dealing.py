"""One batch of several requests on its way through evaluators: what goes to whom, and what came back, by row. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.admission.hits import Decoded
from cluster.admission.outcomes import RowOutcomes, row_outcomes
from cluster.admission.splitting import Share, split
from cluster.errors import InternalError
from cluster.model.partition_ranges import write_ranges
from cluster.model.partitions import partitions_of
from cluster.runtime.protocols import Reply
from cluster.wire.envelope import pack


@dataclass(frozen=True, slots=True)
class Part:
    """What one evaluator gets of a batch. `rows` are the batch's row numbers of the envelope's rows, ascending.

    `partitions`: whose users' hits count in it, where those are not all of the evaluator's; the others come with
    another part. None: all of them.
    """

    owner: int
    envelope: pa.RecordBatch
    hits: pa.RecordBatch
    rows: npt.NDArray[np.int64]
    partitions: frozenset[int] | None = None

    def request(self, version: int) -> Reply:
        """Give the call's argument (docs/architecture.md §4)."""
        return {
            "version": version,
            "rows": self.envelope.num_rows,
            "envelope": pack(self.envelope),
            "hits": ipc_stream(self.hits) if self.hits.num_rows else b"",
            "partitions": "" if self.partitions is None else write_ranges(self.partitions),
        }

    def hit_rows(self) -> npt.NDArray[np.int64]:
        """Give the batch's row number of each hit."""
        rows: npt.NDArray[np.int64] = self.rows[self.hits["row"].to_numpy()]
        return rows

    def again(self, decoded: Decoded, owner_of_partition: tuple[int, ...]) -> Part:
        """Give the same rows for the same evaluator under newer definitions.

        Hits of other evaluators are left out: those have these rows already, and rows without a message id would
        count twice there.
        """
        hits, own = decoded.hits, self._own(owner_of_partition)
        mine = np.isin(partitions_of(hits["key"], len(owner_of_partition)), sorted(own))
        if hits.num_rows and not mine.all():
            hits = hits.filter(pa.array(mine))
        return replace(self, hits=hits)

    def dealt_anew(self, before: tuple[int, ...], now: tuple[int, ...]) -> list[Part]:
        """Deal the same rows out to those who have this owner's users now.

        One who has others' too is told whose hits count: a row may come to it once more, in another owner's part, and
        a log says nothing of hits.
        """
        own = self._own(before)
        shares = split(self.hits, self.envelope, len(now), now)
        parts = []
        for owner, share in shares.items():
            theirs = frozenset(partition for partition, of in enumerate(now) if of == owner)
            partitions = None if theirs <= own else theirs & own
            parts.append(Part(owner, share.envelope, share.hits, self.rows[share.rows], partitions))
        return parts

    def _own(self, owner_of_partition: tuple[int, ...]) -> frozenset[int]:
        if self.partitions is not None:
            return self.partitions
        return frozenset(partition for partition, owner in enumerate(owner_of_partition) if owner == self.owner)


def deal(envelope: pa.RecordBatch, decoded: Decoded, owner_of_partition: tuple[int, ...]) -> list[Part]:
    """Deal a decoded batch out to the evaluators that own its keys."""
    shares: Any = split(decoded.hits, envelope, len(owner_of_partition), owner_of_partition)
    return [_part(owner, share) for owner, share in shares.items()]


def _part(owner: int, share: Share) -> Part:
    return Part(owner, share.envelope, share.hits, share.rows)


def ipc_stream(batch: pa.RecordBatch) -> bytes:
    """Write a record batch as an Arrow IPC stream, uncompressed: it is read once, by another process."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


@dataclass(slots=True)
class Tally:
    """What is known of a batch's rows, as parts are answered."""

    #: Why a row gave no hit, by row; counts only for rows that no evaluator judged.
    reasons: dict[int, str]
    _hit_rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _outcomes: list[bytes] = field(default_factory=list)
    #: (rows, error) of each part that was refused.
    _failures: list[tuple[npt.NDArray[np.int64], Exception]] = field(default_factory=list)

    def answered(self, part: Part, outcomes: bytes) -> None:
        """Note what an evaluator said of each hit of a part; anything but one byte a hit is InternalError."""
        if len(outcomes) != part.hits.num_rows:
            message = f"Evaluator {part.owner} judged {len(outcomes)} hits of {part.hits.num_rows}."
            raise InternalError(message)
        self._hit_rows.append(part.hit_rows())
        self._outcomes.append(outcomes)

    def failed(self, part: Part, error: Exception) -> None:
        """Note that a part was refused."""
        self._failures.append((part.rows, error))

    def redecoded(self, part: Part, rejected: Iterable[tuple[int, str]]) -> None:
        """Note the reasons of a part's rows under newer definitions (`rejected` counts within the part)."""
        for row, reason in rejected:
            self.reasons[int(part.rows[row])] = reason

    def by_request(self, row_counts: list[int]) -> list[RowOutcomes | Exception]:
        """Give each request's outcomes, its rows numbered from 0, or the error of a part that has rows of it."""
        if not self.reasons and not self._failures and not any(map(any, self._outcomes)):
            return [RowOutcomes(count, 0, []) for count in row_counts]  # the usual case: every row has a hit, all taken
        rows = np.concatenate([*self._hit_rows, np.empty(0, np.int64)])
        order = np.argsort(rows, kind="stable")
        rows, codes = rows[order], np.frombuffer(b"".join(self._outcomes), np.uint8)[order]
        bare = sorted(self.reasons.keys() - set(rows.tolist())) if self.reasons else []
        results: list[RowOutcomes | Exception] = []
        start = 0
        for count in row_counts:
            end = start + count
            results.append(self._failure(start, end) or self._outcomes_of(rows, codes, bare, start, end))
            start = end
        return results

    def _failure(self, start: int, end: int) -> Exception | None:
        for rows, error in self._failures:
            at = int(np.searchsorted(rows, start))
            if at < len(rows) and rows[at] < end:
                return error
        return None

    def _outcomes_of(
        self, rows: npt.NDArray[np.int64], codes: npt.NDArray[np.uint8], bare: list[int], start: int, end: int
    ) -> RowOutcomes:
        low, high = np.searchsorted(rows, (start, end))
        rejected = [(row - start, self.reasons[row]) for row in bare if start <= row < end] if bare else []
        return row_outcomes(end - start, rejected, rows[low:high] - start, codes[low:high].tobytes())

"""The envelope: a batch's events as they came, before any definition is looked at; what the log keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa

from cluster.errors import InternalError

#: `raw` is one event's JSON object in valid UTF-8; `format` a `cluster.admission.timestamps.Format`; `source` a
#: source id; `sent_at_ms` the `sentAt` of the batch that the event came in.
SCHEMA = pa.schema([
    pa.field("raw", pa.binary(), nullable=False),
    pa.field("format", pa.uint8(), nullable=False),
    pa.field("source", pa.string()),
    pa.field("sent_at_ms", pa.int64()),
])
#: One thread: only `raw` has a size worth compressing, and waking a pool costs more than a small batch does.
_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)


@dataclass(frozen=True, slots=True)
class RawEvents:
    """One request's events, all from one sender: their JSON texts, and what the envelope says of each of them.

    Becomes columns only with other requests' events (`envelope_of_all`): making columns costs some 20 µs however few
    the rows.
    """

    texts: Sequence[bytes]
    fmt: int
    source: str | None = None
    sent_at_ms: int | None = None

    def __len__(self) -> int:
        """Give the number of events."""
        return len(self.texts)


def envelope_of_all(requests: Sequence[RawEvents]) -> pa.RecordBatch:
    """Make one envelope of several requests' events, in order (at most 2 GiB of events together)."""
    first = requests[0]
    about = {(request.fmt, request.source, request.sent_at_ms) for request in requests}
    texts = first.texts if len(requests) == 1 else list(chain.from_iterable(request.texts for request in requests))
    if len(about) == 1:
        return envelope_of(texts, first.fmt, source=first.source, sent_at_ms=first.sent_at_ms)
    place = np.repeat(np.arange(len(requests)), [len(request) for request in requests])
    rows = pa.array(place)
    return pa.RecordBatch.from_arrays([
        pa.array(texts, pa.binary()),
        pa.array([request.fmt for request in requests], pa.uint8()).take(rows),
        pa.array([request.source for request in requests], pa.string()).take(rows),
        pa.array([request.sent_at_ms for request in requests], pa.int64()).take(rows),
    ], schema=SCHEMA)


def envelope_of(
    events: Sequence[bytes], fmt: int, *, source: str | None = None, sent_at_ms: int | None = None
) -> pa.RecordBatch:
    """Make the envelope of one request's events, all from one sender (at most 2 GiB together)."""
    count = len(events)
    return pa.RecordBatch.from_arrays([
        pa.array(events, pa.binary()),
        pa.repeat(pa.scalar(fmt, pa.uint8()), count),
        pa.repeat(pa.scalar(source, pa.string()), count),
        pa.repeat(pa.scalar(sent_at_ms, pa.int64()), count),
    ], schema=SCHEMA)


def concat(envelopes: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Put envelopes one after the other; one alone is given back as it is. At most 2 GiB of events together."""
    if len(envelopes) == 1:
        return envelopes[0]
    if not envelopes:
        return pa.RecordBatch.from_pylist([], schema=SCHEMA)
    return pa.concat_batches(envelopes)


def pack(envelope: pa.RecordBatch) -> bytes:
    """Write an envelope as an Arrow IPC stream with zstd (about 0.3 µs an event)."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, envelope.schema, options=_ZSTD) as writer:
        writer.write_batch(envelope)
    return bytes(sink.getvalue().to_pybytes())


def unpack(packed: bytes | pa.Buffer) -> pa.RecordBatch:
    """Read what `pack` wrote. Anything else is a damaged log or call: InternalError."""
    try:
        with pa.ipc.open_stream(packed) as reader:
            return concat(list(reader))
    except (pa.ArrowInvalid, OSError) as error:
        message = f"An envelope of {len(packed)} bytes cannot be read: {error}"
        raise InternalError(message) from error

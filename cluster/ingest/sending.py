"""Files to requests: a few at once, answered for in order, tried again until the server takes them."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol

from cluster.client.errors import ServerUnavailable, TooBusy
from cluster.client.models import Sent
from cluster.ingest.files import EventFile, read
from cluster.ingest.positions import Positions
from cluster.ingest.shaping import NotAnEvent, Shape

#: Events and bytes of one request.
EVENTS_A_REQUEST: Final = 500
_BYTES_A_REQUEST: Final = 1 << 20
#: Refused rows that are shown by their place, a reason.
EXAMPLES_MAX: Final = 3
#: How often positions are written.
_SAVE_EVERY_S: Final = 1.0
#: How long a server that does not answer at all is tried, and the longest pause between tries.
_GIVE_UP_S: Final = 120.0
_PAUSE_MAX_S: Final = 10.0


class Transmit(Protocol):
    """Sends a JSON array of native events; raises TooBusy, ServerUnavailable and what else a client does."""

    def __call__(self, body: bytes) -> Sent:
        """Give the answer to one request."""
        ...


@dataclass(slots=True)
class Totals:
    """What became of rows: each is sent, refused here or there by a reason, blank, or was done before (`skipped`)."""

    rows: int = 0
    skipped: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    #: Places of the first refused rows, by reason: `file:row`, from 1.
    examples: dict[str, list[str]] = field(default_factory=dict)

    def reject(self, reason: str, file: EventFile, number: int) -> None:
        """Count a refused row."""
        self.rejected[reason] += 1
        places = self.examples.setdefault(reason, [])
        if len(places) < EXAMPLES_MAX:
            places.append(f"{file.path}:{number + 1}")


@dataclass(frozen=True, slots=True)
class _Request:
    """Some rows of a file: those before `until` are answered for with it. `numbers`: the row of each event."""

    file: EventFile
    until: int
    body: bytes
    numbers: tuple[int, ...]


class Sender:
    """Sends files; `progress` is told rows as they are answered for."""

    def __init__(
        self,
        transmit: Transmit,
        shape: Shape,
        positions: Positions,
        *,
        connections: int,
        progress: Callable[[EventFile, int], None] = lambda file, rows: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transmit = transmit
        self._shape = shape
        self._positions = positions
        self._connections = connections
        self._progress = progress
        self._sleep = sleep
        self.totals = Totals()

    def send(self, files: list[EventFile]) -> Totals:
        """Send every file to its end, or raise; positions are saved either way."""
        waiting: deque[tuple[_Request, Future[Sent]]] = deque()
        saved_s = time.monotonic()
        pool = ThreadPoolExecutor(self._connections, thread_name_prefix="ingest")
        try:
            for request in (request for file in files for request in self._requests(file)):
                waiting.append((request, pool.submit(self._persist, request.body)))
                while len(waiting) >= self._connections:
                    self._answered(*waiting.popleft())
                if time.monotonic() - saved_s > _SAVE_EVERY_S:
                    self._positions.save()
                    saved_s = time.monotonic()
            while waiting:
                self._answered(*waiting.popleft())
        finally:
            # Requests under way may still be taken; sent again, they make no doubles.
            pool.shutdown(wait=False, cancel_futures=True)
            self._positions.save()
        return self.totals

    def _requests(self, file: EventFile) -> Iterator[_Request]:
        skip = self._positions.of(file)
        self.totals.skipped += skip
        self._progress(file, skip)
        lines: list[bytes] = []
        numbers: list[int] = []
        size, until = 0, skip
        for rows in read(file, skip):
            for place, row in enumerate(rows.rows):
                number = rows.first + place
                if isinstance(row, dict):
                    try:
                        lines.append(self._shape.event(row, file.path, number))
                    except NotAnEvent as reason:
                        self.totals.reject(str(reason), file, number)
                    else:
                        numbers.append(number)
                        size += len(lines[-1])
                elif row is not None:
                    self.totals.reject(row, file, number)
                until = number + 1
                if len(lines) == EVENTS_A_REQUEST or size >= _BYTES_A_REQUEST:
                    yield _Request(file, until, b"[" + b",".join(lines) + b"]", tuple(numbers))
                    lines, numbers, size = [], [], 0
        if until > skip:
            yield _Request(file, until, b"[" + b",".join(lines) + b"]", tuple(numbers))

    def _persist(self, body: bytes) -> Sent:
        """Send until it is answered: what a server does not take now it is offered again, as message ids allow."""
        if body == b"[]":
            return Sent(accepted=0)
        silent_s, pause_s = 0.0, 0.5
        while True:
            try:
                return self._transmit(body)
            except TooBusy as busy:
                self._sleep(busy.retry_after_s)
            except ServerUnavailable:
                if silent_s >= _GIVE_UP_S:
                    raise
                self._sleep(pause_s)
                silent_s += pause_s
                pause_s = min(_PAUSE_MAX_S, 2 * pause_s)

    def _answered(self, request: _Request, answer: Future[Sent]) -> None:
        sent = answer.result()
        self.totals.accepted += sent.accepted
        self.totals.duplicates += sent.duplicates
        for row in sent.rejected:
            self.totals.reject(row.reason, request.file, request.numbers[row.index])
        rows = request.until - self._positions.of(request.file)
        self.totals.rows += rows
        self._positions.note(request.file, request.until)
        self._progress(request.file, rows)

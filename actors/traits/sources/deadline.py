"""A time limit for a query: the driver is told to stop, which its own call then reports."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cluster.errors import SnapshotError
from cluster.model.durations import format_duration


@contextmanager
def deadline(timeout_ms: int, cancel: Callable[[], object], label: str) -> Iterator[None]:
    """Call `cancel` from a thread of its own after `timeout_ms`; what fails then is `SnapshotError`, reason `slow`."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        cancel()

    timer = threading.Timer(timeout_ms / 1_000, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if not late.is_set():
            raise
        message = f"{label} did not answer within its timeout of {format_duration(timeout_ms)}."
        step = "Make the query faster (an index, fewer rows), or raise `timeout` in the source."
        raise SnapshotError(message, reason="slow", next_step=step) from error
    finally:
        timer.cancel()

"""How much a log may take (`settings.log_max_bytes`), and the refusal above it: the same for every log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cluster.errors import StorageFull
from cluster.limits import RETRY_AFTER_MS

#: Part of the bound that what carries no events may go over it by: exits by time, definitions, snapshots.
_OVER: Final = 8
_MAKE_ROOM: Final = (
    "Raise settings.log_max_bytes, or shorten windows and retention; nothing acknowledged is lost, and senders may try "
    "again."
)


@dataclass(frozen=True, slots=True)
class Bound:
    """A log's bound in bytes; None: none."""

    size_bytes_max: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is one: the size need not be known otherwise."""
        return self.size_bytes_max is not None

    def require(self, log: str, size_bytes: int, more_bytes: int, *, takes_events: bool) -> None:
        """Raise `StorageFull` unless so many bytes more may be taken. What recovery needs is never dropped for it."""
        if self.size_bytes_max is None:
            return
        allowed = self.size_bytes_max if takes_events else self.size_bytes_max + self.size_bytes_max // _OVER
        if size_bytes + more_bytes > allowed:
            message = (
                f"{log} takes {size_bytes} bytes, {more_bytes} are to come, and {allowed} are allowed "
                f"(settings.log_max_bytes {self.size_bytes_max})."
            )
            raise StorageFull(message, retry_after_ms=RETRY_AFTER_MS, next_step=_MAKE_ROOM)

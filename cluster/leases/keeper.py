"""Holding a lease: a thread that renews it, and a word on whether it holds that costs a look at the clock."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cluster.errors import LeaseUnavailable, NotReady
from cluster.leases.machine import Candidate, Gone, Lease, Put, Sleep, Withdraw
from cluster.leases.processes import is_dead, own_name
from cluster.leases.store import LeaseStore
from cluster.limits import RETRY_AFTER_MS

_log = logging.getLogger("usher.leases")

#: How long an owner's word is good: a stopped process is replaced after that. Others wait so long where they cannot see
#: that the owner is no more.
TERM_MS: Final = 5_000
#: The same at an object store, whose answers take long at times.
REMOTE_TERM_MS: Final = 15_000
#: An owner renews its word this often: four may fail.
RENEWALS_A_TERM: Final = 5
#: What clocks may differ by within a term, and what passes between a look at the clock and what is done on it.
MARGINS_A_TERM: Final = 10


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Where leases are (a folder or pyarrow filesystem URI) and how long an owner's word is good."""

    uri: str
    term_ms: int = TERM_MS

    def store(self, name: str) -> LeaseStore:
        """Give the records of a thing."""
        return LeaseStore(self.uri, name, self.term_ms)


def _now_ms() -> float:
    return time.monotonic() * 1000


class LeaseKeeper:
    """One process's hold on a lease."""

    def __init__(
        self,
        settings: LeaseSettings,
        name: str,
        *,
        floor: int = 1,
        now_ms: Callable[[], float] = _now_ms,
    ) -> None:
        self.name = name
        self._store = settings.store(name)
        self._now_ms = now_ms
        self.term_ms = term_ms = settings.term_ms
        self._candidate = Candidate(
            secrets.token_hex(8), own_name(), term_ms, term_ms // MARGINS_A_TERM, term_ms // RENEWALS_A_TERM, floor
        )
        #: Held for one step: a look and what follows from it.
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._lost = threading.Event()
        self._on_lost: Callable[[], None] = lambda: None

    @property
    def epoch(self) -> int:
        """Under which epoch this process owns; raises NotReady before it does."""
        lease = self._candidate.lease
        if lease is None:
            message = f"{self.name} is not owned by this process."
            raise NotReady(message, retry_after_ms=RETRY_AFTER_MS)
        return lease.epoch

    @property
    def is_first(self) -> bool:
        """Whether nobody is known to have owned it before."""
        return self._candidate.is_first

    def when_lost(self, on_lost: Callable[[], None]) -> None:
        """Have this called, from the renewing thread, when somebody else owns; at once where that is so already."""
        self._on_lost = on_lost
        if self._lost.is_set():
            on_lost()

    def holds(self) -> bool:
        """Whether this process owns now, and nobody else does. A look at the clock."""
        return self._candidate.holds(self._now_ms())

    def acquire(self, within_ms: float) -> None:
        """Become the owner, waiting until whoever is has let go, is no more, or was silent for a term; then renew it.

        Raises NotReady where that takes longer (call it again: what was waited counts), LeaseUnavailable.
        """
        until = self._now_ms() + within_ms
        while not self.holds():
            try:
                nap = self._step()
            except _Lost:
                raise self._occupied() from None
            if self._now_ms() + nap > until:
                raise self._occupied()
            time.sleep(nap / 1000)
        self._tidy()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{self.name}", daemon=True)
        self._thread.start()

    def rise_to(self, epoch: int) -> None:
        """Go on owning under a higher epoch: what is owned has seen one that no lease tells of. Raises as `acquire`."""
        with self._lock:
            if not self.holds():
                raise self._occupied()
            put = self._candidate.rise_to(epoch, self._now_ms())
            self._store.put(put.record)
        self._tidy()

    def release(self) -> None:
        """Let go: the next one need not wait."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        put = self._candidate.release()
        if put is not None:
            try:
                self._store.put(put.record)
            except LeaseUnavailable as error:
                _log.warning("The next owner of %s has to wait for this one's lease to lapse: %s", self.name, error)

    def _step(self) -> float:
        """Look, and do what follows; gives how long to sleep, in ms."""
        while True:
            with self._lock:
                records = self._store.records()
                dead = {record.nonce for record in records if is_dead(record.owner)}
                match self._candidate.looked(records, self._now_ms(), dead):
                    case Put(record):
                        self._store.put(record)
                    case Withdraw(record):
                        self._store.remove(record)
                    case Sleep(ms):
                        return ms
                    case Gone(owner):
                        raise _Lost(owner)

    def _keep(self) -> None:
        nap = 0.0
        while not self._stop.wait(nap / 1000):
            try:
                nap = self._step()
            except LeaseUnavailable as error:
                _log.warning("%s", error)
                nap = self._candidate.renew_ms
            except _Lost as lost:
                _log.warning("%s is owned by another process now: %s.", self.name, lost.owner and lost.owner.owner)
                self._lost.set()
                self._on_lost()
                return

    def _tidy(self) -> None:
        """Remove the records of earlier owners; one that comes again counts for nothing."""
        try:
            for record in self._store.records():
                if record.epoch < self.epoch:
                    self._store.remove(record)
        except LeaseUnavailable as error:
            _log.info("Old leases stay: %s", error)

    def _occupied(self) -> NotReady:
        message = f"{self.name} has another owner, whose lease has not lapsed ({self._store.shown})."
        step = "It starts once that process ends or was silent for a while."
        return NotReady(message, retry_after_ms=RETRY_AFTER_MS, next_step=step)


class _Lost(Exception):
    """Somebody else owns."""

    def __init__(self, owner: Lease | None) -> None:
        super().__init__("lost")
        self.owner = owner

"""A publication on its way, beside the work: when its shadow machine is built, follows the log, is given up or taken.

The machine in force knows nothing of it, and a crash leaves nothing but files that nobody reads: then the controller
drives the publication again. `build` and `follow` run on a thread of their own; `finish` on the one that evaluates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from actors.evaluator.shadow import Prepared, Shadow
from cluster.definitions.model import Published
from cluster.errors import UsherError
from cluster.log.contract import Log

#: Entries left to the switch: few enough for it to take in some ms.
ENTRIES_LEFT_MAX: Final = 4
#: Entries that it may be behind once it is ready, before live work makes way for it.
_BEHIND_MAX: Final = 16
#: Rounds after which it is as near as it gets: live work waits for the rest at the switch.
_ROUNDS_MAX: Final = 40

_log = logging.getLogger("usher.evaluator")


class Cancelled(Exception):
    """A newer publication took this one's place, or the evaluator stops."""


class Pace:
    """Shares the interpreter between the thread that evaluates and what runs beside it.

    The other stops between its slices while that one is at work: else live work would, each of the many times that it
    gives the interpreter up and wants it back, wait for a slice to end. Only where the other would then never be done
    (live work never stops, as under a load that is as high as it can be) is it the other way round.
    """

    #: The longest that one slice runs.
    SLICE_S: Final = 0.002
    #: What a pause takes at least: long enough for a thread that waits for the interpreter to wake and take it.
    BREATH_S: Final = 0.000_2
    #: The longest that a slice waits for live work to end: a backfill makes way, but comes to its end.
    PATIENCE_S: Final = 0.01
    #: How much of the time the other has in a hurry, for one part of live work; and how long live work waits at most.
    HURRY_SHARE: Final = 2.0
    HURRY_WAIT_S: Final = 1.0

    def __init__(self) -> None:
        self._idle = threading.Event()
        self._idle.set()
        self._calm = threading.Event()
        self._calm.set()
        self._since = time.monotonic()
        self._work_s = 0.0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Around live work."""
        self._calm.wait(min(self.HURRY_WAIT_S, self.HURRY_SHARE * self._work_s))
        self._idle.clear()
        began = time.monotonic()
        try:
            yield
        finally:
            self._work_s = time.monotonic() - began
            self._idle.set()

    def hurry(self, wanted: bool) -> None:
        """Let the other go first, or live work again."""
        if wanted:
            self._calm.clear()
        else:
            self._calm.set()

    def pause(self) -> None:
        """Between two slices: make way if it is time to, and wait for live work to end unless in a hurry."""
        if time.monotonic() - self._since < self.SLICE_S:
            return
        time.sleep(self.BREATH_S)
        if self._calm.is_set():
            self._idle.wait(self.PATIENCE_S)
        self._since = time.monotonic()

    def wait(self) -> None:
        """Wait for the log to grow."""
        time.sleep(self.PATIENCE_S)


class Backfill:
    """One publication's way to the switch.

    `snapshots` are those that hold at the log's end, where it begins; everything before is committed. `make` makes
    the shadow, on the other thread.
    """

    def __init__(
        self,
        published: Published,
        log: Log,
        make: Callable[[], Shadow],
        snapshots: Mapping[str, pa.Table],
        pace: Pace,
    ) -> None:
        self.published = published
        #: True from when few entries are left until it ends.
        self.ready = False
        #: Why it ended, empty while it has not.
        self.ended = ""
        self._log = log
        self._make = make
        self._snapshots = dict(snapshots)
        self._through_seq = log.last_seq()
        self._clock_ms = log.last_clock_ms() or 0
        self._pace = pace
        #: Held by whoever moves the shadow once it is ready.
        self._lock = threading.Lock()
        self._shadow: Shadow | None = None
        self._work: Iterator[int] | None = None
        self._wanted = True
        self._first_seq = 0
        self._percent = 0

    # --- what others may ask -----------------------------------------------------------------------

    @property
    def building(self) -> bool:
        """Whether entries that it has not read yet may matter to it: they must not be dropped."""
        return not (self.ready or self.ended)

    def percent(self) -> int:
        """Give how much of the retained log is worked off; 100 only once it is ready. Never less than before."""
        return 100 if self.ready else self._percent

    def cancel(self, why: str) -> None:
        """End it: `build` and `follow` return at their next pause. Waits for a step at most."""
        with self._lock:
            self._wanted = False
            self.ended = self.ended or why
            if self.ready:
                self._end()

    # --- on its own thread -------------------------------------------------------------------------

    def build(self) -> None:
        """Make the shadow, replay, come near the log's end. Afterwards it is `ready` or `ended` says why not."""
        shadow: Shadow | None = None
        try:
            shadow = self._make()
            shadow.load(self._snapshots, self._through_seq, self._clock_ms, self._pause, self._seen)
            self._come_near(shadow)
            with self._lock:
                self._check()
                self._shadow, self.ready = shadow, True
        except Exception as error:
            # Whatever it is, it befell the new machine alone: who asked for it is told, and asks again.
            self._note(error)
            if shadow is not None:
                shadow.discard()

    def follow(self) -> None:
        """Keep up with the log until the switch, or until it ends."""
        while (moved := self.follow_step()) is not None:
            if moved:
                self._pace.pause()
            else:
                self._pace.wait()

    def follow_step(self) -> bool | None:
        """Take a slice of what is new; False where there is nothing, None where it was taken or has ended."""
        with self._lock:
            if not self._wanted or self._shadow is None:
                return None
            try:
                moved = self._step(self._shadow)
                self._pace.hurry(self._shadow.entries_left() > _BEHIND_MAX)
            except Exception as error:
                self._note(error)
                self._end()
                return None
            return moved

    def _come_near(self, shadow: Shadow) -> None:
        for _ in range(_ROUNDS_MAX):
            left = shadow.entries_left()
            for seq in shadow.entries(self._log.last_seq()):
                self._seen(seq)
                self._pause()
            shadow.know_users(self._pause)
            if shadow.entries_left() <= ENTRIES_LEFT_MAX:
                break
            # What came during a round takes the next one: where that is not much less, it would never be near.
            if 2 * shadow.entries_left() > left:
                self._pace.hurry(True)
        self._pace.hurry(False)
        shadow.bring_together()

    def _step(self, shadow: Shadow) -> bool:
        """Take a slice of what is new; False where there is nothing."""
        if self._work is None and shadow.entries_left():
            self._work = shadow.entries(self._log.last_seq())
        if self._work is None:
            return shadow.keep_up()
        if next(self._work, None) is None:
            self._work = None
        return True

    # --- on the thread that evaluates ----------------------------------------------------------------

    def finish(self, clock_ms: int) -> Prepared | None:
        """Take what is left of the log, move on to `clock_ms` and end; gives everything for the switch.

        None where it has ended before, or ends by an error now: the machine in force is not touched then.
        """
        self._wanted = False
        with self._lock:
            shadow = self._shadow
            if shadow is None:
                return None
            try:
                while self._work is not None or shadow.entries_left():
                    self._step(shadow)
                prepared = shadow.prepared(clock_ms)
            except Exception as error:
                self._note(error)
                self._end()
                return None
            self.ended, self.ready, self._shadow = "it is taken", False, None
            self._pace.hurry(False)
            return prepared

    # --- inside ----------------------------------------------------------------------------------

    def _seen(self, seq: int) -> None:
        self._first_seq = self._first_seq or seq
        whole = self._log.last_seq() - self._first_seq + 1
        self._percent = max(self._percent, min(99, 100 * (seq - self._first_seq + 1) // whole))

    def _pause(self) -> None:
        self._check()
        self._pace.pause()

    def _check(self) -> None:
        if not self._wanted:
            raise Cancelled(self.ended)

    def _note(self, error: Exception) -> None:
        """Note why it ended; an error that nobody asked for is logged."""
        self._pace.hurry(False)
        if isinstance(error, Cancelled):
            return
        self.ended = str(error) if isinstance(error, UsherError) else f"{type(error).__name__}: {error}"
        _log.error("The backfill of version %d failed", self.published.version, exc_info=error)

    def _end(self) -> None:
        """Give back the files and the memory."""
        self._pace.hurry(False)
        self.ready = False
        self._work = None
        if self._shadow is not None:
            self._shadow.discard()
            self._shadow = None

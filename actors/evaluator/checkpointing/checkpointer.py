"""One evaluator's checkpoints: when one is due, taking it between two groups, writing it beside the work, keeping few.

Taking one stops evaluation for a copy of the state, 5 ms for 100 MB: its memory was made before, and what becomes of it
afterwards is another thread's work. A forked child lost (a process full of threads and open calls must not go on in a
copy of itself), copying in slices between groups did too (a cut that is one moment for all users takes a second copy of
whatever changed since), and so did a second machine that follows the log (twice the work, always).
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from actors.evaluator.checkpointing.copying import Copies
from actors.evaluator.checkpointing.header import (
    FORMAT,
    Header,
    code_digest,
    definitions_digest,
    pack_header,
    program_digest,
)
from actors.evaluator.checkpointing.plan import CheckpointPlan
from actors.evaluator.checkpointing.restoring import DEFINITIONS, header_of
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.packing import pack_published
from actors.evaluator.program import Program
from actors.evaluator.recovery import CHECKPOINT, Origin, hits_of
from cluster.checkpoints.parts import Part
from cluster.checkpoints.settings import CheckpointSettings
from cluster.checkpoints.store import CheckpointStore, Stored
from cluster.definitions.model import Published
from cluster.errors import CheckpointError, UsherError
from cluster.log.contract import Log
from cluster.log.records import Entry

_log = logging.getLogger("usher.evaluator")

#: The log's key of its own name, which tells its checkpoints from those of other logs in one folder.
LOG_ID: Final = "log_id"
#: Bytes that may be copied into memory that was never touched, some ms; how often more is made first.
_LACKING_BYTES_MAX: Final = 4 << 20
_ROOMS_MAX: Final = 8
#: How much the writing thread stands back for others.
_NICENESS: Final = 10


def stand_back() -> None:
    """Let the operating system run this thread after others; where it cannot be told, as any other."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _now_ms() -> float:
    return time.monotonic() * 1000


def _go_on() -> None:
    """Pause for nobody."""


def log_id(log: Log) -> str:
    """Give the log's name; it is drawn at the first call. May raise StorageFull."""
    known = log.meta(LOG_ID)
    if known is None:
        known = secrets.token_hex(8).encode()
        log.commit((), (), {LOG_ID: known})
    return known.decode()


@dataclass(frozen=True, slots=True)
class Taken:
    """A copy of the state at a log's entry, not written yet, and what it takes to say what it is."""

    entry: Entry
    parts: dict[str, Part]
    program: Program
    published: Published
    clock_ms: int
    taken_at_ms: int
    hits: int
    seed: int
    users: int
    sizes: dict[str, int]
    pause_ms: float


class Checkpointer:
    """The checkpoints of one log.

    `make_room` and `write` are for a thread beside the work, one at a time; `take` is for the one that evaluates,
    between two groups. `plan` is told of every commit.
    """

    def __init__(
        self, store: CheckpointStore, settings: CheckpointSettings, log: Log, partitions: Sequence[int]
    ) -> None:
        self.store = store
        self.plan = CheckpointPlan(settings, _now_ms())
        self._kept = settings.kept
        self._log = log
        self._partitions = tuple(partitions)
        self._copies: Copies | None = None
        #: How often room was made for the copy that is to be taken.
        self._rooms = 0
        self._began_ms: float | None = None
        #: The log's clock at each checkpoint that is kept and can be read, by its entry; None: not looked at yet.
        self._clocks: dict[int, int] | None = None
        self._origin = Origin()
        self._newest: dict[str, Any] | None = None
        #: Why the latest try failed, None after one that did not.
        self.error: str | None = None
        self._counters = {"written": 0, "failed": 0, "passed_over": 0}

    def recovered(self, origin: Origin) -> None:
        """Note what a recovery began with; one that was replayed from further back wants a new checkpoint soon."""
        self._origin = origin
        if origin.checkpoint_seq:
            self._newest = _described(origin.checkpoint_seq, origin.checkpoint_taken_at_ms, origin.checkpoint_bytes)
        self._counters["passed_over"] += len(origin.passed_over)
        self.plan.logged(origin.entries, origin.events, origin.log_bytes)
        if origin.passed_over:
            self.plan.ask()

    def status(self) -> dict[str, Any]:
        """Give what status shows; `recovered` is what this process began with."""
        origin = self._origin
        return {
            "newest": self._newest,
            "writing": self._began_ms is not None,
            "error": self.error,
            "entries_since": self.plan.entries,
            "events_since": self.plan.events,
            "at": self.store.shown,
            **self._counters,
            "recovered": {
                "from": f"checkpoint {origin.checkpoint_seq}" if origin.checkpoint_seq else "log",
                "checkpoint_seq": origin.checkpoint_seq,
                "taken_at_ms": origin.checkpoint_taken_at_ms or None,
                "entries": origin.entries,
                "events": origin.events,
                "passed_over": origin.passed_over,
            },
        }

    # --- taking one --------------------------------------------------------------------------------

    def due(self) -> bool:
        """Say whether one is to be begun."""
        return self._began_ms is None and self.plan.due(_now_ms())

    def make_room(self, machine: EvaluatorMachine) -> None:
        """Make the memory that the copy takes, once more what the state has: 0.2 to 2 s a GB."""
        self._began_ms = _now_ms()
        self._rooms += 1
        self._copies = None  # the one that became too small goes first
        self._copies = Copies(machine.parts())

    def outgrown(self, machine: EvaluatorMachine) -> bool:
        """Say whether the state has outgrown the memory for its copy, so that more is to be made first.

        Not for ever: where users come faster than that is done, a copy takes long at last.
        """
        copies = self._copies
        if copies is None or self._rooms >= _ROOMS_MAX:
            return False
        return copies.lacking_bytes(machine.parts()) > _LACKING_BYTES_MAX

    def take(self, machine: EvaluatorMachine, published: Published, sizes: dict[str, int], now_ms: int) -> Taken:
        """Copy the state as it is at the log's last entry. The machine must be at rest, all of it committed."""
        assert machine.at_rest
        began = time.perf_counter()
        copies, self._copies, self._rooms = self._copies or Copies({}), None, 0
        parts = copies.take(machine.parts())
        seq = self._log.last_seq()
        self.plan.taken(_now_ms())
        return Taken(
            entry=next(self._log.entries(after_seq=seq - 1)),
            parts=parts,
            program=machine.program,
            published=published,
            clock_ms=machine.clock_ms,
            taken_at_ms=now_ms,
            hits=hits_of(self._log),
            seed=machine.seed,
            users=machine.user_count,
            sizes=sizes,
            pause_ms=(time.perf_counter() - began) * 1000,
        )

    def give_up(self) -> None:
        """Give back the room that was made where no copy was taken, and count again what one covered in vain."""
        self._copies, self._began_ms, self._rooms = None, None, 0
        self.plan.given_up()

    # --- writing it --------------------------------------------------------------------------------

    def write(self, taken: Taken, pause: Callable[[], None] = _go_on) -> bool:
        """Write a copy and drop those beyond the number kept; False where it could not be: status and log say why.

        `pause` is called between frames; a CheckpointError that it raises ends the writing.
        """
        began_ms, self._began_ms = self._began_ms or _now_ms(), None
        try:
            began = time.perf_counter()
            header = pack_header(self._header(taken))
            stored = self.store.write(taken.entry.seq, header, _with_definitions(taken), pause)
            write_ms = (time.perf_counter() - began) * 1000
        except CheckpointError as error:
            self.failed(error)
            return False
        self.error = None
        self._counters["written"] += 1
        self._newest = _described(stored.seq, taken.taken_at_ms, stored.size_bytes, taken.pause_ms, write_ms)
        self.plan.written(began_ms, _now_ms())
        self._log.commit((), (), {CHECKPOINT: str(stored.seq).encode()})
        self._keep_few(stored, taken.entry.clock_ms)
        return True

    def _header(self, taken: Taken) -> Header:
        return Header(
            format=FORMAT,
            seq=taken.entry.seq,
            entry_checksum=taken.entry.checksum(),
            log_clock_ms=taken.entry.clock_ms,
            clock_ms=taken.clock_ms,
            taken_at_ms=taken.taken_at_ms,
            hits=taken.hits,
            partitions=self._partitions,
            code_digest=code_digest(),
            program_digest=program_digest(taken.program),
            definitions_digest=definitions_digest(pack_published(taken.published)),
            definitions_version=taken.published.version,
            seed=taken.seed,
            users=taken.users,
            sizes=taken.sizes,
        )

    def _keep_few(self, stored: Stored, clock_ms: int) -> None:
        """Remove what is beyond the number kept, and what recovery found damaged. It is tried again next time."""
        damaged = {row["checkpoint"] for row in self._origin.passed_over if row["reason"] == "damaged"}
        try:
            known = self.store.stored()
            kept = [each for each in known if each.name not in damaged or each.seq == stored.seq][: self._kept]
            for old in known:
                if old not in kept:
                    self.store.remove(old)
        except CheckpointError as error:
            self.failed(error)
            return
        clocks = {**self._known_clocks(), stored.seq: clock_ms}
        self._clocks = {each.seq: clocks[each.seq] for each in kept if each.seq in clocks}

    def failed(self, error: Exception) -> None:
        """Note what kept one from being written; later tries wait longer."""
        self._counters["failed"] += 1
        self.plan.failed(_now_ms())
        self.error = str(error) if isinstance(error, UsherError) else f"{type(error).__name__}: {error}"
        _log.warning("A checkpoint could not be written; recovery would reach further back. %s", error)

    # --- what of the log it takes ------------------------------------------------------------------

    def needs_from_ms(self, *, newest: bool = False) -> int | None:
        """Give the clock from which on the log's entries are needed by the oldest checkpoint kept, or by the newest.

        None: by none.

        Nor by those in a folder that does not answer: a log must not grow for good because of it, and is enough alone.
        """
        return (max if newest else min)(self._known_clocks().values(), default=None)

    def _known_clocks(self) -> dict[int, int]:
        if self._clocks is None:
            found: dict[int, int] = {}
            try:
                for stored in self.store.stored()[: self._kept]:
                    with suppress(CheckpointError), self.store.open(stored) as contents:
                        found[stored.seq] = header_of(contents).log_clock_ms
            except CheckpointError as error:
                _log.warning("What checkpoints need of the log is not known. %s", error)
                return {}
            self._clocks = found
        return self._clocks


def _described(
    seq: int, taken_at_ms: int, size_bytes: int, pause_ms: float | None = None, write_ms: float | None = None
) -> dict[str, Any]:
    """Give a checkpoint as status shows it; the times are known of those that this process made."""
    return {
        "seq": seq,
        "taken_at_ms": taken_at_ms,
        "bytes": size_bytes,
        "pause_ms": pause_ms and round(pause_ms, 2),
        "write_ms": write_ms and round(write_ms),
    }


def _with_definitions(taken: Taken) -> dict[str, Part]:
    packed = np.frombuffer(pack_published(taken.published), np.uint8)
    return {DEFINITIONS: Part(packed, len(packed)), **taken.parts}

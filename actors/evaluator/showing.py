"""Showing a machine's membership in the mapped files: by touched rows, or whole where rows are other users' now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from actors.evaluator.key_table import Generation
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.membership_files import MembershipWriter
from actors.evaluator.shadow import Prepared
from cluster.errors import StorageFull

_log = logging.getLogger("usher.evaluator")


class Showing:
    """What readers see of the machine in force. On the thread that evaluates."""

    def __init__(self, writer: MembershipWriter) -> None:
        self._writer = writer
        #: True when slots are other users' than what is shown.
        self._moved = False
        #: What a switch prepared; it is shown next.
        self._prepared: Prepared | None = None
        #: Larger files, which take the place of those at hand next.
        self._larger: Generation | None = None
        #: True while readers are told to ask, because there was no room for the files.
        self._hidden = False

    def moved(self) -> None:
        """Note that the machine's slots are other users' now; drops what a switch prepared that did not come about."""
        if self._prepared is not None and self._prepared.generation is not None:
            self._writer.discard(self._prepared.generation)
        self._moved, self._prepared = True, None

    def switch(self, prepared: Prepared) -> None:
        """Show this machine's files next."""
        self._prepared = prepared

    def larger_files(self, users: int, stride: int, pause: Callable[[], None]) -> Generation | None:
        """Make files with room for so many users, if those at hand are smaller. From any thread; for `move_to`."""
        if users <= self._writer.capacity:
            return None
        keys = self._writer.keys
        generation = self._writer.lay_out(users, stride, pause)
        return replace(generation, keys=keys, entered=keys.enter_ahead(generation.table, pause))

    def discard(self, generation: Generation | None) -> None:
        """Give up files that were made and are not wanted after all."""
        if generation is not None:
            self._writer.discard(generation)

    def move_to(self, generation: Generation | None) -> None:
        """Show membership in these files next."""
        self.discard(self._larger)
        self._larger = generation

    def show(self, machine: EvaluatorMachine, version: int) -> None:
        """Show the membership that is committed now. Where there is no room for it, readers are told to ask."""
        touched = machine.take_touched()
        whole = self._moved or self._hidden or self._prepared is not None or self._larger is not None
        try:
            if whole or not self._writer.publish(machine, touched, machine.user_count, machine.clock_ms):
                self._show_whole(machine, version)
            self._hidden = False
        except StorageFull as full:
            # What is committed stays, and its senders are told so; the next group tries again.
            _log.warning("Look-ups are asked of the evaluator until membership can be mapped again. %s", full)
            self._hidden = True
        self._moved, self._prepared = False, None

    def _show_whole(self, machine: EvaluatorMachine, version: int) -> None:
        keys = None if self._moved else self._writer.keys
        generation, fill_later = None, False
        if self._prepared is not None:
            keys, generation = self._prepared.keys, self._prepared.generation
        elif self._larger is not None and keys is self._larger.keys and keys is not None:
            keys.make_room(len(self._larger.rows))
            keys.move_to(self._larger.table, self._larger.entered)
            generation, self._larger, fill_later = self._larger, None, True
        self.move_to(None)
        names = _names(machine, version)
        self._writer.publish_all(
            machine, names, machine.user_count, machine.clock_ms, keys=keys, generation=generation,
            fill_later=fill_later,
        )  # fmt: skip


def _names(machine: EvaluatorMachine, version: int) -> dict[str, Any]:
    parents = machine.program.arrays.audience_parent.tolist()
    return {
        "definitions_version": version,
        "parents": list(machine.program.parents),
        "audiences": {
            audience: (i, parents[i], machine.program.audience_versions[i])
            for i, audience in enumerate(machine.program.audiences)
        },
    }

"""What a topic holds, in a SQLite file beside the evaluator: for reading by number, clock and kind. Made anew at will.

Each transaction notes how far it has the topic, so that after a crash reading goes on exactly there. It is not synced:
the topic is the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cluster.log.ends import End
from cluster.log.kafka.base import Base, Mark, Position
from cluster.log.kafka.frames import unpack_commit
from cluster.log.records import Entry, TransitionBlock
from cluster.log.sqlite import EvaluatorLog
from cluster.log.tables import INSERT_ENTRY, INSERT_META, USER, entry_row

_POSITION: Final = "kafka.position"
_MARK: Final = "kafka.mark."


class Cache(EvaluatorLog):
    """An `EvaluatorLog` that knows its place in a topic. Make it with `open(..., durable=False)`."""

    def position(self) -> Position | None:
        """Give how far it has its topic; None where it is new."""
        rows = self._read("SELECT value FROM meta WHERE key = ?", (_POSITION,))
        return msgspec.msgpack.decode(rows[0][0], type=Position) if rows else None

    def marks(self) -> list[Mark]:
        """Give the places noted, in order."""
        rows = self._read("SELECT value FROM meta WHERE key >= ? AND key < ? ORDER BY key", (_MARK, _MARK + "~"))
        return [msgspec.msgpack.decode(row[0], type=Mark) for row in rows]

    def take(
        self,
        entries: Sequence[Entry],
        transitions: Sequence[TransitionBlock],
        meta: Mapping[str, bytes],
        position: Position,
        marks: Sequence[Mark] = (),
    ) -> None:
        """Take what comes next in the topic; raises as `commit`."""
        values = {USER + key: value for key, value in meta.items()}
        values |= {f"{_MARK}{mark.offset:020}": msgspec.msgpack.encode(mark) for mark in marks}
        self._commit(entries, transitions, {**values, _POSITION: msgspec.msgpack.encode(position)})

    def begin(self, base: Base, archived: Sequence[TransitionBlock], position: Position) -> None:
        """Begin a new cache at a base's mark, with what was before it."""
        seq, clock_ms, transition_seq = base.mark.end
        lasting = unpack_commit(base.lasting).entries
        values: dict[str, bytes | int] = {USER + key: value for key, value in base.meta.items()}
        values[_POSITION] = msgspec.msgpack.encode(position)
        values["trimmed_seq"] = base.trimmed_seq
        # What is not in the archive any more was dropped.
        values["trimmed_transition_seq"] = archived[0].first_seq - 1 if archived else transition_seq
        self._end = End(seq, clock_ms, archived[0].first_seq - 1 if archived else transition_seq)
        with self._lock, self._owned_transaction() as connection:
            connection.executemany(INSERT_ENTRY, map(entry_row, lasting))
            connection.executemany(INSERT_META, values.items())
        for block in archived:
            self._commit((), (block,), {})

    def values(self) -> dict[str, bytes]:
        """Give all named values."""
        rows = self._read("SELECT key, value FROM meta WHERE key >= ? AND key < ?", (USER, USER + "~"))
        return {key.removeprefix(USER): bytes(value) for key, value in rows}

    def trimmed_seq(self) -> int:
        """Give up to which number entries were trimmed, but for the newest of lasting ones."""
        return int(self._read("SELECT MAX(value) FROM meta WHERE key = 'trimmed_seq'")[0][0] or 0)

    def forget_before(self, mark: Mark, position: Position) -> None:
        """Drop the places before this one."""
        with self._lock, self._owned_transaction() as connection:
            connection.execute("DELETE FROM meta WHERE key >= ? AND key < ?", (_MARK, f"{_MARK}{mark.offset:020}"))
            connection.execute(INSERT_META, (_POSITION, msgspec.msgpack.encode(position)))


def remove_cache(path: Path) -> None:
    """Remove a cache's files, so that the next one begins anew."""
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink(missing_ok=True)

"""Where records go that hold no event: a file of NDJSON, or a topic. Durable before the offset is committed."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

#: A file of this size is renamed, in the place of the one renamed before: two of them are kept at most.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
#: How much of a record is kept in a file; a topic keeps all of it.
_VALUE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside: where it was, why, what it held. `at_ms` is when the broker got it."""

    topic: str
    partition: int
    offset: int
    reason: str
    at_ms: int
    key: bytes | None
    value: bytes | None


class DeadLetters(Protocol):
    """Keeps dead letters; blocks."""

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Return once they are durable; raises OSError or what the broker's client raises."""
        ...


class DeadLetterFile:
    """One file a source and process, in a folder of the node."""

    def __init__(self, path: Path, bytes_max: int = FILE_BYTES_MAX) -> None:
        self.path = path
        self._bytes_max = bytes_max

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Append a line each."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size > self._bytes_max:
            self.path.replace(self.path.with_suffix(".before.ndjson"))
        lines = b"".join(msgspec.json.encode(_row(letter)) + b"\n" for letter in letters)
        # What people sent is nobody else's to read.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _row(letter: DeadLetter) -> dict[str, Any]:
    value = letter.value or b""
    return {
        "topic": letter.topic, "partition": letter.partition, "offset": letter.offset, "reason": letter.reason,
        "at_ms": letter.at_ms, "key_base64": base64.b64encode(letter.key or b"").decode(), "bytes": len(value),
        "value_base64": base64.b64encode(value[:_VALUE_BYTES_MAX]).decode(),
    }  # fmt: skip

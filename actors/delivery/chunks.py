"""Chunks of a backlog as they lie on disk: changes in the order they came, each user at most once.

Beside the changes lies what finds their users without reading them: 128 bits of a hash, in two halves. It is seeded by
a secret of the file, so that no sender can choose users that count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np
import xxhash

from actors.delivery.changes import IDENTIFIERS, RESYNC, Change, joined_cause, split_cause
from actors.delivery.window import CHANGE, IDENTIFIERS_CODE, OWES, RESYNC_CODE, Codes, Flags, Keys, Numbers

_encode: Final = msgspec.msgpack.Encoder().encode
_Columns: TypeAlias = tuple[list[str], list[bool], list[int], list[int], list[int], list[str]]
_decode: Final = msgspec.msgpack.Decoder(_Columns).decode
_CODES: Final = {IDENTIFIERS: IDENTIFIERS_CODE, RESYNC: RESYNC_CODE}
_REPEATS: Final = {code: cause for cause, code in _CODES.items()}
_KINDS: Final[tuple[Literal["exited"], Literal["entered"]]] = ("exited", "entered")


@dataclass(frozen=True, slots=True)
class Packed:
    """One chunk. `at_ms`: when its oldest change of membership happened, None where all only repeat it."""

    count: int
    at_ms: int | None
    codes: Codes
    keys: Keys
    checks: Keys
    payload: bytes = field(repr=False)


def divide(changes: Sequence[Change], size: int) -> Iterable[Sequence[Change]]:
    """Cut changes, in order, into parts of up to `size` that have each user at most once."""
    part: dict[str, Change] = {}
    for change in changes:
        if len(part) == size or change.user_id in part:
            yield list(part.values())
            part = {}
        part[change.user_id] = change
    if part:
        yield list(part.values())


def pack(changes: Sequence[Change], seed: int) -> Packed:
    """Pack changes of distinct users; about 1 µs each."""
    digest = xxhash.xxh3_128_digest
    digests = b"".join([digest(change.user_id.encode(), seed) for change in changes])
    halves = np.frombuffer(digests, "<u8").reshape(-1, 2)
    columns = (
        [change.user_id for change in changes],
        [change.kind == "entered" for change in changes],
        [change.audience_version for change in changes],
        [change.at_ms for change in changes],
        [change.n for change in changes],
        [change.cause for change in changes],
    )
    codes = np.array([code_of(cause) for cause in columns[5]], np.uint8)
    times = np.array(columns[3], np.int64)[~repeats(codes)]
    at_ms = int(times.min()) if len(times) else None
    return Packed(
        len(changes), at_ms, codes, np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1]),
        _encode(columns),
    )  # fmt: skip


def unpack(payload: bytes, first: int, audience: str) -> list[Change]:
    """Give a chunk's changes, numbered from `first`; about 0.5 µs each."""
    return [
        Change(-1, number, audience, version, user, _KINDS[inside], at_ms, n, cause)
        for number, (user, inside, version, at_ms, n, cause) in enumerate(zip(*_decode(payload), strict=True), first)
    ]


def code_of(cause: str) -> int:
    """Give what a cause means for what comes after it."""
    if cause in _CODES:
        return _CODES[cause]
    _, repeat = split_cause(cause)
    return _CODES[repeat] + OWES if repeat else CHANGE


def with_code(change: Change, code: int) -> Change:
    """Give a change as its code says it is by now."""
    if code == code_of(change.cause):
        return change
    cause = _REPEATS.get(code) or joined_cause(split_cause(change.cause)[0], _REPEATS[code - OWES])
    return msgspec.structs.replace(change, cause=cause)


def repeats(codes: Codes) -> Flags:
    """Say which of some changes only repeat membership."""
    found: Flags = (codes == IDENTIFIERS_CODE) | (codes == RESYNC_CODE)
    return found


def keys_of(blob: bytes) -> Keys:
    """Read one half of a chunk's hashes."""
    return np.frombuffer(blob, "<u8")


def numbers_of(first: int, count: int) -> Numbers:
    """Give a chunk's numbers."""
    return np.arange(first, first + count, dtype=np.int64)


def to_bits(flags: Flags) -> bytes | None:
    """Pack flags, None where none is set."""
    return np.packbits(flags).tobytes() if flags.any() else None


def to_codes(codes: Codes) -> bytes | None:
    """Pack codes, None where all are changes."""
    return codes.tobytes() if codes.any() else None


def from_codes(blob: Any, count: int) -> Codes:
    """Read what `to_codes` made."""
    return np.zeros(count, np.uint8) if blob is None else np.frombuffer(blob, np.uint8)


def from_bits(bits: Any, count: int) -> Flags:
    """Read what `to_bits` made."""
    if bits is None:
        return np.zeros(count, np.bool_)
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=count).astype(np.bool_)

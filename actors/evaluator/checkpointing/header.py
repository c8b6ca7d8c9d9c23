"""What a checkpoint says of itself: of which log and entry it is, and which machine can go on from it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from actors.evaluator import layout
from actors.evaluator.program import Program
from cluster.errors import CheckpointError

#: Changed whenever `Header` is, or what a file holds beside the state.
FORMAT: Final = 1


class Header(msgspec.Struct, frozen=True):
    """At which entry of which log the state was whole, and what made it.

    `entry_checksum` is that entry's own: another log, or one that was put back to an older copy, has another one at its
    number. `hits` counts those of the log up to there. `seed` is what the machine's hashes are spread by. `sizes` are
    the audiences' members.
    """

    format: int
    seq: int
    entry_checksum: int
    log_clock_ms: int
    clock_ms: int
    taken_at_ms: int
    hits: int
    partitions: tuple[int, ...]
    code_digest: str
    program_digest: str
    definitions_digest: str
    definitions_version: int
    seed: int
    users: int
    sizes: dict[str, int]


def pack_header(header: Header) -> bytes:
    """Write a header."""
    return msgspec.msgpack.encode(header)


def unpack_header(packed: bytes) -> Header:
    """Read a header. CheckpointError (incompatible) where another release wrote it."""
    try:
        return msgspec.msgpack.decode(packed, type=Header)
    except msgspec.DecodeError as error:
        message = f"The checkpoint has a header of another release: {error}."
        raise CheckpointError(message, reason="incompatible") from error


@cache
def code_digest() -> str:
    """Give a digest of the code that state is a matter of: the layout, and all kernels.

    Of their text, so that no change can be forgotten; the price is a longer first start after a release that changed
    but a comment in them.
    """
    digest = hashlib.blake2b(digest_size=16)
    here = Path(layout.__file__).parent
    names = ("layout.py", "state.py", "structures.py", "symbols.py", "compiling.py", "values.py")
    for path in [*sorted((here / "kernels").glob("*.py")), *(here / name for name in names)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def program_digest(program: Program) -> str:
    """Give a digest of what numbers in a state stand for: the compiled arrays, and the names of what they number."""
    digest = hashlib.blake2b(digest_size=16)
    for name, array in program.arrays._asdict().items():
        digest.update(f"{name} {array.dtype} {array.shape}\0".encode())
        digest.update(array.tobytes())
    models = [(model.id, model.retention_ms) for model in program.models]
    named = (program.parents, models, program.audiences, program.audience_versions, program.time_columns)
    digest.update(repr((*named, program.calendars)).encode())
    return digest.hexdigest()


def definitions_digest(packed: bytes) -> str:
    """Give a digest of packed definitions."""
    return hashlib.blake2b(packed, digest_size=16).hexdigest()

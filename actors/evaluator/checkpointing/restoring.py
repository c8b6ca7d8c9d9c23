"""From a stored checkpoint to the machine that it was taken of, if it can go on in this log under these definitions."""

from __future__ import annotations

from collections.abc import Sequence

from actors.evaluator.checkpointing.header import (
    FORMAT,
    Header,
    code_digest,
    definitions_digest,
    program_digest,
    unpack_header,
)
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.packing import unpack_published
from cluster.checkpoints.container import Contents
from cluster.definitions.model import Published
from cluster.definitions.versions import evaluates_alike
from cluster.errors import CheckpointError
from cluster.log.contract import Log

#: The array that holds the definitions, packed.
DEFINITIONS = "definitions"


def header_of(contents: Contents) -> Header:
    """Read what a checkpoint says of itself. CheckpointError (incompatible) where it is of another release."""
    header = unpack_header(contents.header)
    if header.format != FORMAT:
        message = f"The checkpoint has format {header.format}; this release reads {FORMAT}."
        raise CheckpointError(message, reason="incompatible")
    return header


def restored(
    contents: Contents, header: Header, log: Log, partitions: Sequence[int], published: Published, packed: bytes
) -> EvaluatorMachine:
    """Give the machine as it was at the header's entry, under definitions now in force (`packed`, as the log has them).

    Raises CheckpointError where it cannot go on from there. About 2 s for a million users of 1 KB.
    """
    if header.code_digest != code_digest():
        message = "The checkpoint was made by another release of the engine."
        raise CheckpointError(message, reason="incompatible")
    _check_log(header, log)
    if header.partitions != tuple(partitions):
        message = "The checkpoint is of other partitions than the evaluator's."
        raise CheckpointError(message, reason="incompatible")
    if header.definitions_digest != definitions_digest(packed):
        made_under = unpack_published(contents.array(DEFINITIONS).tobytes())
        if not evaluates_alike(made_under, published):
            message = f"The checkpoint was made under definitions version {header.definitions_version}, \
which evaluate otherwise than version {published.version}."
            raise CheckpointError(message, reason="incompatible")
    machine = EvaluatorMachine(published, seed=header.seed)
    if header.program_digest != program_digest(machine.program):
        message = "The checkpoint was made under another compilation of these definitions."
        raise CheckpointError(message, reason="incompatible")
    arrays = contents.arrays()
    arrays.pop(DEFINITIONS, None)
    machine.resume(arrays)
    return machine


def _check_log(header: Header, log: Log) -> None:
    """Raise unless the log holds the entry at which it was taken."""
    last_seq = log.last_seq()
    if header.seq > last_seq:
        message = f"The checkpoint was taken at entry {header.seq}; the log ends at {last_seq}."
    else:
        entry = next(log.entries(after_seq=header.seq - 1), None)
        if entry is not None and entry.seq == header.seq and entry.checksum() == header.entry_checksum:
            return
        message = f"The log does not reach back to entry {header.seq}, at which the checkpoint was taken."
        if entry is not None and entry.seq == header.seq:
            message = f"The log's entry {header.seq} is not the one at which the checkpoint was taken."
    raise CheckpointError(message, reason="other_log")

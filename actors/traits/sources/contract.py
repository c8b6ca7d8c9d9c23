"""What a reader of a trait source is, and what all readers share: projection, missing packages, errors without secrets.

A reader never hands out more than a batch at a time, so a load needs the typed snapshot and one batch of memory.
Whatever a filesystem or a driver raises becomes a SnapshotError whose text has no secret in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final, Protocol, TypeAlias

import pyarrow as pa

from actors.traits.columns import list_of_json
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted
from cluster.definitions.trait_sources import TraitSource, redact
from cluster.errors import SnapshotError

#: Arrow record batches and schemas; pyarrow ships no types.
Batch: TypeAlias = Any
Schema: TypeAlias = Any
#: Whoever does not take all of them closes it, so that what is open for it closes too.
Batches: TypeAlias = Generator[Batch, None, None]

#: Rows that are converted at a time: what a load needs beside the snapshot itself.
TRAITS_BATCH_ROWS_MAX: Final = 131_072
_RETRY: Final = "Nothing to do: it is read again."


class Reader(Protocol):
    """One source. Both methods block, raise SnapshotError, and may be called from any thread, one at a time."""

    def look(self) -> Fingerprint:
        """Give what tells a changed source from an unchanged one, without reading rows.

        Empty where the source cannot tell. Reasons: `no_files`, `unreachable`, `bad_query`, `missing_extra`.
        """
        ...

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """Open the source: its fingerprint, which belongs to these rows, and its batches.

        A batch has exactly `wanted.names()` in any order, with the source's own types, and TRAITS_BATCH_ROWS_MAX rows
        at most. The iterator raises SnapshotError too; its reasons besides: `damaged`, `missing_column`,
        `ambiguous_column`, `mixed_types`, and `changing` where the source changed while it was read.
        """
        ...


def pieces(batch: Batch, wanted: Wanted) -> Iterator[Batch]:
    """Give the needed columns of a batch, in pieces of bounded length."""
    projected = batch.select(wanted.names()) if batch.schema.names != wanted.names() else batch
    for start in range(0, projected.num_rows, TRAITS_BATCH_ROWS_MAX):
        yield projected.slice(start, TRAITS_BATCH_ROWS_MAX)


def lists_from_json(batch: Batch, wanted: Wanted) -> Batch:
    """Read columns declared list that come as text as JSON arrays: CSV and several databases have no other lists."""
    for name in wanted.lists():
        place = batch.schema.get_field_index(name)
        if (lists := list_of_json(batch.column(place))) is not None:
            batch = batch.set_column(place, name, lists)
    return batch


def needed(package: str, extra: str, kind: str) -> ModuleType:
    """Import an optional package; raises `SnapshotError`, reason `missing_extra`, that names the pip command."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or not package.startswith(error.name):
            raise  # the package is there, and something that it needs is broken
        message = f"Trait sources of kind {kind} need the package {package.partition('.')[0]}, which is not installed."
        step = f"On every machine of Usher: pip install 'usher-audiences[{extra}]'"
        raise SnapshotError(message, reason="missing_extra", next_step=step) from None


@contextmanager
def without_secrets(source: TraitSource) -> Iterator[None]:
    """Take secrets out of every SnapshotError, and make one of whatever nobody foresaw."""
    try:
        yield
    except SnapshotError as error:
        message = redact(error.message, source.secrets())
        # Not `from error`: the texts of errors further down are somebody else's, and logs would print them.
        raise SnapshotError(message, reason=error.reason, next_step=error.next_step) from None
    except Exception as error:
        text = redact(f"{type(error).__name__}: {error}", source.secrets())
        message = f"{source.label} cannot be read: {text.rstrip('.')}."
        raise SnapshotError(message, reason="unreadable", next_step="Check the source and its settings.") from None


def changed(label: str) -> SnapshotError:
    """Give the error of a source that changed while it was read."""
    return SnapshotError(f"{label} changed while it was read.", reason="changing", next_step=_RETRY)


@contextmanager
def reachable(label: str) -> Iterator[None]:
    """Make SnapshotErrors, reason `unreachable`, of what filesystems raise."""
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        message = f"{label} cannot be reached: {str(error).rstrip('.')}."
        step = "Check the path, the network and the credentials in Usher's environment."
        raise SnapshotError(message, reason="unreachable", next_step=step) from error

"""Where lease records are: a local folder, or one at any pyarrow filesystem URI. `FOLDER/EPOCH-NONCE.lease`.

A local record is written beside its place and renamed; its first form is synced: no power cut lets an
epoch come twice. An object appears whole when its upload is completed.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs

from cluster.checkpoints.places import Place
from cluster.errors import LeaseUnavailable
from cluster.leases.machine import Lease
from cluster.log.durable_files import replace_durably

_NAME: Final = re.compile(r"(\d{12})-([0-9a-f]{16})\.lease")


class LeaseStore:
    """The records of one thing that has one owner. Every method raises LeaseUnavailable, and blocks on disk or network.

    `term_ms` is taken for a record that cannot be read: somebody's, but it does not say how long its word is good.
    """

    def __init__(self, uri: str, name: str, term_ms: int) -> None:
        self._place = Place(uri, "leases", name)
        #: Where, as it may be shown.
        self.shown = self._place.shown
        self._local = self._place.local
        self._term_ms = term_ms

    def records(self) -> list[Lease]:
        """Give all there are."""
        with self._typed("read"):
            filesystem, folder = self._place.open()
            found = filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
            records = []
            for info in found:
                name = _NAME.fullmatch(info.base_name)
                if name is not None:
                    with suppress(FileNotFoundError):  # its successor has tidied up
                        records.append(self._read(filesystem, info.path, int(name[1]), name[2]))
            return records

    def put(self, lease: Lease) -> None:
        """Put a record in the place of the same candidate's before."""
        content = msgspec.json.encode(lease)
        with self._typed("written"):
            if self._local is None:
                filesystem, folder = self._place.open()
                filesystem.create_dir(folder, recursive=True)
                with filesystem.open_output_stream(posixpath.join(folder, _name(lease))) as stream:
                    stream.write(content)
                return
            self._local.mkdir(parents=True, exist_ok=True, mode=0o700)
            path = self._local / _name(lease)
            if lease.beat == 0:
                replace_durably(path, content)
                return
            beside = path.with_name(f".{path.name}.tmp")
            beside.write_bytes(content)
            beside.replace(path)

    def remove(self, lease: Lease) -> None:
        """Remove a record that counts for nobody any more."""
        with self._typed("removed"), suppress(FileNotFoundError):
            filesystem, folder = self._place.open()
            filesystem.delete_file(posixpath.join(folder, _name(lease)))

    def _read(self, filesystem: pafs.FileSystem, path: str, epoch: int, nonce: str) -> Lease:
        with filesystem.open_input_stream(path) as stream:
            content = stream.read()
        try:
            lease = msgspec.json.decode(content, type=Lease)
        except msgspec.MsgspecError:
            return Lease(epoch, nonce, "somebody unknown", self._term_ms, -1)
        return msgspec.structs.replace(lease, epoch=epoch, nonce=nonce)

    @contextmanager
    def _typed(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            message = f"The lease at {self.shown} cannot be {what}: {str(error).partition(chr(10))[0].rstrip('.')}."
            step = "See to this folder or bucket; nothing acknowledged is lost."
            raise LeaseUnavailable(message, next_step=step) from error


def _name(lease: Lease) -> str:
    return f"{lease.epoch:012d}-{lease.nonce}.lease"

"""Folders that an operator names, local or at a pyarrow filesystem URI: where checkpoints and leases lie."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pyarrow.fs as pafs

from cluster.errors import InputError

_LOCAL: Final = re.compile(r"file://|[^:]*$")
_SCHEMES: Final = "a folder, or a URI that begins with file://, s3://, gs://, abfs:// or hdfs://"


def shown(uri: str) -> str:
    """Give a URI as it may be shown: without user, password and query, which may hold keys."""
    if _LOCAL.match(uri):
        return uri
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_uri(uri: str) -> None:
    """Raise InputError unless a store can be made of this; asks nobody over the network."""
    if _LOCAL.match(uri):
        if uri.startswith("file://") and not uri.startswith("file:///"):
            message = f"{shown(uri)}: a file:// URI has an absolute path: file:///folder."
            raise InputError(message)
        return
    parts = urlsplit(uri)
    known = parts.scheme in ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
    if not known or not (parts.netloc or parts.scheme in ("hdfs", "viewfs")):
        message = f"Checkpoints cannot be kept at {shown(uri)!r}; allowed: {_SCHEMES}."
        raise InputError(message)


def local_path(uri: str) -> Path | None:
    """Give the local folder that a URI names; None where it names another place."""
    return Path(uri.removeprefix("file://")) if _LOCAL.match(uri) else None


class Place:
    """A folder `below` the one that a URI names. `local` is its path where that is on this machine, else None."""

    def __init__(self, uri: str, *below: str) -> None:
        #: Where, as it may be shown.
        self.shown = posixpath.join(shown(uri), *below)
        self._uri = uri
        self._below = posixpath.join(*below)
        root = local_path(uri)
        self.local: Path | None = root / self._below if root is not None else None
        self._opened: tuple[pafs.FileSystem, str] | None = None

    def open(self) -> tuple[pafs.FileSystem, str]:
        """Give the filesystem and the folder's path in it; connects once. Raises OSError, Arrow errors."""
        if self.local is not None:
            return pafs.LocalFileSystem(), os.fspath(self.local)
        if self._opened is None:
            filesystem, root = pafs.FileSystem.from_uri(self._uri)
            self._opened = filesystem, posixpath.join(root, self._below)
        return self._opened

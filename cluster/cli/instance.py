"""The Usher that runs on a data dir, and how commands reach it."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.errors import DataDirError, InputError

if TYPE_CHECKING:
    from cluster.client.blocking import Client

DATA_DIR_DEFAULT = Path(".usher")

DataDirOption = Annotated[
    Path, typer.Option("--data-dir", metavar="DIR", help="Where Usher keeps its data.", file_okay=False)
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", envvar="USHER_URL", help="The running Usher; else the one on --data-dir."),
]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--api-key", metavar="KEY", envvar="USHER_API_KEY", show_envvar=True,
        help="An API key; else DATA_DIR/admin.key for the Usher on --data-dir. Other users of the machine can see "
        "arguments: prefer the environment variable.",
    ),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instance:
    """What DATA_DIR/usher.json says about the running Usher."""

    pid: int
    url: str
    address: str
    started_at_ms: int
    version: str
    drain_deadline_ms: int


def read_instance(data_dir: Path) -> Instance | None:
    """Give the running Usher's description, None where there is none; raises DataDirError for a damaged one."""
    path = data_dir / "usher.json"
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        return Instance(**{name: content[name] for name in Instance.__slots__})
    except FileNotFoundError:
        return None
    except PermissionError as error:
        message = f"{path} cannot be read: {error.strerror}."
        raise DataDirError(message, next_step="Run this as the user who started Usher, or set USHER_URL.") from error
    except (ValueError, KeyError, TypeError) as error:
        message = f"{path} is damaged: {error}."
        raise DataDirError(message, next_step="Delete it and start Usher again, or set USHER_URL.") from error


def running_pid(data_dir: Path) -> int | None:
    """Give the pid of the process that owns the data dir now, None where nobody does.

    Ownership is the lock, not the pid in a file: a pid may long belong to somebody else, a lock ends with its holder.
    """
    try:
        lock = os.open(data_dir / "lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"The data dir {data_dir} cannot be looked at: {error.strerror}."
        raise DataDirError(message, next_step="Run this as the user who started Usher.") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else None
    finally:
        os.close(lock)


def connect(url: str | None, api_key: str | None, data_dir: Path, timeout_s: float = 60.0) -> Client:
    """Give a client of the Usher meant: `url`, else the one on `data_dir`.

    The data dir's admin key goes only to that data dir's own Usher, never to another URL.
    """
    instance = read_instance(data_dir)
    if url is None and instance is None:
        message = f"No running Usher was found on {data_dir}, and USHER_URL is not set."
        raise NotRunning(message, next_step="Start one with `usher up`, or set USHER_URL or --data-dir.")
    url = url or (instance.url if instance else "")
    if api_key is None and instance is not None and url.rstrip("/") == instance.url.rstrip("/"):
        api_key = _admin_key(data_dir)
    from cluster.client.blocking import Client  # late: a wrong call is told so without waiting for it

    return Client(url, api_key or "", timeout_s=timeout_s)


class NotRunning(DataDirError):
    """No running Usher is known."""


def _admin_key(data_dir: Path) -> str | None:
    try:
        return (data_dir / "admin.key").read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        message = f"{data_dir / 'admin.key'} cannot be read: {error}."
        raise InputError(message, next_step="Set USHER_API_KEY instead.") from error

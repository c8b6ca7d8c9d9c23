"""Peers' packages, each in a virtual environment of its own under the user's cache folder, made when first needed.

They must never meet Usher's own: Flink pins an old numpy and pyarrow, Pathway brings a hundred packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster.errors import UsherError

#: How much of pip's or javac's last words an error shows.
_SAID_CHARS_MAX = 600


class PeerUnavailable(UsherError):
    """The operator: something that this peer needs is not on this machine, and was not to be had."""


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Give the folder for what peers need: XDG_CACHE_HOME or ~/.cache, then `usher-peers`."""
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "usher-peers"


def environment_of(name: str, requirements: Sequence[str], *, dependencies: bool = True) -> Path:
    """Give the folder of the virtual environment that has these requirements; makes it the first time.

    A folder without its last stamp is a half-made one and is made anew. Raises PeerUnavailable where pip fails.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder(os.environ) / f"{name}-python{version}"
    stamp, wanted = folder / "installed", "\n".join(requirements)
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    checked_run([sys.executable, "-m", "venv", str(folder)], "A virtual environment cannot be made", "Install venv.")
    options = [] if dependencies else ["--no-deps"]
    checked_run(
        [str(python_of(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options,
         *requirements],
        f"pip cannot install {', '.join(requirements)} for the peer {name!r}",
        "It needs a package index that has them for this Python; pip's own settings (PIP_INDEX_URL, ...) are used.",
    )
    stamp.write_text(wanted)
    return folder


def python_of(folder: Path) -> Path:
    """Give an environment's interpreter."""
    return folder / "bin" / "python"


def checked_run(command: Sequence[str], what_fails: str, next_step: str) -> str:
    """Run to the end and give stdout; raises PeerUnavailable with what it said where it fails or is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        message = f"{what_fails}: {command[0]} cannot be run ({error.strerror})."
        raise PeerUnavailable(message, next_step=next_step) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_SAID_CHARS_MAX:]
        message = f"{what_fails}: {said}"
        raise PeerUnavailable(message, next_step=next_step)
    return done.stdout

"""How far each file was sent, kept in a small file: a run goes on where the one before ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cluster.errors import InputError
from cluster.ingest.files import EventFile
from cluster.log.durable_files import replace_durably


class Positions:
    """Rows done by file, for one Usher's URL. A file that changed is another file: it begins anew."""

    def __init__(self, path: Path, url: str, shape: str) -> None:
        self._path = path
        #: The same file sent elsewhere, or shaped otherwise, is not done.
        self._prefix = f"{url} {shape} "
        self._known = _read(path)

    def of(self, file: EventFile) -> int:
        """Give how many rows of a file are done."""
        known = self._known.get(self._prefix + file.path, {})
        return int(known["rows"]) if known.get("identity") == file.identity else 0

    def note(self, file: EventFile, rows: int) -> None:
        """Remember that the first `rows` rows are answered for; `save` makes it last."""
        self._known[self._prefix + file.path] = {"identity": file.identity, "rows": rows}

    def save(self) -> None:
        """Write the file. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(self._path, json.dumps(self._known, indent=1).encode())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        message = f"The position file {path} cannot be read: {error}."
        step = "Delete it (events that were sent lately count once all the same), or give another one by --position."
        raise InputError(message, next_step=step) from error
    if not isinstance(known, dict) or not all(isinstance(one, dict) for one in known.values()):
        message = f"{path} is no position file."
        raise InputError(message, next_step="Give another file by --position.")
    return known

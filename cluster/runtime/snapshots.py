"""Copies of trait snapshots for a node that does not have the data dir: what an evaluator recovers from there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final, Protocol

from cluster.errors import NotReady
from cluster.limits import RETRY_AFTER_MS
from cluster.runtime.protocols import Reply

#: How long a loader that starts, or starts anew, is waited for.
_PATIENCE_S: Final = 60.0
_AGAIN_S: Final = 0.2


class Loader(Protocol):
    """What is asked of the trait loader."""

    async def snapshots(self) -> Reply:
        """See `actors.traits.actor.TraitsActor.snapshots`."""
        ...

    async def snapshot_part(self, parent: str, version: int, offset: int) -> Reply:
        """See `actors.traits.actor.TraitsActor.snapshot_part`."""
        ...


async def fetch_snapshots(loader: Loader, folder: Path) -> None:
    """Have every snapshot that the loader keeps in a folder too, and no others; those that are there stay.

    Raises NotReady where the loader does not answer, OSError.
    """
    kept = [(str(parent), int(version)) for parent, version in (await _insist(loader.snapshots))["snapshots"]]
    for path in await asyncio.to_thread(lambda: list(folder.glob("*/*.arrow"))):
        if (path.parent.name, int(path.stem)) not in kept:
            path.unlink(missing_ok=True)
    for parent, version in kept:
        path = folder / parent / f"{version}.arrow"
        if not path.exists():
            await _fetch(loader, parent, version, path)


async def _fetch(loader: Loader, parent: str, version: int, path: Path) -> None:
    """Read a snapshot in parts. It has its name once it is whole; one that the loader dropped meanwhile is left out."""
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True, mode=0o700)
    part_path = path.with_suffix(f".part-{os.getpid()}")
    with part_path.open("wb") as file:
        while True:
            at = file.tell()
            reply = await _insist(lambda at=at: loader.snapshot_part(parent, version, at))
            if reply["bytes"] is None:
                part_path.unlink()
                return
            if not reply["bytes"]:
                break
            await asyncio.to_thread(file.write, reply["bytes"])
    part_path.replace(path)


async def _insist(ask: Any) -> Reply:
    until = asyncio.get_running_loop().time() + _PATIENCE_S
    while True:
        reply: Reply = await ask()
        if "error" not in reply:
            return reply
        if asyncio.get_running_loop().time() > until:
            message = f"The trait loader does not give its snapshots: {reply.get('message') or reply['error']}."
            raise NotReady(message, retry_after_ms=RETRY_AFTER_MS)
        await asyncio.sleep(_AGAIN_S)

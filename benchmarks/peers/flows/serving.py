"""The peer's end of session.py: passes over the files of a folder, asked for line by line."""

from __future__ import annotations

import gc
import json
import sys
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pyarrow as pa

from benchmarks.peers.flows.audiences import Audiences, Event, Transition

#: Shares of the users, each with a state of its own, dealt by a hash of the user: what workers could divide.
SHARES = 8


class Stopwatch:
    """Wall and processor time (of all threads) from `start` to the last `stop`."""

    def __init__(self) -> None:
        self._began = self.seconds = (0.0, 0.0)

    def start(self) -> None:
        """Start, just before the first event is read."""
        self._began = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        """Stop; the last call counts."""
        self.seconds = (time.perf_counter() - self._began[0], time.process_time() - self._began[1])


class Workload:
    """The files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.table: dict[str, Any] = json.loads((folder / "program.json").read_text())

    def shares(self) -> list[Audiences]:
        """Make the shares of the users, their traits known, no event applied."""
        rows = pa.ipc.open_stream(self._folder / "traits.arrow").read_all().to_pylist()
        dealt: list[list[tuple[int, str, dict[str, Any]]]] = [[] for _ in range(SHARES)]
        for number, row in enumerate(rows):
            dealt[share_of(row["user_id"])].append((number, row["user_id"], row))
        shares = [Audiences(self.table) for _ in dealt]
        for share, users in zip(shares, dealt, strict=True):
            share.begin(users)
        return shares

    def batches(self) -> Iterator[list[Event]]:
        """Read the events, a batch of the file at a time."""
        with pa.ipc.open_stream(self._folder / "events.arrow") as stream:
            for batch in stream:
                yield list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def share_of(user: str) -> int:
    """Give the share that a user is in."""
    return crc32(user.encode()) % SHARES


def serve(version: str, run: Callable[[Workload, Stopwatch], Iterable[Transition]]) -> None:
    """Answer stdin's lines; `run` evaluates once, starts and stops the watch, and gives all transitions."""
    workload = Workload(Path(sys.argv[1]))
    _say(version=version)
    for line in sys.stdin:
        asked = json.loads(line)
        watch = Stopwatch()
        gc.collect()
        # The collector would walk millions of live objects again and again: not what is measured.
        gc.disable()
        made = list(run(workload, watch))
        gc.enable()
        if asked["write"]:
            _write(Path(asked["write"]), made)
        wall_s, cpu_s = watch.seconds
        _say(wall_s=wall_s, cpu_s=cpu_s, transitions=len(made))


def _write(path: Path, made: list[Transition]) -> None:
    with path.open("wb") as out:
        for kind, column in zip("qiiB", zip(*made, strict=True), strict=True):
            array(kind, column).tofile(out)


def _say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()

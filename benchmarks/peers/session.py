"""A peer at work: a child process that runs the same job each time it is asked, so that passes can be interleaved.

It says `{"version": ...}` when it is ready; then, for each line `{"exchange": bool, "write": path or null}`, it runs
one pass and says `{"wall_s", "cpu_s", "transitions", ...}`. Lines that are no JSON object are talk, kept for the error
that may follow.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.files import PeerTransitions, read_transitions
from cluster.errors import UsherError

_TALK_LINES_MAX = 20


class PeerFailed(UsherError):
    """A peer's process ended, or said something that is no answer."""


@dataclass(frozen=True, slots=True)
class PeerPass:
    """One pass over all events, start-up excluded: wall and processor seconds (of all threads), transitions made."""

    wall_s: float
    cpu_s: float
    transitions: int


class PeerSession:
    """A peer that is ready; `version` is its own word. Made by `peer_session`."""

    def __init__(self, name: str, child: subprocess.Popen[str], folder: Path) -> None:
        self.name = name
        self._child = child
        self._folder = folder
        self._talk: deque[str] = deque(maxlen=_TALK_LINES_MAX)
        self.version = str(self._answer()["version"])

    def run(self, *, exchange: bool = False) -> PeerPass:
        """Evaluate all events once; raises PeerFailed. `exchange`: with the peer's network exchange by key."""
        return self._run(None, exchange=exchange)

    def transitions(self, *, exchange: bool = False) -> tuple[PeerPass, PeerTransitions]:
        """Evaluate all events once and give the transitions too; writing them is not in the pass's times."""
        path = self._folder / f"transitions-{self.name}.bin"
        done = self._run(path, exchange=exchange)
        return done, read_transitions(path)

    def _run(self, path: Path | None, *, exchange: bool) -> PeerPass:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps({"exchange": exchange, "write": path and str(path)}) + "\n")
        self._child.stdin.flush()
        return parse_pass(self._answer())

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
            self._talk.append(line)
        message = f"The peer {self.name!r} ended (exit code {self._child.wait()}): {''.join(self._talk).strip()}"
        raise PeerFailed(message)


def parse_pass(answer: dict[str, Any]) -> PeerPass:
    """Read a pass; raises PeerFailed for times that cannot be, as of a clock that was never started."""
    done = PeerPass(float(answer["wall_s"]), float(answer["cpu_s"]), int(answer["transitions"]))
    if done.wall_s <= 0 or done.cpu_s <= 0:
        message = f"A peer measured nothing: {answer}"
        raise PeerFailed(message)
    return done


@contextmanager
def peer_session(name: str, command: Sequence[str], folder: Path) -> Iterator[PeerSession]:
    """Start a peer's process on the files in `folder`; it ends with the block."""
    # stderr goes where stdout goes: a library may talk on either, and neither may fill up unread.
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield PeerSession(name, child, folder)
    finally:
        child.kill()  # it holds nothing that lasts
        child.communicate()


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a temporary folder for the files between here and a peer."""
    with tempfile.TemporaryDirectory(prefix="usher-peers-") as folder:
        yield Path(folder)

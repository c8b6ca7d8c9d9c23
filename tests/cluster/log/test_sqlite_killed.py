"""kill -9 in the middle of commits: what was acknowledged is there, and nothing is there by half."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cluster.log.sqlite import EvaluatorLog

ENTRIES_A_COMMIT = 3

#: Commits three entries and one block of two transitions at a time, and says so after each commit.
WRITER = """
import sys
from pathlib import Path
import pyarrow as pa
from cluster.log.records import Entry, TransitionBlock
from cluster.log.sqlite import EvaluatorLog

log = EvaluatorLog.open(Path(sys.argv[1]), owner_epoch=1)
seq, transition = log.last_seq(), log.last_transition_seq()
while True:
    entries = [Entry(seq + i, seq + i, "batch", 1, 1, bytes([i]) * 20_000) for i in (1, 2, 3)]
    block = TransitionBlock.of(transition + 1, pa.record_batch({"at": [seq, seq]}))
    log.commit(entries, [block])
    seq, transition = seq + 3, transition + 2
    print(seq, flush=True)
"""


@pytest.mark.parametrize("commits_before_the_kill", [1, 7, 30])
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_by_half(
    tmp_path: Path, commits_before_the_kill: int
) -> None:
    path = tmp_path / "evaluator-0.db"
    acknowledged = write_and_kill(path, commits_before_the_kill)
    with closing(EvaluatorLog.open(path, owner_epoch=2)) as log:
        found = [entry.seq for entry in log.entries()]
        assert found == list(range(1, log.last_seq() + 1))
        assert log.last_seq() >= acknowledged
        assert log.last_seq() % ENTRIES_A_COMMIT == 0
        commits = log.last_seq() // ENTRIES_A_COMMIT
        assert log.last_transition_seq() == 2 * commits
        assert sum(block.row_count for block in log.transitions_after(0, 1_000_000)) == 2 * commits


def write_and_kill(path: Path, commit_count: int) -> int:
    """Give the last number that the writer said was durable."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [int(writer.stdout.readline()) for _ in range(commit_count)]
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    return said[-1]

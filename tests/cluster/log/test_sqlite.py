"""The SQLite log: group commit, exact reads, trimming, ownership, and what a disk can do to it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataDirError, InternalError, StorageFull
from cluster.log.contract import Log
from cluster.log.sqlite import EvaluatorLog
from tests.cluster.log.kept import block, entry, file_size_limit, seqs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evaluator-0.db"


@pytest.fixture
def log(path: Path) -> Iterator[EvaluatorLog]:
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as opened:
        yield opened


def test_the_sqlite_log_is_a_log(log: EvaluatorLog) -> None:
    taken: Log = log
    assert taken.last_seq() == 0


def test_a_long_log_is_read_in_order_over_many_slices(log: EvaluatorLog) -> None:
    log.commit([entry(i + 1, i, "tick") for i in range(100)], [])
    assert seqs(log) == list(range(1, 101))


@given(sizes=st.lists(st.integers(1, 5), max_size=6), after=st.integers(0, 30), limit=st.integers(0, 30))
def test_transitions_after_gives_exactly_the_rows_asked_for(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], after: int, limit: int
) -> None:
    with closing(EvaluatorLog.open(tmp_path_factory.mktemp("log") / "e.db", owner_epoch=1)) as log:
        starts = [1 + sum(sizes[:i]) for i in range(len(sizes))]
        log.commit([], [block(start, size) for start, size in zip(starts, sizes, strict=True)])
        blocks = log.transitions_after(after, limit)
        found = [at for one in blocks for at in one.rows().column("at").to_pylist()]
        assert found == list(range(after + 1, sum(sizes) + 1))[:limit]
        assert [seq for one in blocks for seq in range(one.first_seq, one.last_seq + 1)] == found


def test_reads_go_on_while_a_commit_is_under_way(log: EvaluatorLog) -> None:
    log.commit([entry(1, 1)], [])
    found: list[list[int]] = []
    with log._lock, log._owned_transaction() as connection:
        connection.execute("INSERT INTO meta VALUES ('unfinished', 1)")
        reader = threading.Thread(target=lambda: found.append(seqs(log)))
        reader.start()
        reader.join(timeout=10)
    assert found == [[1]]


def test_trimming_goes_over_more_than_one_slice_and_gives_room_back(log: EvaluatorLog, path: Path) -> None:
    log.commit([entry(i + 1, i, payload=b"\1" * 100_000) for i in range(50)], [])
    before_bytes = log.size_bytes()
    assert log.trim(49) == 49
    assert log.size_bytes() < before_bytes - 49 * 100_000
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA page_count").fetchone()[0] < 150


def test_trimming_transitions_takes_whole_blocks_and_never_the_last(log: EvaluatorLog, path: Path) -> None:
    log.commit([], [block(1, 3), block(4, 3), block(7, 2)])
    assert log.trim_transitions(5) == 3
    assert [one.first_seq for one in log.transitions_after(0, 100)] == [4, 7]
    assert log.trim_transitions(100) == 3
    log.close()
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as again:
        assert again.last_transition_seq() == 8


def test_a_disk_that_fills_up_within_a_commit_leaves_the_log_unchanged_and_usable(
    log: EvaluatorLog, path: Path
) -> None:
    log.commit([entry(1, 1)], [])
    with file_size_limit(1_000_000), pytest.raises(StorageFull, match="cannot be written"):
        log.commit([entry(2, 2, payload=b"\1" * 3_000_000)], [block(1, 2)], {"cursor": b"2"})
    assert (seqs(log), log.last_seq(), log.transitions_after(0, 10), log.meta("cursor")) == ([1], 1, [], None)
    log.commit([entry(2, 2)], [block(1, 1)])
    log.close()
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as again:
        assert (seqs(again), again.last_transition_seq()) == ([1, 2], 1)


@pytest.mark.parametrize("change", ["payload = X'00'", "clock_ms = clock_ms + 1", "checksum = 0"])
def test_a_damaged_entry_is_named(path: Path, change: str) -> None:
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        log.commit([entry(1, 1), entry(2, 2)], [])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE entries SET {change} WHERE seq = 2")
    with (
        closing(EvaluatorLog.open(path, owner_epoch=1)) as log,
        pytest.raises(DataDirError, match="entry 2") as found,
    ):
        list(log.entries())
    assert str(path) in str(found.value)
    assert "restore" in found.value.next_step


def test_damaged_transitions_are_named(path: Path) -> None:
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        log.commit([], [block(1, 3)])
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE transitions SET max_at_ms = 0")
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log, pytest.raises(DataDirError, match="1 to 3"):
        log.transitions_after(0, 10)


def test_an_unknown_schema_version_is_refused(path: Path) -> None:
    EvaluatorLog.open(path, owner_epoch=1).close()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    with pytest.raises(DataDirError, match="schema version 99"):
        EvaluatorLog.open(path, owner_epoch=1)


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"no database at all, and longer than a header of SQLite would be, to be sure about it. " * 3)
    with pytest.raises(DataDirError, match="damaged"):
        EvaluatorLog.open(path, owner_epoch=1)


def test_a_log_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="missing"):
        EvaluatorLog.open(tmp_path / "missing" / "e.db", owner_epoch=1)


def test_writing_after_closing_is_our_bug(log: EvaluatorLog) -> None:
    log.close()
    log.close()
    with pytest.raises(InternalError, match="closed"):
        log.commit([entry(1, 1)], [])


def test_a_caller_s_values_are_apart_from_the_file_s_own(log: EvaluatorLog, path: Path) -> None:
    log.commit([], [], {"schema": b"the caller's own"})
    log.close()
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as again:
        assert again.meta("schema") == b"the caller's own"


def test_no_kinds_are_no_entries(log: EvaluatorLog) -> None:
    log.commit([entry(1, 1)], [])
    assert list(log.entries(kinds=[])) == []

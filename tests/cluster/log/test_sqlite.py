"""The SQLite log: group commit, exact reads, trimming, ownership, and what a disk can do to it."""

from __future__ import annotations

import resource
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import limits
from cluster.errors import DataDirError, InternalError, StorageFull
from cluster.log import database
from cluster.log.contract import Log
from cluster.log.records import Entry, EntryKind, TransitionBlock
from cluster.log.sqlite import EvaluatorLog


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "evaluator-0.db"


@pytest.fixture
def log(path: Path) -> Iterator[EvaluatorLog]:
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as opened:
        yield opened


def entry(seq: int, clock_ms: int, kind: EntryKind = "batch", subject: str = "", payload: bytes = b"x") -> Entry:
    return Entry(seq, clock_ms, kind, 1, 1, payload, subject)


def block(first_seq: int, count: int) -> TransitionBlock:
    return TransitionBlock.of(
        first_seq, pa.record_batch({"at": pa.array(range(first_seq, first_seq + count), pa.int64())})
    )


def seqs(log: EvaluatorLog) -> list[int]:
    return [one.seq for one in log.entries()]


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let the kernel refuse writes beyond this size: the disk is full, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_sqlite_log_is_a_log(log: EvaluatorLog) -> None:
    taken: Log = log
    assert taken.last_seq() == 0


def test_an_empty_log_has_nothing(log: EvaluatorLog) -> None:
    assert (log.last_seq(), log.last_clock_ms(), log.last_transition_seq()) == (0, None, 0)
    assert list(log.entries()) == []
    assert log.newest("definitions") == []
    assert log.first_clock_ms() is None
    assert log.transitions_after(0, 10) == []
    assert log.meta("cursor") is None


def test_what_was_committed_is_there_after_reopening(path: Path) -> None:
    entries = [
        entry(1, 10, "definitions"),
        entry(2, 10, "traits", "users"),
        entry(3, 11, payload=b"\0" * 100_000),
    ]
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        log.commit(entries, [block(1, 3), block(4, 1)], {"cursor": b"5"})
    with closing(EvaluatorLog.open(path, owner_epoch=2)) as log:
        assert list(log.entries()) == entries
        assert log.transitions_after(0, 10) == [block(1, 3), block(4, 1)]
        assert (log.last_seq(), log.last_clock_ms(), log.last_transition_seq()) == (3, 11, 4)
        assert log.meta("cursor") == b"5"


def test_entries_start_after_a_number_and_are_chosen_by_kind_and_clock(log: EvaluatorLog) -> None:
    kinds: list[EntryKind] = ["definitions", "batch", "tick", "batch", "traits", "tick"]
    log.commit([entry(i + 1, 10 * (i // 2), kind) for i, kind in enumerate(kinds)], [])
    assert [one.seq for one in log.entries(after_seq=4)] == [5, 6]
    assert [one.seq for one in log.entries(kinds=["batch", "traits"])] == [2, 4, 5]
    assert [one.seq for one in log.entries(from_clock_ms=10)] == [3, 4, 5, 6]
    assert [one.seq for one in log.entries(from_clock_ms=11)] == [5, 6]
    assert [one.seq for one in log.entries(after_seq=5, from_clock_ms=10)] == [6]
    assert list(log.entries(from_clock_ms=21)) == []
    assert list(log.entries(kinds=[])) == []


def test_a_long_log_is_read_in_order_over_many_slices(log: EvaluatorLog) -> None:
    log.commit([entry(i + 1, i, "tick") for i in range(100)], [])
    assert seqs(log) == list(range(1, 101))


def test_the_newest_entry_is_found_by_kind_and_subject(log: EvaluatorLog) -> None:
    users, accounts = entry(1, 1, "traits", "users"), entry(2, 2, "traits", "accounts")
    newer, batch, tick = entry(3, 3, "traits", "users"), entry(4, 4), entry(5, 5, "tick")
    log.commit([users, accounts, newer, batch, tick], [])
    assert log.newest("traits") == [accounts, newer]
    assert log.newest("definitions") == []


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


@pytest.mark.parametrize(
    ("entries", "blocks"),
    [
        ([entry(3, 20)], []), ([entry(1, 20)], []), ([entry(2, 9)], []), ([entry(2, 20), entry(3, 19)], []),
        ([], [block(5, 1)]), ([], [block(3, 1)]), ([entry(2, 20)], [block(4, 1), block(4, 1)]),
    ],
)  # fmt: skip
def test_what_does_not_continue_the_log_is_our_bug_and_changes_nothing(
    log: EvaluatorLog, entries: list[Entry], blocks: list[TransitionBlock]
) -> None:
    log.commit([entry(1, 10)], [block(1, 3)])
    with pytest.raises(InternalError, match="not follow"):
        log.commit(entries, blocks)
    assert (seqs(log), log.last_transition_seq()) == ([1], 3)
    log.commit([entry(2, 10)], [block(4, 1)])


def test_reads_go_on_while_a_commit_is_under_way(log: EvaluatorLog) -> None:
    log.commit([entry(1, 1)], [])
    found: list[list[int]] = []
    with log._lock, log._owned_transaction() as connection:
        connection.execute("INSERT INTO meta VALUES ('unfinished', 1)")
        reader = threading.Thread(target=lambda: found.append(seqs(log)))
        reader.start()
        reader.join(timeout=10)
    assert found == [[1]]


def test_trimming_keeps_what_recovery_starts_from(log: EvaluatorLog) -> None:
    kinds: list[EntryKind] = ["definitions", "traits", "traits", "traits", "definitions", "batch", "tick", "batch"]
    subjects = ["", "users", "users", "accounts", "", "", "", ""]
    log.commit([entry(i, i, *one) for i, one in enumerate(zip(kinds, subjects, strict=True), 1)], [])
    log.commit([entry(9, 9, "tick")], [])
    assert log.trim(8) == 4
    assert seqs(log) == [3, 4, 5, 8, 9]
    assert log.first_clock_ms() == 8
    assert log.trim(100) == 1
    assert seqs(log) == [3, 4, 5, 9]
    assert (log.last_seq(), log.last_clock_ms()) == (9, 9)
    log.commit([entry(10, 10)], [])


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


def test_too_little_free_disk_refuses_and_leaves_the_log_usable(
    log: EvaluatorLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.commit([entry(1, 1)], [])
    monkeypatch.setattr(database, "DISK_FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(StorageFull, match="must stay free") as refused:
        log.commit([entry(2, 2)], [block(1, 1)])
    assert refused.value.retry_after_ms == limits.RETRY_AFTER_MS
    monkeypatch.undo()
    assert seqs(log) == [1]
    log.commit([entry(2, 2)], [block(1, 1)])
    assert seqs(log) == [1, 2]


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


def test_the_last_opener_owns_the_log(path: Path, log: EvaluatorLog) -> None:
    log.commit([entry(1, 1)], [])
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as successor:
        with pytest.raises(DataDirError, match="newer run"):
            log.commit([entry(2, 2, payload=b"orphan")], [])
        with pytest.raises(DataDirError, match="newer run"):
            log.trim(100)
        successor.commit([entry(2, 2)], [])
        assert list(successor.entries()) == [entry(1, 1), entry(2, 2)]


def test_a_run_of_an_older_epoch_cannot_open_the_log(path: Path) -> None:
    EvaluatorLog.open(path, owner_epoch=5).close()
    with pytest.raises(DataDirError, match="newer run"):
        EvaluatorLog.open(path, owner_epoch=4)
    EvaluatorLog.open(path, owner_epoch=5).close()


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


def test_values_are_set_with_a_commit_or_alone(log: EvaluatorLog) -> None:
    log.commit([entry(1, 1)], [], {"a": b"1", "b": b"2"})
    log.commit([], [], {"a": b"3"})
    log.commit([], [], {"schema": b"the caller's own"})
    assert (log.meta("a"), log.meta("b"), log.meta("schema")) == (b"3", b"2", b"the caller's own")

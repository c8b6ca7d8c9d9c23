"""Files that are really damaged: what nobody was told of is dropped with a warning, everything else is loud."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cluster.errors import Damaged
from cluster.log.acknowledged import Acknowledged
from cluster.log.sqlite import EvaluatorLog
from cluster.log.write_ahead import WriteAhead, inspect
from tests.cluster.log.kept import block, entry, file_size_limit

PAGE_BYTES = 16 * 1024
FRAME_BYTES = 24 + PAGE_BYTES
COMMITS = 6


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The files of a log whose owner was killed after six commits: none of them is in the database file yet."""
    path = tmp_path / "written" / "evaluator-0.db"
    path.parent.mkdir()
    copy = tmp_path / "evaluator-0.db"
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        for seq in range(1, COMMITS + 1):
            log.commit([entry(seq, seq, payload=os.urandom(40_000))], [block(seq, 1)], {"cursor": b"%d" % seq})
        for file in path.parent.glob("evaluator-0.db*"):
            if not file.name.endswith("-shm"):
                shutil.copyfile(file, copy.with_name(file.name))
    return copy


def ahead(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def note(path: Path) -> Path:
    return path.with_name(f"{path.name}-acknowledged")


def commit_frames(path: Path) -> list[int]:
    """Which frames of the write-ahead file end a commit of entries, or the one before them, which made the schema."""
    content = ahead(path).read_bytes()
    count = (len(content) - 32) // FRAME_BYTES
    ends = [i for i in range(count) if struct.unpack_from(">I", content, 32 + i * FRAME_BYTES + 4)[0]]
    return ends[-COMMITS - 1 :]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def in_frame(path: Path, number: int, offset: int = 24 + 500) -> None:
    flip(ahead(path), 32 + number * FRAME_BYTES + offset)


def opened(path: Path) -> list[int]:
    with closing(EvaluatorLog.open(path, owner_epoch=2)) as log:
        seqs = [one.seq for one in log.entries()]
        assert seqs == list(range(1, log.last_seq() + 1))
        assert sum(one.row_count for one in log.transitions_after(0, 1_000)) == log.last_transition_seq() == len(seqs)
        return seqs


def test_after_a_kill_all_is_there(killed: Path) -> None:
    assert inspect(killed) == WriteAhead()
    assert opened(killed) == list(range(1, COMMITS + 1))


def test_a_clean_end_leaves_nothing_to_look_at(killed: Path) -> None:
    opened(killed)
    assert inspect(killed) == WriteAhead()
    assert opened(killed) == list(range(1, COMMITS + 1))


@pytest.mark.parametrize("cut_bytes", [1, 24, FRAME_BYTES, FRAME_BYTES + 7])
def test_a_last_commit_that_was_never_acknowledged_is_dropped_and_told(
    killed: Path, caplog: pytest.LogCaptureFixture, cut_bytes: int
) -> None:
    note(killed).unlink()
    witness = Acknowledged(note(killed))
    witness.open()
    witness.note(COMMITS - 1, COMMITS - 1)
    witness.close()
    os.truncate(ahead(killed), ahead(killed).stat().st_size - cut_bytes)
    with caplog.at_level(logging.WARNING, "usher.log"):
        assert opened(killed) == list(range(1, COMMITS))
    assert "cut short" in caplog.text
    assert ahead(killed).with_name(f"{ahead(killed).name}-torn").exists()


def test_the_same_cut_after_the_acknowledgement_is_loud(killed: Path) -> None:
    os.truncate(ahead(killed), ahead(killed).stat().st_size - 1)
    with pytest.raises(Damaged, match=f"entry {COMMITS} and transition {COMMITS} were acknowledged") as found:
        opened(killed)
    assert found.value.file == str(killed)
    assert found.value.position == f"after entry {COMMITS - 1}"
    note(killed).unlink()  # what the message says: go on without it
    assert opened(killed) == list(range(1, COMMITS))


def test_a_write_ahead_file_that_is_gone_is_loud(killed: Path) -> None:
    ahead(killed).unlink()
    with pytest.raises(Damaged):
        opened(killed)


@pytest.mark.parametrize("commit", range(COMMITS))
@pytest.mark.parametrize("part", ["salt", "checksum", "page", "page number"])
def test_a_flipped_bit_before_later_commits_is_loud_without_the_note_too(killed: Path, commit: int, part: str) -> None:
    note(killed).unlink()
    frames = commit_frames(killed)
    first = frames[commit] + 1
    in_frame(killed, first, {"salt": 9, "checksum": 17, "page": 24 + 9_000, "page number": 2}[part])
    if commit == COMMITS - 1:
        assert opened(killed) == list(range(1, COMMITS)), "it may have been the last, of which nobody was told"
        return
    kept = 32 + first * FRAME_BYTES
    with pytest.raises(Damaged, match="acknowledged commits lie behind") as found:
        opened(killed)
    assert found.value.file == str(ahead(killed))
    assert found.value.position == f"offset {kept}"
    assert "truncate -s" in found.value.next_step
    with pytest.raises(Damaged):
        opened(killed)
    os.truncate(ahead(killed), kept)  # what the message says: go on without what lies behind
    assert opened(killed) == list(range(1, commit + 1))


def test_a_damaged_head_of_the_write_ahead_file_is_loud(killed: Path) -> None:
    """SQLite takes it for an empty one."""
    for offset in (0, 10, 17, 25):
        flip(ahead(killed), offset)
        with pytest.raises(Damaged, match="offset 0"):
            opened(killed)
        flip(ahead(killed), offset)
    assert opened(killed) == list(range(1, COMMITS + 1))


def test_what_is_left_of_the_file_s_earlier_life_is_no_damage(tmp_path: Path) -> None:
    """The write-ahead file starts over once all of it is in the database: frames of before lie behind those of now."""
    path = tmp_path / "evaluator-0.db"
    copy = tmp_path / "copy" / "evaluator-0.db"
    copy.parent.mkdir()
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        for seq in range(1, 30):
            log.commit([entry(seq, seq, payload=os.urandom(100_000))], [block(seq, 1)])
            if seq == 20:
                with closing(sqlite3.connect(path)) as other:
                    other.execute("PRAGMA wal_checkpoint(RESTART)")
        for file in (path, ahead(path), note(path)):
            shutil.copyfile(file, copy.with_name(file.name))
    assert 0 < len(commit_frames(copy)) <= COMMITS + 1
    assert inspect(copy) == WriteAhead()
    assert len(opened(copy)) == 29


def test_commits_that_failed_half_way_leave_nothing_that_looks_like_damage(tmp_path: Path) -> None:
    path = tmp_path / "evaluator-0.db"
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        log.commit([entry(1, 1)], [block(1, 1)])
        for size in (3_000_000, 2_000_000):
            with file_size_limit(1_000_000), pytest.raises(Exception, match="cannot be written"):
                log.commit([entry(2, 2, payload=os.urandom(size))], [])
        log.commit([entry(2, 2)], [block(2, 1)])
        copy = tmp_path / "copy" / "evaluator-0.db"
        copy.parent.mkdir()
        for file in (path, ahead(path), note(path)):
            shutil.copyfile(file, copy.with_name(file.name))
    assert not inspect(copy).lost
    assert opened(copy) == [1, 2]


# --- the database file ---------------------------------------------------------------------------------


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A log that ended well: all of it is in the database file."""
    path = tmp_path / "evaluator-0.db"
    with closing(EvaluatorLog.open(path, owner_epoch=1)) as log:
        for seq in range(1, 41):
            kind = "tick" if seq % 4 else "batch"
            payload = b"%03d" % seq * 7_000 if kind == "batch" else b""
            log.commit([entry(seq, seq, kind, payload=payload)], [block(seq, 1)])  # type: ignore[arg-type]
    return path


def test_a_flipped_bit_in_an_entry_names_the_entry(closed: Path) -> None:
    place = closed.read_bytes().find(b"020020020020")
    flip(closed, place + 100)
    with closing(EvaluatorLog.open(closed, owner_epoch=2)) as log, pytest.raises(Damaged) as found:
        list(log.entries(kinds=["batch"]))
    assert (found.value.file, found.value.position) == (str(closed), "entry 20")


@pytest.mark.parametrize("what", [
    lambda log: list(log.entries()), lambda log: list(log.entries(kinds=["batch"])),
    lambda log: list(log.entries(after_seq=18)), lambda log: list(log.entries(kinds=["batch"], from_clock_ms=15)),
])  # fmt: skip
def test_an_entry_that_is_missing_is_found_by_who_reads_past_it(
    closed: Path, what: Callable[[EvaluatorLog], object]
) -> None:
    with closing(sqlite3.connect(closed)) as other, other:
        other.execute("DELETE FROM entries WHERE seq = 21")
    with closing(EvaluatorLog.open(closed, owner_epoch=2)) as log:
        assert [one.seq for one in log.entries(after_seq=21)] == list(range(22, 41))
        with pytest.raises(Damaged, match="only"):
            what(log)


def test_transitions_that_are_missing_are_found(closed: Path) -> None:
    with closing(sqlite3.connect(closed)) as other, other:
        other.execute("DELETE FROM transitions WHERE first_seq = 21")
    with closing(EvaluatorLog.open(closed, owner_epoch=2)) as log:
        assert log.transitions_after(0, 20)[-1].last_seq == 20
        for after in (0, 20):
            with pytest.raises(Damaged, match="transitions 21 to 21 are not there"):
                log.transitions_after(after, 100)


def test_trimmed_entries_are_no_gap(closed: Path) -> None:
    with closing(EvaluatorLog.open(closed, owner_epoch=2)) as log:
        assert log.trim(20) == 19
        assert log.trim_transitions(10) == 10
        assert [one.seq for one in log.entries()] == list(range(20, 41))
        assert [one.seq for one in log.entries(kinds=["batch"])] == list(range(20, 41, 4))
        assert log.transitions_after(0, 100)[0].first_seq == 11


def test_a_log_of_an_earlier_release_is_read(closed: Path) -> None:
    """It notes neither what was acknowledged nor what was trimmed."""
    note(closed).unlink()
    with closing(sqlite3.connect(closed)) as other, other:
        other.execute("DELETE FROM meta WHERE key LIKE 'trimmed%'")
        other.execute("DELETE FROM entries WHERE seq < 7")
    with closing(EvaluatorLog.open(closed, owner_epoch=2)) as log:
        assert [one.seq for one in log.entries()] == list(range(7, 41))
        assert log.trim(9) == 2
    with closing(EvaluatorLog.open(closed, owner_epoch=3)) as log:
        assert [one.seq for one in log.entries()] == list(range(9, 41))


def test_a_cut_database_file_is_loud(closed: Path) -> None:
    os.truncate(closed, closed.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
    with pytest.raises(Damaged), closing(EvaluatorLog.open(closed, owner_epoch=2)) as log:
        list(log.entries())


# --- the note --------------------------------------------------------------------------------------------


def test_a_note_that_is_damaged_says_less_and_nothing_wrong(killed: Path) -> None:
    flip(note(killed), 9)
    flip(note(killed), 41)
    assert Acknowledged(note(killed)).read() == (0, 0)
    assert opened(killed) == list(range(1, COMMITS + 1))
    note(killed).write_bytes(b"short")
    assert opened(killed) == list(range(1, COMMITS + 1))


def test_one_half_of_the_note_is_enough(killed: Path) -> None:
    newest = Acknowledged(note(killed)).read()
    assert newest == (COMMITS, COMMITS)
    flip(note(killed), 9)
    flip(note(killed), 9)
    content = bytearray(note(killed).read_bytes())
    content[:32] = b"\0" * 32
    note(killed).write_bytes(content)
    assert Acknowledged(note(killed)).read() in ((COMMITS, COMMITS), (COMMITS - 1, COMMITS - 1))

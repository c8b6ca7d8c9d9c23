"""The laws of `Log`, held by both that keep it: a SQLite file and a Kafka topic."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import closing

import pytest

from cluster import limits
from cluster.errors import Damaged, Fenced, InternalError, StorageFull
from cluster.log import database
from cluster.log.contract import Log
from cluster.log.records import Entry, EntryKind, TransitionBlock
from tests.cluster.log.kept import WRITER, Kept, block, entry, seqs, writer


def test_an_empty_log_has_nothing(kept: Kept) -> None:
    with closing(kept.open()) as log:
        assert (log.last_seq(), log.last_clock_ms(), log.last_transition_seq()) == (0, None, 0)
        assert list(log.entries()) == []
        assert log.newest("definitions") == []
        assert log.first_clock_ms() is None
        assert log.transitions_after(0, 10) == []
        assert log.meta("cursor") is None


@pytest.mark.parametrize("lost", [False, True])
def test_what_was_committed_is_there_after_reopening(kept: Kept, lost: bool) -> None:
    entries = [entry(1, 10, "definitions"), entry(2, 10, "traits", "users"), entry(3, 11, payload=b"\0" * 100_000)]
    with closing(kept.open()) as log:
        log.commit(entries, [block(1, 3), block(4, 1)], {"cursor": b"5"})
    if lost:
        kept.lose_cache()
    with closing(kept.open(2)) as log:
        assert list(log.entries()) == entries
        assert log.transitions_after(0, 10) == [block(1, 3), block(4, 1)]
        assert (log.last_seq(), log.last_clock_ms(), log.last_transition_seq()) == (3, 11, 4)
        assert log.meta("cursor") == b"5"


def test_a_commit_larger_than_any_record_is_whole(kept: Kept) -> None:
    large = [entry(1, 1, payload=os.urandom(2_500_000)), entry(2, 2, payload=os.urandom(10))]
    with closing(kept.open()) as log:
        log.commit(large, [block(1, 100_000)])
        assert list(log.entries()) == large
    kept.lose_cache()
    with closing(kept.open(2)) as log:
        assert list(log.entries()) == large
        assert log.transitions_after(0, 1_000_000) == [block(1, 100_000)]


def test_entries_start_after_a_number_and_are_chosen_by_kind_and_clock(kept: Kept) -> None:
    kinds: list[EntryKind] = ["definitions", "batch", "tick", "batch", "traits", "tick"]
    with closing(kept.open()) as log:
        log.commit([entry(i + 1, 10 * (i // 2), kind) for i, kind in enumerate(kinds)], [])
        assert [one.seq for one in log.entries(after_seq=4)] == [5, 6]
        assert [one.seq for one in log.entries(kinds=["batch", "traits"])] == [2, 4, 5]
        assert [one.seq for one in log.entries(from_clock_ms=10)] == [3, 4, 5, 6]
        assert [one.seq for one in log.entries(after_seq=5, from_clock_ms=10)] == [6]
        assert list(log.entries(from_clock_ms=21)) == []


def test_the_newest_entry_is_found_by_kind_and_subject(kept: Kept) -> None:
    users, accounts = entry(1, 1, "traits", "users"), entry(2, 2, "traits", "accounts")
    newer, batch, tick = entry(3, 3, "traits", "users"), entry(4, 4), entry(5, 5, "tick")
    with closing(kept.open()) as log:
        log.commit([users, accounts, newer, batch, tick], [])
        assert log.newest("traits") == [accounts, newer]
        assert log.newest("definitions") == []


@pytest.mark.parametrize(
    ("entries", "blocks"),
    [
        ([entry(3, 20)], []), ([entry(1, 20)], []), ([entry(2, 9)], []), ([entry(2, 20), entry(3, 19)], []),
        ([], [block(5, 1)]), ([], [block(3, 1)]), ([entry(2, 20)], [block(4, 1), block(4, 1)]),
    ],
)  # fmt: skip
def test_what_does_not_continue_the_log_is_our_bug_and_changes_nothing(
    kept: Kept, entries: list[Entry], blocks: list[TransitionBlock]
) -> None:
    with closing(kept.open()) as log:
        log.commit([entry(1, 10)], [block(1, 3)])
        with pytest.raises(InternalError, match="not follow"):
            log.commit(entries, blocks)
        assert (seqs(log), log.last_transition_seq()) == ([1], 3)
        log.commit([entry(2, 10)], [block(4, 1)])


def test_values_are_set_with_a_commit_or_alone(kept: Kept) -> None:
    with closing(kept.open()) as log:
        log.commit([entry(1, 1)], [], {"a": b"1", "b": b"2"})
        log.commit([], [], {"a": b"3"})
        assert (log.meta("a"), log.meta("b")) == (b"3", b"2")
    kept.lose_cache()
    with closing(kept.open(2)) as log:
        assert (log.meta("a"), log.meta("b")) == (b"3", b"2")


def test_trimming_keeps_what_recovery_starts_from(kept: Kept) -> None:
    kinds: list[EntryKind] = ["definitions", "traits", "traits", "traits", "definitions", "batch", "tick", "batch"]
    subjects = ["", "users", "users", "accounts", "", "", "", ""]
    with closing(kept.open()) as log:
        log.commit([entry(i, i, *one) for i, one in enumerate(zip(kinds, subjects, strict=True), 1)], [])
        log.commit([entry(9, 9, "tick")], [])
        assert log.trim(8) == 4
        assert seqs(log) == [3, 4, 5, 8, 9]
        assert log.first_clock_ms() == 8
        assert log.trim(100) == 1
        assert (log.last_seq(), log.last_clock_ms()) == (9, 9)
        log.commit([entry(10, 10)], [])


# --- owners -----------------------------------------------------------------------------------------


def test_the_last_opener_owns_the_log(kept: Kept) -> None:
    with closing(kept.open()) as first:
        first.commit([entry(1, 1)], [])
        with closing(kept.open()) as successor:
            for _ in range(2):
                with pytest.raises(Fenced, match="newer"):
                    first.commit([entry(2, 2, payload=b"orphan")], [])
            successor.commit([entry(2, 2)], [])
            assert list(successor.entries()) == [entry(1, 1), entry(2, 2)]
    kept.lose_cache()
    with closing(kept.open()) as log:
        assert list(log.entries()) == [entry(1, 1), entry(2, 2)]


def test_a_run_of_an_older_epoch_cannot_open_the_log(kept: Kept) -> None:
    kept.open(5).close()
    with pytest.raises(Fenced, match="newer") as found:
        kept.open(4)
    assert found.value.epoch == 5
    kept.lose_cache()
    with pytest.raises(Fenced, match="newer"):
        kept.open(4)
    kept.open(5).close()


def test_of_owners_that_race_every_acknowledged_commit_counts_once(kept: Kept) -> None:
    """Each opens the log under a higher epoch while the one before writes as fast as it can."""
    acknowledged: list[bytes] = []
    tried: list[bytes] = []

    def write(log: Log, owner: int) -> None:
        number = 0
        with closing(log):
            while True:
                payload = f"{owner}-{number}".encode()
                seq, transition = log.last_seq(), log.last_transition_seq()
                tried.append(payload)
                try:
                    log.commit([entry(seq + 1, seq + 1, payload=payload)], [block(transition + 1, 1)])
                except Fenced:
                    return
                acknowledged.append(payload)
                number += 1

    writers = []
    for owner, epoch in enumerate((1, 1, 2, 2, 3, 7)):
        log = kept.open(epoch)
        writers.append(threading.Thread(target=write, args=(log, owner)))
        writers[-1].start()
        time.sleep(0.05)
    last = kept.open(8)
    for each in writers:
        each.join(60)
        assert not each.is_alive()
    for _ in range(2):
        with closing(last) as log:
            found = [one.payload for one in log.entries()]
            assert seqs(log) == list(range(1, log.last_seq() + 1))
            assert len(found) == len(set(found))
            assert set(acknowledged) <= set(found) <= set(tried)
            assert [p for p in found if p in set(acknowledged)] == acknowledged
            assert log.last_transition_seq() == log.last_seq()
        kept.lose_cache()
        last = kept.open(8)
    last.close()


def test_a_stopped_process_that_goes_on_writes_nothing(kept: Kept) -> None:
    with subprocess.Popen(writer(kept, 1), stdout=subprocess.PIPE, text=True) as zombie:
        assert zombie.stdout is not None
        said = [zombie.stdout.readline() for _ in range(6)]
        zombie.send_signal(signal.SIGSTOP)
        with closing(kept.open(2)) as log:
            before = log.last_seq()
            log.commit([entry(before + 1, before + 1, payload=b"successor")], [])
            zombie.send_signal(signal.SIGCONT)
            said += zombie.stdout.read().splitlines(keepends=True)
            assert said[-1] == "fenced\n"
            assert zombie.wait(60) == 0
            log.commit([entry(before + 2, before + 2, payload=b"successor")], [])
            assert max(int(line) for line in said[1:-1]) <= before
    kept.lose_cache()
    with closing(kept.open(3)) as log:
        assert seqs(log) == list(range(1, before + 3))
        assert [one.payload for one in log.entries(after_seq=before)] == [b"successor"] * 2


# --- crashes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("commits", [1, 7, 25])
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_nothing_by_half(kept: Kept, commits: int) -> None:
    with subprocess.Popen(writer(kept, 1), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        said = [int(process.stdout.readline()) for _ in range(commits)]
        process.kill()
        said += [int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    for _ in range(2):
        with closing(kept.open(2)) as log:
            assert seqs(log) == list(range(1, log.last_seq() + 1))
            assert said[-1] <= log.last_seq() <= said[-1] + 3
            assert log.last_seq() % 3 == 0, "whole commits alone"
            assert log.last_transition_seq() == 2 * log.last_seq() // 3
        kept.lose_cache()


#: Kills itself with a commit durable that nobody was told of, and with a part of one.
UNACKNOWLEDGED = """
import os, signal, sys
from cluster.log.acknowledged import Acknowledged
from cluster.log.kafka.topic import Topic

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def armed():
    Acknowledged.note = die
    Topic.read_through = die
"""
TORN = UNACKNOWLEDGED + """
send = Topic.send

def send_some(topic, records):
    send(topic, records[:2])
    die()

def armed():
    Acknowledged.note = die
    Topic.send = send_some
"""


@pytest.mark.parametrize("crash", [UNACKNOWLEDGED, TORN])
def test_a_kill_between_append_and_acknowledgement_leaves_all_of_it_or_nothing(kept: Kept, crash: str) -> None:
    said = "    print(log.last_seq(), flush=True)"
    code = crash + WRITER.replace(said, f"{said}\n    armed()")
    finished = subprocess.run(writer(kept, 1, code), capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == -signal.SIGKILL, finished.stderr
    assert finished.stdout == "open\n3\n"
    with closing(kept.open(2)) as log:
        assert (log.last_seq(), log.last_transition_seq()) in ((3, 2), (6, 4))
        assert seqs(log) == list(range(1, log.last_seq() + 1))
        seq, transition = log.last_seq(), log.last_transition_seq()
        log.commit([entry(seq + 1, seq + 1)], [block(transition + 1, 1)])
    kept.lose_cache()
    with closing(kept.open(3)) as log:
        assert seqs(log) == list(range(1, seq + 2))


# --- damage and room --------------------------------------------------------------------------------


def test_what_is_damaged_is_named_with_the_way_on(kept: Kept) -> None:
    with closing(kept.open()) as log:
        log.commit([entry(1, 1), entry(2, 2)], [])
    place = kept.damage()
    with pytest.raises(Damaged) as found, closing(kept.open(2)) as log:
        list(log.entries())
    assert found.value.position == place
    assert place in str(found.value)
    assert "restore" in found.value.next_step


def test_a_full_disk_refuses_and_the_log_goes_on_once_there_is_room(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(kept.open()) as log:
        log.commit([entry(1, 1)], [])
        monkeypatch.setattr(database, "DISK_FREE_BYTES_MIN", 1 << 60)
        with pytest.raises(StorageFull, match="must stay free") as refused:
            log.require_room(1)
        with pytest.raises(StorageFull):
            log.commit([entry(2, 2)], [block(1, 1)])
        assert refused.value.retry_after_ms == limits.RETRY_AFTER_MS
        log.commit([entry(2, 2, "tick")], [block(1, 1)])
        monkeypatch.undo()
        assert seqs(log) == [1, 2]
        log.commit([entry(3, 3)], [block(2, 1)])
        assert seqs(log) == [1, 2, 3]


def test_a_log_at_its_bound_refuses_events_until_it_is_trimmed(kept: Kept) -> None:
    with closing(kept.open()) as log:
        log.limit(1_000_000)
        seq = 0
        with pytest.raises(StorageFull, match="log_max_bytes"):  # noqa: PT012
            for seq in range(1, 100):
                log.commit([entry(seq, seq, payload=os.urandom(50_000))], [])
        assert 10 < seq < 25
        with pytest.raises(StorageFull):
            log.require_room(50_000)
        log.commit([entry(seq, seq, "tick")], [block(1, 1)])
        assert log.trim(seq - 3) > 0
        log.commit([entry(seq + 1, seq + 1, payload=os.urandom(50_000))], [])

"""Leases between real processes, over a folder and over servers of object stores' APIs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from cluster.errors import LeaseUnavailable, NotReady
from cluster.leases.keeper import LeaseKeeper, LeaseSettings
from cluster.leases.machine import Lease
from cluster.leases.processes import is_dead, own_name
from tests.cluster.checkpoints.servers import gs_uri, s3_uri

TERM_MS = 1_500

HOLDER = """
import sys, time
from cluster.leases.keeper import LeaseKeeper, LeaseSettings

keeper = LeaseKeeper(LeaseSettings(sys.argv[1], int(sys.argv[2])), "it")
keeper.when_lost(lambda: print("lost", flush=True))
keeper.acquire(60_000)
print(keeper.epoch, flush=True)
while keeper.holds():
    time.sleep(0.002)
print("does not hold", flush=True)
time.sleep(60)
"""


def keeper(uri: str, **options: object) -> LeaseKeeper:
    return LeaseKeeper(LeaseSettings(uri, TERM_MS), "it", **options)  # type: ignore[arg-type]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "state")


@pytest.fixture
def other(uri: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, uri, str(TERM_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "1\n"
            yield process
        finally:
            process.kill()


def eventually(what: object, at_most_s: float = 20.0) -> None:
    assert callable(what)
    until = time.monotonic() + at_most_s
    while not what():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_owner_goes_on_owning_and_lets_go_at_once(uri: str) -> None:
    one, two = keeper(uri), keeper(uri)
    one.acquire(1_000)
    assert (one.holds(), one.epoch, one.is_first) == (True, 1, True)
    with pytest.raises(NotReady, match="has another owner"):
        two.acquire(100)
    time.sleep(3 * TERM_MS / 1000)
    assert one.holds()
    one.release()
    assert not one.holds()
    began = time.monotonic()
    two.acquire(5_000)
    assert time.monotonic() - began < TERM_MS / 1000
    assert (two.epoch, two.is_first) == (2, False)
    two.release()


def test_who_owns_rises_above_an_epoch_that_no_lease_tells_of(uri: str) -> None:
    one = keeper(uri)
    one.acquire(1_000)
    one.rise_to(17)
    assert one.epoch == 17
    time.sleep(2 * TERM_MS / 1000)
    assert one.holds()
    assert [record.epoch for record in one._store.records()] == [17]
    one.release()
    two = keeper(uri)
    two.acquire(1_000)
    assert two.epoch == 18
    two.release()


def test_of_many_that_begin_at_once_one_owns(uri: str) -> None:
    keepers = [keeper(uri) for _ in range(6)]
    owning: list[LeaseKeeper] = []

    def acquire(each: LeaseKeeper) -> None:
        try:
            each.acquire(3 * TERM_MS)
        except NotReady:
            return
        owning.append(each)

    threads = [threading.Thread(target=acquire, args=(each,)) for each in keepers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owning) == 1
    owning[0].release()


def test_a_killed_owner_s_successor_does_not_wait(uri: str, other: subprocess.Popen[str]) -> None:
    other.kill()
    other.wait()
    began = time.monotonic()
    mine = keeper(uri)
    mine.acquire(10_000)
    assert time.monotonic() - began < TERM_MS / 1000
    assert mine.epoch == 2
    mine.release()


def test_a_stopped_owner_is_replaced_and_knows_it_when_it_goes_on(uri: str, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGSTOP)
    mine = keeper(uri)
    began = time.monotonic()
    mine.acquire(10_000)
    assert time.monotonic() - began > 0.7 * TERM_MS / 1000
    assert mine.epoch == 2
    other.send_signal(signal.SIGCONT)
    assert other.stdout is not None
    assert {other.stdout.readline(), other.stdout.readline()} == {"does not hold\n", "lost\n"}
    assert mine.holds()
    mine.release()


def test_an_owner_that_was_stopped_for_a_while_and_not_replaced_goes_on(
    uri: str, other: subprocess.Popen[str]
) -> None:
    store = LeaseSettings(uri, TERM_MS).store("it")
    other.send_signal(signal.SIGSTOP)
    time.sleep(2 * TERM_MS / 1000)
    [stopped] = store.records()
    other.send_signal(signal.SIGCONT)
    eventually(lambda: store.records()[0].beat > stopped.beat + 3)
    [going_on] = store.records()
    assert (going_on.nonce, going_on.epoch) == (stopped.nonce, 1)


def test_no_epoch_comes_twice_whatever_is_left_of_the_records(uri: str) -> None:
    one = keeper(uri, floor=40)
    one.acquire(1_000)
    assert one.epoch == 40
    [record] = Path(uri).rglob("*.lease")
    one.release()
    record.write_bytes(b"\0" * 30)
    two = keeper(uri)
    with pytest.raises(NotReady):
        two.acquire(TERM_MS / 2)  # whose it is nobody knows
    two.acquire(5_000)
    assert two.epoch == 41
    two.release()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("a file")
    with pytest.raises(LeaseUnavailable, match=str(tmp_path)):
        keeper(str(tmp_path)).acquire(1_000)


def test_a_folder_that_goes_away_ends_the_owning(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    lost = threading.Event()
    one = keeper(uri)
    one.acquire(1_000)
    one.when_lost(lost.set)
    os.rename(uri, f"{uri}-away")
    Path(uri).write_text("in its place")
    eventually(lambda: not one.holds())
    assert "cannot be" in caplog.text
    assert not lost.is_set()
    os.unlink(uri)
    os.rename(f"{uri}-away", uri)
    eventually(one.holds)
    one._store.put(Lease(9, "0" * 16, "another", TERM_MS))
    eventually(lost.is_set)
    later = threading.Event()
    one.when_lost(later.set)
    assert later.is_set(), "who asks late is told at once"
    one.release()


@pytest.mark.parametrize("server", [s3_uri, gs_uri], ids=["s3", "gs"])
def test_an_object_store_keeps_the_same_laws(server: Callable[[], AbstractContextManager[str]]) -> None:
    with server() as uri:
        one, two = (LeaseKeeper(LeaseSettings(uri, 4_000), "it") for _ in range(2))
        one.acquire(10_000)
        with pytest.raises(NotReady):
            two.acquire(500)
        time.sleep(2)
        assert one.holds()
        one.release()
        two.acquire(10_000)
        assert (one.holds(), two.holds(), two.epoch) == (False, True, 2)
        eventually(lambda: [record.epoch for record in two._store.records()] == [2])
        two.release()


def test_processes_are_known_by_when_they_began() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        mine = own_name()
        its = f"{mine.rpartition('/')[0].rpartition('/')[0]}/{process.pid}"
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        assert not is_dead(mine)
        assert not is_dead(f"{its}/{started}")
        assert is_dead(f"{its}/{int(started) - 1}"), "another process had that number"
        process.send_signal(signal.SIGSTOP)
        assert not is_dead(f"{its}/{started}")
        process.kill()
        process.wait()
        assert is_dead(f"{its}/{started}")
    assert not is_dead(f"another-machine/1/{process.pid}/1")
    assert not is_dead("something else")

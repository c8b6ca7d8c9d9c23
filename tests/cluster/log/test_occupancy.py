"""A file of one owner: who opened it before and goes on changes nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import Fenced
from cluster.log.database import connect_writer
from cluster.log.occupancy import Occupancy, highest_epoch


def opened(path: Path, epoch: int | None) -> tuple[sqlite3.Connection, Occupancy]:
    connection = connect_writer(path)
    return connection, Occupancy.take(connection, path, epoch)


def written(path: Path) -> list[int]:
    return [number for (number,) in connect_writer(path).execute("SELECT number FROM t ORDER BY number")]


def test_an_earlier_owner_is_refused_and_nothing_of_its_write_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    first, before = opened(path, 3)
    with before.transaction():
        first.execute("CREATE TABLE t (number INTEGER)")
        first.execute("INSERT INTO t VALUES (1)")
    second, after = opened(path, 5)
    with pytest.raises(Fenced) as refused, before.transaction():
        first.execute("INSERT INTO t VALUES (2)")
    assert (refused.value.epoch, str(path) in str(refused.value)) == (5, True)
    with after.transaction():
        second.execute("INSERT INTO t VALUES (3)")
    assert written(path) == [1, 3]
    assert highest_epoch(path) == 5


def test_who_comes_late_under_an_older_epoch_does_not_get_it(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    _, owner = opened(path, 5)
    with pytest.raises(Fenced, match="later start"):
        opened(path, 4)
    with owner.transaction():
        pass
    opened(path, 5)


def test_without_epochs_whoever_opens_last_owns(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    assert highest_epoch(path) == 0
    assert not path.exists()
    _, before = opened(path, None)
    _, after = opened(path, None)
    with pytest.raises(Fenced), before.transaction():
        pass
    with after.transaction():
        pass
    assert highest_epoch(path) == 2


_CHILD = """
import sys
import time
from pathlib import Path
from cluster.errors import Fenced
from cluster.log.database import connect_writer
from cluster.log.occupancy import Occupancy
path = Path(sys.argv[1])
connection = connect_writer(path)
owner = Occupancy.take(connection, path, 1)
with owner.transaction():
    connection.execute("CREATE TABLE t (number INTEGER)")
number = 0
while True:
    number += 1
    try:
        with owner.transaction():
            connection.execute("INSERT INTO t VALUES (?)", (number,))
    except Fenced:
        print("fenced", flush=True)
        break
    print(number, flush=True)
    if number == 20:
        time.sleep(1)  # stopped here: within a commit it would keep the file's lock as long as it is there
"""


def test_a_process_that_is_stopped_and_goes_on_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        while child.stdout.readline() != "20\n":
            pass
        os.kill(child.pid, signal.SIGSTOP)
        try:
            _, owner = opened(path, 2)
            with owner.transaction():
                pass
        finally:
            os.kill(child.pid, signal.SIGCONT)
        said = child.stdout.read().split()
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert said[-1] == "fenced"
    done = max([20, *map(int, said[:-1])])
    assert written(path) == list(range(1, done + 1)), "what it was told is there, and nothing else"

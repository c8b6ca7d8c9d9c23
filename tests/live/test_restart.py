"""Ends and beginnings of a run: SIGTERM drains, the next run goes on, kill -9 of the launcher leaves no orphan.

Comes last of the live tests and stops the Usher they share.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from benchmarks.machine import is_running, process_tree
from cluster.limits import ORPHANS_END_MS
from cluster.runtime.data_dir import DataDir
from cluster.runtime.launch import free_port
from tests.live.usher import (
    Receiver,
    Usher,
    assert_nothing_sent_twice_under_another_id,
    came_and_went,
    eventually,
    kinds,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]


def test_sigterm_drains_and_the_next_run_goes_on_wherever_the_data_dir_is(usher: Usher, receiver: Receiver) -> None:
    usher.track_surely("rich-1", "order_completed", "m-rich-1", channel="app")
    assert usher.track("late", "order_completed", "m-late", channel="web") == 200
    version = usher.status()["version"]
    processes = process_tree(usher.process.pid)
    began = time.monotonic()
    assert usher.stop() == 0, usher.lines
    assert time.monotonic() - began < 30
    assert not (usher.data_dir / "usher.json").exists()
    assert [pid for pid in processes if is_running(pid)] == []

    # moved, and started from another working directory
    elsewhere = usher.data_dir.parent / "elsewhere" / "kept"
    elsewhere.parent.mkdir()
    usher.data_dir.rename(elsewhere)
    again = Usher(elsewhere)
    try:
        ready = again.await_ready()
        assert (ready["admin_key"], ready["version"]) == (None, version)
        recovered = again.checkpoints()["recovered"]
        assert (recovered["entries"], recovered["passed_over"]) == (0, []), "the last checkpoint holds all of it"
        assert recovered["from"].startswith("checkpoint ")
        assert again.is_member("rich_buyers", "rich-1") is True, "also by the snapshot of traits that the log names"
        came_and_went(receiver, "late")
        assert kinds(receiver, "rich-1", "rich_buyers") == ["entered"]
        assert_nothing_sent_twice_under_another_id(receiver)
        the_launcher_is_killed(again)
    finally:
        again.close()


def the_launcher_is_killed(usher: Usher) -> None:
    """Every process of Usher ends by itself, and the data dir and the port are free for the next run.

    (Two helpers of Ray's own, which hold nothing of ours, take up to a minute to notice.)
    """
    own = [row["pid"] for row in usher.status()["actors"]]
    os.kill(usher.process.pid, signal.SIGKILL)
    usher.process.wait()
    epoch = int((usher.data_dir / "epoch").read_text())
    with DataDir(usher.data_dir).open() as owned:
        assert owned.epoch == epoch + 1
    host, _, port = usher.url.removeprefix("http://").partition(":")
    assert free_port(host, int(port), ORPHANS_END_MS) == int(port)
    eventually("no process of ours is left", lambda: not [pid for pid in own if is_running(pid)], patience_s=10)

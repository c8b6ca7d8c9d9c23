"""`recovery`: what is compared is the same whatever way it was come back to, and different where it differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bench_recovery
from benchmarks.bench_recovery import Size, members_digest
from benchmarks.workloads import engine_workload
from cluster.clock import ManualClock
from cluster.limits import CHECKPOINTS_KEPT


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small evaluator's data: 300 users, checkpoints, and 500 events logged since."""
    folder = tmp_path_factory.mktemp("recovery")
    workload = engine_workload(users=300, events=800, audiences=20)
    filled = bench_recovery._Filled(folder, workload, 300)
    filled.checkpoint(10)
    filled.close()
    bench_recovery._log_events(folder, workload, 300)
    return folder


def test_both_ways_come_back_to_the_same_members(folder: Path) -> None:
    found = {}
    for epoch, checkpoints in ((10, True), (11, False)):
        worker = bench_recovery._worker(folder, ManualClock(0), epoch, checkpoints=checkpoints)
        assert worker.machine is not None
        assert worker.checkpoints is not None
        recovered = worker.checkpoints.status()["recovered"]
        assert (recovered["checkpoint_seq"] > 0) is checkpoints
        assert not checkpoints or recovered["events"] == 500
        found[checkpoints] = members_digest(worker.machine)
        worker.machine.tick(worker.machine.clock_ms + 400_000)
        assert members_digest(worker.machine) != found[checkpoints], "time moves members"
        worker.log.close()
    assert found[True] == found[False]


def test_checkpoints_are_no_more_than_are_kept(folder: Path) -> None:
    assert 1 <= len(list((folder / "checkpoints").rglob("*.checkpoint"))) <= CHECKPOINTS_KEPT


def test_the_pause_is_told_by_users() -> None:
    size = Size(
        users=200_000, state_bytes=1, checkpoint_bytes=1, pause_ms=12.0, write_s=0.1, added_ms=1.0, restore_s=1.0,
        recovery_s=2.0, log_alone_s=3.0, rss_bytes=1, same=True, from_checkpoint=True,
    )  # fmt: skip
    assert size.pause_per_100k_ms == pytest.approx(6.0)

"""Who is silent is asked once more and replaced; who answers, starts anew or cannot be seen is left alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cluster.leases.keeper import LeaseSettings
from cluster.leases.machine import Lease
from cluster.runtime import watching
from cluster.runtime.watching import Watch

LEASE = Lease(1, "0123456789abcdef", "one", 5_000)


class Fleet:
    """Processes as the launcher sees them: `mute` ones answer nothing."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.mute: set[str] = set()
        self.replaced: list[str] = []

    def ask(self, name: str) -> str:
        if name not in self.names:
            raise KeyError(name)
        return name

    def heard(self, asked: str, within_s: float) -> bool:
        assert within_s < 5
        return asked not in self.mute

    def replace(self, name: str) -> bool:
        self.replaced.append(name)
        self.mute.discard(name)
        return True


class Looks:
    """A watch that looks every second of a time of its own."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.said: list[str] = []
        self.now_ms = 0.0
        self.settings = LeaseSettings(str(folder))
        self.store = self.settings.store("evaluator-0")
        self.watch = Watch(fleet, fleet.replace, self._lease_of, self.said.append, lambda: self.now_ms)

    def _lease_of(self, name: str) -> LeaseSettings | None:
        return self.settings if name == "evaluator-0" else None

    def times(self, times: int) -> None:
        for _ in range(times):
            self.now_ms += 1_000
            self.watch.look()


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("evaluator-0", "edge-front")


@pytest.fixture
def looks(fleet: Fleet, tmp_path: Path) -> Looks:
    return Looks(fleet, tmp_path)


def test_an_owner_that_does_not_renew_its_lease_nor_answer_is_replaced(fleet: Fleet, looks: Looks) -> None:
    looks.store.put(LEASE)
    looks.times(5)
    fleet.mute = {"evaluator-0"}
    looks.times(2)
    assert fleet.replaced == []
    looks.times(1)
    assert fleet.replaced == ["evaluator-0"]
    assert looks.said == ["evaluator-0 is silent: another process takes its place."]
    looks.times(30)
    assert fleet.replaced == ["evaluator-0"]


def test_an_owner_that_answers_or_is_started_anew_by_ray_is_not(fleet: Fleet, looks: Looks) -> None:
    looks.store.put(LEASE)
    looks.times(200)
    assert fleet.replaced == []


def test_an_owner_that_renews_is_not_asked(fleet: Fleet, looks: Looks) -> None:
    fleet.mute = {"evaluator-0"}
    for beat in range(20):
        looks.store.put(msgspec.structs.replace(LEASE, beat=beat))
        looks.times(5)
    assert fleet.replaced == []


def test_nobody_is_judged_by_a_lease_that_cannot_be_read(
    fleet: Fleet, looks: Looks, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks.store.put(LEASE)
    looks.times(5)
    fleet.mute = {"evaluator-0"}
    (tmp_path / "leases").rename(tmp_path / "gone")
    (tmp_path / "leases").symlink_to("leases")
    looks.times(100)
    assert fleet.replaced == []
    assert "lease" in caplog.text


def test_an_edge_that_does_not_answer_any_more_is_replaced(fleet: Fleet, looks: Looks) -> None:
    looks.times(100)
    fleet.mute = {"edge-front"}
    looks.times(int((watching.ANSWER_TERM_MS + watching.GRACE_MS) / 1000) - 1)
    assert fleet.replaced == []
    looks.times(1)
    assert fleet.replaced == ["edge-front"]


def test_an_edge_that_takes_long_to_start_is_waited_for(fleet: Fleet, looks: Looks) -> None:
    fleet.mute = {"edge-front"}
    looks.times(50)
    assert fleet.replaced == []
    fleet.mute = set()
    looks.times(50)
    fleet.names = ["evaluator-0"]
    looks.times(50)
    assert fleet.replaced == []


def test_it_looks_by_itself_until_it_is_stopped(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK_EVERY_S", 0.001)
    looks = Looks(fleet, tmp_path)
    looks.watch.start()
    while not looks.watch._answers.get("edge-front", 0) > 3:
        looks.now_ms += 1
    looks.watch.stop()
    assert not looks.watch._thread.is_alive()

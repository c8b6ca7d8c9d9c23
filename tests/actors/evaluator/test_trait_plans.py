"""A snapshot by a plan says and does what the same one taken at once does: one entry, one instant, any work between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.evaluator import membership_files, trait_taking, worker
from actors.evaluator.layout import S_INSTANT_LEN
from actors.evaluator.membership_files import MembershipReader
from actors.evaluator.stimuli import GoOnWithTraits, LookAtTraits, PlanTraits, Publish, Tick
from actors.evaluator.trait_rows import UserRoom, prepare
from tests.actors.evaluator.driving import START_MS, Evaluator
from tests.actors.evaluator.examples import event, published, snapshot


class Planned:
    """A snapshot on its way into a driven worker."""

    def __init__(
        self, evaluator: Evaluator, version: int, *, room: UserRoom | None = None, **ltv: float | None
    ) -> None:
        self.evaluator, table = evaluator, snapshot(**ltv)
        path = evaluator.written("users", version, table)
        [seen] = evaluator.do(LookAtTraits("users", version))
        self.rows = prepare(seen["program"], "users", version, path, table, lambda: None)
        assert evaluator.do(PlanTraits(self.rows, room)) == [{"planned": True}]

    def step(self) -> dict[str, Any]:
        return self.evaluator.do(GoOnWithTraits(self.rows))[0]

    def until_aimed(self) -> int:
        """Steps until everybody is marked and due; gives the ms from now."""
        while not (reply := self.step()).get("wait_ms"):
            pass
        return int(reply["wait_ms"])

    def to_the_end(self) -> dict[str, Any]:
        while "wait_ms" in (reply := self.step()):
            self.evaluator.clock.advance(reply["wait_ms"])
            self.evaluator.do(Tick())
        return reply


@pytest.fixture
def evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluator:
    monkeypatch.setattr(trait_taking, "STEP_USERS", 2)
    monkeypatch.setattr(worker, "WAVE_USERS", 1)
    return Evaluator(tmp_path, published())


def test_nobody_sees_anything_before_its_entry_and_all_of_it_from_there(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, ann=500.0, bob=500.0, eve=100.0, zoe=None)
    users = ("ann", "bob", "eve", "zoe")
    evaluator.do(evaluator.batch(*(event("view", user) for user in users)))
    evaluator.clock.advance(1_000)
    before = evaluator.history()
    plan = Planned(evaluator, 2, ann=100.0, bob=500.0, eve=500.0, zoe=None)
    wait_ms = plan.until_aimed()
    evaluator.clock.advance(wait_ms - 1)
    evaluator.do(Tick())
    assert evaluator.history() == before
    assert evaluator.members("eve")["eligible"] is False
    evaluator.clock.advance(1)
    reader = MembershipReader(evaluator.folder / "membership")
    now = evaluator.clock.now_ms()
    assert [reader.is_member("users", user, "eligible", now) for user in users] == [None, True, None, False]
    # Whoever asks is answered by the new snapshot, whoever else is not done yet.
    assert evaluator.members("eve")["eligible"] is True
    assert evaluator.worker.behind
    assert plan.to_the_end()["clock_ms"] == evaluator.clock.now_ms()
    at = now - START_MS
    assert sorted(evaluator.history()[len(before) :]) == [
        ("eligible", "ann", "exited", at, 0, "traits"), ("eligible", "eve", "entered", at, 0, "traits"),
    ]  # fmt: skip
    assert [entry.clock_ms for entry in evaluator.worker.log.entries(kinds=("traits",))][1:] == [now]
    assert evaluator.worker.machine is not None
    assert evaluator.worker.machine.plan is None


def taken_in_a_wave(evaluator: Evaluator, users: int, crash_after: int | None) -> list[Any]:
    """Half of the users change, some are gone, some new; events come in the middle of the wave, and at its instant."""
    names = [f"user{i}" for i in range(users)]
    evaluator.take_traits(1, **{name: 500.0 * (i % 2) for i, name in enumerate(names)})
    evaluator.do(evaluator.batch(*(event("view", name) for name in names)))
    evaluator.clock.advance(1_000)
    fresh = {name: 500.0 * (i % 3) for i, name in enumerate([*names[3:], "new1", "new2"])}
    plan = Planned(evaluator, 2, **fresh)
    evaluator.clock.advance(plan.until_aimed())
    evaluator.do(evaluator.batch(event("order", names[5], channel="web"), event("view", "new2")))
    evaluator.clock.advance(10)
    for step in range(users):
        if step == crash_after:
            evaluator.reopen()
        evaluator.do(evaluator.batch(event("order", names[-step], channel="web")))
        assert evaluator.members(names[step])["eligible"] in (True, False)
        evaluator.clock.advance(1)
    evaluator.clock.advance(60_000)
    for _ in range(10 * users):
        evaluator.do(Tick())
    assert not evaluator.worker.behind
    return sorted(evaluator.history())


@pytest.mark.parametrize("crash_after", [0, 1, 2, 5, 9])
def test_a_crash_in_the_middle_of_its_wave_loses_and_doubles_and_renames_nothing(
    evaluator: Evaluator, tmp_path: Path, crash_after: int
) -> None:
    without = taken_in_a_wave(evaluator, 20, None)
    crashed = Evaluator(tmp_path / "crashed", published())
    assert taken_in_a_wave(crashed, 20, crash_after) == without
    assert len(set(crashed.ids())) == len(crashed.ids()) == len(without)


def test_a_publication_in_the_middle_of_a_plan_ends_it_and_one_in_its_wave_waits(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, ann=500.0, bob=100.0)
    plan = Planned(evaluator, 2, ann=100.0, bob=500.0)
    evaluator.clock.advance(10)
    evaluator.publish(audiences=[{"id": "rich", "parent": "users", "where": {"trait": "ltv", "gt": 300}}])
    assert plan.step()["error"] == "stale"
    plan = Planned(evaluator, 2, ann=100.0, bob=500.0)
    evaluator.clock.advance(plan.until_aimed())
    again = published(evaluator.published, audiences=[])
    evaluator.prepare(again)
    assert evaluator.do(Publish(again))[0]["error"] == "not_ready"
    plan.to_the_end()
    assert [row[:3] for row in evaluator.history() if row[0] == "rich"] == [
        ("rich", "ann", "entered"), ("rich", "ann", "exited"), ("rich", "bob", "entered"),
    ] or [row[1:3] for row in evaluator.history() if row[0] == "rich"] == [
        ("ann", "entered"), ("bob", "entered"), ("ann", "exited"),
    ]  # fmt: skip


def test_a_plan_that_is_late_is_aimed_later(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, **{f"user{i}": 100.0 for i in range(20)})
    evaluator.do(evaluator.batch(*(event("view", f"user{i}") for i in range(20))))
    plan = Planned(evaluator, 2, **{f"user{i}": 500.0 for i in range(20)})
    machine = evaluator.worker.machine
    assert machine is not None
    while machine.plan is None or not machine.plan.armed:
        plan.step()
    aimed_ms = machine.aimed_ms
    evaluator.clock.advance(aimed_ms + 10 - evaluator.clock.now_ms())
    for _ in range(50):
        evaluator.do(Tick())  # those who were due do nothing
    assert machine.aimed_ms > evaluator.clock.now_ms()
    before = evaluator.history()
    plan.to_the_end()
    [at] = {row[3] for row in evaluator.history()[len(before) :]}
    assert at > aimed_ms + 10 - START_MS


def test_a_checkpoint_in_the_middle_of_a_plan_is_one_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trait_taking, "STEP_USERS", 2)
    evaluator = Evaluator(tmp_path, published(), checkpoints=True)
    evaluator.take_traits(1, ann=500.0, bob=100.0)
    evaluator.do(evaluator.batch(event("view", "ann"), event("view", "bob")))
    plan = Planned(evaluator, 2, ann=100.0, bob=500.0, eve=500.0)
    plan.until_aimed()
    assert evaluator.checkpoint()
    evaluator.reopen()
    assert evaluator.origin["checkpoint_seq"]
    evaluator.clock.advance(10_000)
    evaluator.do(Tick())
    assert evaluator.members("ann")["eligible"] is True
    Planned(evaluator, 2, ann=100.0, bob=500.0, eve=500.0).to_the_end()
    assert [evaluator.members(user)["eligible"] for user in ("ann", "bob")] == [False, True]


def test_a_plan_whose_first_steps_were_quick_is_aimed_nearer(evaluator: Evaluator) -> None:
    users = {f"user{i}": 500.0 for i in range(200)}
    plan = Planned(evaluator, 1, **users)
    machine = evaluator.worker.machine
    assert machine is not None
    while machine.plan is None or not machine.plan.armed:
        plan.step()
    first_ms = machine.aimed_ms
    evaluator.do(evaluator.batch(event("view", "user7"), event("view", "user150")))
    assert evaluator.clock.now_ms() < evaluator.clock.now_ms() + plan.until_aimed() < first_ms
    plan.to_the_end()
    changes = [row for row in evaluator.history() if row[5] == "traits"]
    assert len({row[:2] for row in changes}) == len(changes)
    assert {row[3] for row in changes} == {evaluator.worker.log.newest("traits")[0].clock_ms - START_MS}
    assert {row[1] for row in changes} == users.keys()


def test_a_wave_is_not_kept_in_the_chains_of_its_instant(evaluator: Evaluator) -> None:
    plan = Planned(evaluator, 1, **{f"user{i}": 500.0 for i in range(100)})
    evaluator.clock.advance(plan.until_aimed() + 5)
    machine = evaluator.worker.machine
    assert machine is not None
    longest = 0
    evaluator.do(Tick())
    while machine.behind:
        evaluator.do(evaluator.batch(event("view", "user99")))
        evaluator.clock.advance(1)
        longest = max(longest, int(machine.state.scalars[S_INSTANT_LEN]))
    assert len(evaluator.history()) >= 100
    assert longest < 10


def test_room_that_was_made_beside_holds_who_came_before_and_who_came_since(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership_files, "_ROWS_A_FILL", 50)
    monkeypatch.setattr(worker, "WAVE_USERS", 1_000)
    names = [f"user{i}" for i in range(300)]
    evaluator.do(evaluator.batch(*(event("view", name) for name in names)))
    room = evaluator.worker.make_room(2_000)
    assert room.files is not None
    assert room.keys is not None
    later = [f"later{i}" for i in range(50)]
    evaluator.do(evaluator.batch(*(event("view", name) for name in later)))
    monkeypatch.setattr(trait_taking, "STEP_USERS", 64)
    plan = Planned(evaluator, 1, room=room, **{name: 500.0 for name in [*names, *later, "new"]})
    machine = evaluator.worker.machine
    assert machine is not None
    assert machine.state.key_table is room.keys.table
    reader = MembershipReader(evaluator.folder / "membership")
    now = evaluator.clock.now_ms()
    assert reader.is_member("users", names[0], "eligible", now) in (None, False)
    plan.to_the_end()
    evaluator.clock.advance(1)
    now = evaluator.clock.now_ms()
    for _ in range(20):
        evaluator.do(Tick())
        evaluator.do(evaluator.batch(event("view", "new")))
    for name in (names[0], names[-1], later[0], later[-1], "new"):
        assert evaluator.members(name)["eligible"] is True
        assert reader.is_member("users", name, "eligible", now) is True
    assert reader.is_member("users", "nobody", "eligible", now) is False

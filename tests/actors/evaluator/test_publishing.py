"""A publication beside the work: whatever happens between two slices of its backfill, it is as if done at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.evaluator import entries
from actors.evaluator.backfill import Backfill, Pace
from actors.evaluator.shadow import Shadow
from actors.evaluator.stimuli import Lookup, Prepare, Publish, Status, Tick
from actors.evaluator.stored import with_since
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.errors import StorageFull
from tests.actors.evaluator import wide
from tests.actors.evaluator.driving import START_MS, Evaluator
from tests.actors.evaluator.examples import HIDE_PROMO, event, published
from tests.properties.engine import snapshot_of

Step = tuple[str, int, Any]
#: More slices than anything happens in, and steps between most of them.
SEEDS = range(12)
VIEWERS = {"id": "viewers", "parent": "users", "where": {"event": "view", "within": "10s"}}


class Killed(BaseException):
    """The process ends here."""


class Between(Pace):
    """Does something between two slices, on the same thread."""

    def __init__(self) -> None:
        super().__init__()
        self.do: Callable[[], None] = lambda: None

    def pause(self) -> None:
        self.do()


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "SLICE_ROWS", 3)


def wide_published(previous: Published | None, seed: int) -> Published:
    return publish(previous, parse_document(wide.document(seed), "wide", {}))


class Wide:
    """An evaluator under wide definitions, which takes steps of a wide history."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.between = Between()
        self.definitions = wide_published(None, seed)
        self.evaluator = Evaluator(folder, self.definitions, self.between)
        self.snapshots = 0

    def take(self, step: Step) -> None:
        kind, after_ms, value = step
        evaluator = self.evaluator
        evaluator.clock.advance(after_ms)
        if kind == "batch":
            reply = evaluator.do(evaluator.batch(*value))[0]
            assert "error" not in reply, reply
        elif kind == "traits":
            parent, table = value
            model = self.definitions.definitions.parent_models[parent]
            types = {name: column.type for name, column in model.snapshot_columns.items()}
            self.snapshots += 1
            rows = table.append_column(model.primary_key, table.column("key")) if model.primary_key != "key" else table
            evaluator.take_snapshot(parent, self.snapshots, snapshot_of("key", types, rows))
        else:
            evaluator.do(Tick())

    def prepare(self, seed: int) -> Backfill:
        """Begin the publication of another document."""
        return self.prepare_these(wide_published(self.definitions, seed))

    def prepare_these(self, definitions: Published) -> Backfill:
        self.definitions = definitions
        backfill = self.evaluator.prepare(self.definitions)
        assert backfill is not None
        return backfill

    def switch(self) -> None:
        reply = self.evaluator.do(Publish(self.definitions))[0]
        assert "error" not in reply, reply
        self.evaluator.published = self.definitions

    def members(self) -> set[tuple[str, str]]:
        machine = self.evaluator.worker.machine
        assert machine is not None
        return {
            (audience, user)
            for audience in machine.program.audiences
            for user in machine.user_keys(machine.members(audience)).to_pylist()
        }

    def sizes(self) -> dict[str, int]:
        return {name: row["size"] for name, row in self.evaluator.do(Status())[0]["audiences"].items()}

    def seen(self) -> tuple[Any, ...]:
        return sorted(self.evaluator.history()), sorted(self.evaluator.ids()), self.members(), self.sizes()


def steps_of(seed: int, count: int) -> Iterator[Step]:
    """Without jumps by days, which would leave nothing to replay."""
    for kind, after_ms, value in wide.history(seed, count * 2):
        if kind != "definitions":
            yield kind, after_ms if after_ms <= 65_536 else 3, value


class Drawn:
    """Takes steps of a history between slices as a seed draws it, and does the same, in order, to a twin later."""

    def __init__(self, world: Wide, seed: int) -> None:
        self.world = world
        self.steps = steps_of(seed, 100)
        self.draw = random.Random(seed)
        self.taken: list[Step] = []
        world.between.do = self.maybe

    def take(self, count: int) -> None:
        for _ in range(count):
            step = next(self.steps)
            self.taken.append(step)
            self.world.take(step)

    def maybe(self) -> None:
        if self.draw.random() < 0.2 and len(self.taken) < 50:
            self.take(1)

    def repeat(self, twin: Wide) -> None:
        for step in self.taken:
            twin.take(step)
        self.taken = []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_publication_beside_the_work_is_one_done_at_once_at_its_switch(tmp_path: Path, seed: int) -> None:
    world, twin = Wide(tmp_path / "world", seed), Wide(tmp_path / "twin", seed)
    drawn = Drawn(world, seed)
    drawn.take(15)
    backfill = world.prepare(seed + 100)
    backfill.build()
    assert backfill.ready
    drawn.take(drawn.draw.randrange(6))
    world.switch()
    drawn.repeat(twin)
    twin.prepare(seed + 100).build()
    twin.switch()
    assert world.seen() == twin.seen()
    world.between.do = lambda: None
    drawn.take(8)
    drawn.repeat(twin)
    assert world.seen() == twin.seen()
    assert len(set(world.evaluator.ids())) == len(world.evaluator.ids())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_kill_between_slices_leaves_the_old_version_and_one_after_the_switch_the_new(
    tmp_path: Path, seed: int
) -> None:
    world, twin = Wide(tmp_path / "world", seed), Wide(tmp_path / "twin", seed)
    drawn = Drawn(world, seed)
    drawn.take(10)
    left = drawn.draw.randrange(1, 5)

    def until_killed() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        drawn.maybe()

    world.between.do = until_killed
    backfill = world.prepare(seed + 100)
    with pytest.raises(Killed):
        backfill.build()
    drawn.repeat(twin)
    world.evaluator.reopen()
    assert world.evaluator.worker.version == 1
    assert world.members() == twin.members()
    world.between.do = drawn.maybe
    world.prepare_these(world.definitions).build()
    world.switch()
    world.evaluator.reopen()
    assert world.evaluator.worker.version == 2
    drawn.repeat(twin)
    twin.prepare(seed + 100).build()
    twin.switch()
    assert world.seen() == twin.seen()
    drawn.take(5)
    drawn.repeat(twin)
    assert world.seen() == twin.seen()
    assert len(list((world.evaluator.folder / "membership").iterdir())) == 4, "what the killed one laid out is gone"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_newer_publication_takes_the_place_of_one_that_is_being_built(tmp_path: Path, seed: int) -> None:
    world, twin = Wide(tmp_path / "world", seed), Wide(tmp_path / "twin", seed)
    drawn = Drawn(world, seed)
    drawn.take(12)
    first = world.prepare(seed + 100)
    slices_left = drawn.draw.randrange(1, 30)

    def until_replaced() -> None:
        nonlocal slices_left
        slices_left -= 1
        if slices_left == 0:
            world.prepare(seed + 200)
        drawn.maybe()

    world.between.do = until_replaced
    first.build()
    if slices_left > 0:
        assert first.ready
        world.prepare(seed + 200)
    assert (first.ready, first.ended) == (False, "version 3 took the place of version 2")
    backfill = world.evaluator.worker.backfill
    assert backfill is not None
    world.between.do = drawn.maybe
    backfill.build()
    world.switch()
    drawn.repeat(twin)
    twin.prepare_these(world.definitions).build()
    twin.switch()
    assert world.seen() == twin.seen()
    assert len(list((world.evaluator.folder / "membership").iterdir())) == 4


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    return Evaluator(tmp_path, published(), Between())


def test_live_work_goes_on_under_the_old_version_until_the_switch(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("view", "ann")))
    new = published(evaluator.published, audiences=[VIEWERS])
    backfill = evaluator.prepare(new)
    assert backfill is not None
    backfill.build()
    assert evaluator.do(evaluator.batch(event("view", "ben")))[0]["outcomes"] == b"\x00"
    assert evaluator.do(Lookup("users", ("ann",), ("viewers",), False))[0]["error"] == "stale"
    assert {row[0] for row in evaluator.history()} == {"quiet"}
    status = evaluator.do(Status())[0]
    assert (status["version"], status["backfill"]) == (1, {"version": 2, "percent": 100, "ready": True})
    evaluator.do(Publish(new))
    assert evaluator.do(Lookup("users", ("ann", "ben"), ("viewers",), False))[0]["members"] == [[True], [True]]
    assert evaluator.do(Status())[0]["backfill"] is None


def test_progress_only_grows_and_is_whole_only_once_it_is_ready(evaluator: Evaluator) -> None:
    for number in range(30):
        evaluator.do(evaluator.batch(event("view", f"u{number}")))
    assert isinstance(evaluator.pace, Between)
    backfill = evaluator.prepare(published(evaluator.published, audiences=[VIEWERS]))
    assert backfill is not None
    seen = [backfill.percent()]
    evaluator.pace.do = lambda: seen.append(backfill.percent())
    backfill.build()
    assert seen == sorted(seen)
    assert (seen[0], backfill.percent()) == (0, 100)
    assert 0 < seen[len(seen) // 2] <= seen[-1] < 100


class Unceasing(Between):
    """Live work that never stops, unless it has to make way."""

    hurried = False
    times_hurried = 0

    def hurry(self, wanted: bool) -> None:
        self.times_hurried += wanted and not self.hurried
        self.hurried = wanted

    def pause(self) -> None:
        if not self.hurried:
            self.do()


def test_live_work_that_never_stops_makes_way_in_the_end(tmp_path: Path) -> None:
    pace = Unceasing()
    evaluator = Evaluator(tmp_path, published(), pace)
    for number in range(10):
        evaluator.do(evaluator.batch(*(event("view", f"u{number}") for _ in range(4))))
    pace.do = lambda: evaluator.do(*(evaluator.batch(*(event("view", "ann") for _ in range(4))) for _ in range(3)))
    backfill = evaluator.prepare(published(evaluator.published, audiences=[VIEWERS]))
    assert backfill is not None
    backfill.build()
    assert (backfill.ready, pace.times_hurried, pace.hurried) == (True, 1, False)


def test_what_is_not_prepared_is_not_switched_to(evaluator: Evaluator) -> None:
    new = published(evaluator.published, audiences=[VIEWERS])
    for prepare in ([], [Prepare(new)], [Prepare(published(new, audiences=[]))]):
        reply = evaluator.do(*prepare, Publish(new))[-1]
        assert (reply["error"], evaluator.worker.version) == ("not_ready", 1)
    assert {row[0] for row in evaluator.history()} <= {"quiet"}


def test_an_error_in_a_backfill_is_told_and_harms_nothing_else(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        message = "no memory for it"
        raise MemoryError(message)

    new = published(evaluator.published, audiences=[VIEWERS])
    for method in ("load", "entries", "prepared"):
        with monkeypatch.context() as patch:
            patch.setattr(Shadow, method, fail)
            backfill = evaluator.prepare(new)
            assert backfill is not None
            backfill.build()
            reply = evaluator.do(evaluator.batch(event("view", "ann")), Publish(new))[-1]
        assert (reply["error"], backfill.ended) == ("not_ready", "MemoryError: no memory for it"), method
        assert evaluator.do(evaluator.batch(event("view", "ann")))[0]["outcomes"] == b"\x00"
        assert len(list((evaluator.folder / "membership").iterdir())) == 4, method
    assert evaluator.put_in_force(new)["clock_ms"] == START_MS


def test_a_switch_without_room_leaves_the_old_version_and_can_be_tried_again(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        message = "no room"
        raise StorageFull(message, retry_after_ms=5_000)

    evaluator.do(evaluator.batch(event("view", "ann")))
    new = published(evaluator.published, audiences=[VIEWERS])
    backfill = evaluator.prepare(new)
    assert backfill is not None
    backfill.build()
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.worker.log, "commit", full)
        assert evaluator.do(Publish(new))[0]["error"] == "storage_full"
    assert evaluator.members("ann")["quiet"] is True
    assert len(list((evaluator.folder / "membership").iterdir())) == 4
    assert "error" not in evaluator.put_in_force(new)
    assert evaluator.history()[1:] == [
        ("quiet", "ann", "exited", 0, 1, "definition"), ("viewers", "ann", "entered", 0, 0, "definition"),
    ]


def test_a_snapshot_that_a_later_one_replaced_is_not_looked_for(evaluator: Evaluator) -> None:
    rich = {"id": "rich", "parent": "users", "where": {"trait": "ltv", "gt": 300}}
    new = published(evaluator.published, audiences=[rich])
    backfill = evaluator.prepare(new)
    assert backfill is not None
    assert isinstance(evaluator.pace, Between)
    backfill.build()
    evaluator.take_traits(1, ann=500.0, ben=1.0)
    evaluator.take_traits(2, ann=1.0, ben=500.0)
    (evaluator.folder / "users-1.arrow").unlink()
    evaluator.do(Publish(new))
    assert evaluator.do(Lookup("users", ("ann", "ben"), ("rich",), False))[0]["members"] == [[False], [True]]


def test_what_does_not_concern_evaluation_is_in_force_without_a_backfill(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", channel="web")))
    machine, before = evaluator.worker.machine, evaluator.history()
    paused = {"id": "hide_promo", "parent": "users", "where": HIDE_PROMO, "status": "paused", "name": "Another"}
    others = [each for each in published().definitions.document["audiences"] if each["id"] != "hide_promo"]
    evaluator.publish(audiences=[paused, *others])
    assert evaluator.worker.backfill is None
    assert (evaluator.worker.machine, evaluator.history()) == (machine, before)
    assert evaluator.members("ann")["hide_promo"] is True
    assert evaluator.do(evaluator.batch(event("view", "ann")))[0]["outcomes"] == b"\x00"
    evaluator.reopen()
    assert evaluator.worker.version == 2
    assert evaluator.members("ann")["hide_promo"] is True


def test_going_back_to_what_is_in_force_ends_the_backfill_of_what_was_to_be(evaluator: Evaluator) -> None:
    other = published(evaluator.published, audiences=[VIEWERS])
    backfill = evaluator.prepare(other)
    assert backfill is not None
    backfill.build()
    back = replace(published(), version=3)
    assert evaluator.prepare(back) is None
    assert (backfill.ready, backfill.ended) == (False, "version 3 took the place of version 2")
    evaluator.do(Publish(back))
    assert evaluator.worker.version == 3
    assert len(list((evaluator.folder / "membership").iterdir())) == 4


@pytest.mark.parametrize("gone", [[], [{**VIEWERS, "status": "archived"}]], ids=["deleted", "archived"])
def test_an_id_that_is_used_again_starts_clean(evaluator: Evaluator, gone: list[Any]) -> None:
    evaluator.publish(audiences=[VIEWERS])
    evaluator.do(evaluator.batch(event("view", "ann")))
    evaluator.clock.advance(1_000)
    evaluator.publish(audiences=gone)
    evaluator.reopen()
    evaluator.clock.advance(1_000)
    evaluator.publish(audiences=[{**VIEWERS, "where": {"event": "view", "within": "1m"}}])
    asked = Lookup("users", ("ann",), ("viewers",), True)
    reply = with_since(evaluator.worker.log, evaluator.do(asked)[0], asked.users, asked.audiences)
    assert reply["details"][0][0] == {"since": START_MS + 2_000, "changes_at": START_MS + 60_001, "version": 2}
    assert [row[2:] for row in evaluator.history() if row[0] == "viewers"] == [
        ("entered", 1, 0, "event"), ("exited", 1_000, 0, "definition"), ("entered", 2_000, 0, "definition"),
    ]
    assert len(set(evaluator.ids())) == len(evaluator.ids())


def test_each_switch_has_a_ms_of_its_own_after_what_it_ends(evaluator: Evaluator) -> None:
    evaluator.publish(audiences=[VIEWERS])
    evaluator.do(evaluator.batch(event("view", "ann")))
    evaluator.publish(audiences=[])
    evaluator.reopen()
    evaluator.publish(audiences=[VIEWERS])
    assert [row[2:5] for row in evaluator.history() if row[0] == "viewers"] == [
        ("entered", 1, 0), ("exited", 1, 1), ("entered", 2, 0),
    ]


def test_what_the_new_machine_threw_away_at_the_instant_of_the_switch_does_not_count(evaluator: Evaluator) -> None:
    """It saw ann enter and leave before it was in force: nobody was told."""
    odd = {"any": [{"event": "view", "exactly": count, "within": "10s"} for count in (1, 3)]}
    new = published(evaluator.published, audiences=[{"id": "odd", "parent": "users", "where": odd}])
    backfill = evaluator.prepare(new)
    assert backfill is not None
    backfill.build()
    evaluator.do(evaluator.batch(event("view", "ann")), evaluator.batch(event("view", "ann")), Publish(new))
    evaluator.published = new
    evaluator.do(evaluator.batch(event("view", "ann")))
    assert [row for row in evaluator.history() if row[0] == "odd"] == [("odd", "ann", "entered", 1, 0, "event")]


def test_a_user_whom_the_new_version_does_not_know_leaves(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("view", "ann"), event("order", "ben", channel="ios")))
    order_only = [{**model, "name": "Orders"} for model in published().definitions.document["event_models"][:1]]
    quiet = {"id": "quiet", "parent": "users", "where": {"event": "order", "at_most": 1, "within": "1m"}}
    evaluator.publish(event_models=order_only, audiences=[quiet])
    assert ("quiet", "ann", "exited", 0, 1, "definition") in evaluator.history()
    assert evaluator.do(Status())[0]["audiences"] == {"quiet": {"size": 1, "version": 1}}


def test_new_users_beyond_the_room_that_was_laid_out_are_in_the_files(evaluator: Evaluator) -> None:
    from actors.evaluator.membership_files import MembershipReader

    new = published(evaluator.published, audiences=[VIEWERS])
    backfill = evaluator.prepare(new)
    assert backfill is not None
    backfill.build()
    users = [f"user_{i}" for i in range(3_000)]
    evaluator.do(evaluator.batch(*(event("view", user) for user in users)), Publish(new))
    reader = MembershipReader(evaluator.folder / "membership")
    assert all(reader.is_member("users", user, "viewers", START_MS) for user in users)
    assert reader.is_member("users", "nobody", "viewers", START_MS) is False
    assert pa.array(sorted(users)).equals(pa.array(sorted({row[1] for row in evaluator.history()})))

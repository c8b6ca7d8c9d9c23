"""Users that move to other evaluators, while events come and through crashes: nobody can tell from what is emitted."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.evaluator.stimuli import Append, Hold, Retire
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from tests.actors.evaluator.examples import DOCUMENT, HIDE_PROMO, event
from tests.actors.evaluator.succession.town import PARTITIONS, Town

USERS = [f"u{n}" for n in range(9)]
SHOPS = [f"s{n}" for n in range(3)]
SHOP_EVENT = {**DOCUMENT["event_models"][0], "id": "sale", "parent": "shops", "foreign_key": "context.shop"}
TWO_PARENTS = {
    **DOCUMENT,
    "settings": {**DOCUMENT["settings"], "partitions": PARTITIONS},
    "parent_models": [*DOCUMENT["parent_models"], {"id": "shops", "primary_key": "shop_id"}],
    "event_models": [*DOCUMENT["event_models"], SHOP_EVENT],
    "audiences": [
        *DOCUMENT["audiences"],
        {"id": "busy", "parent": "shops", "where": {"event": "sale", "at_least": 2, "within": "7s"}},
    ],
}
LATER = [*TWO_PARENTS["audiences"], {"id": "seen", "parent": "users", "where": {"event": "view", "within": "20s"}}]
OWNERS = [(0,) * 8, (0, 0, 0, 0, 1, 1, 1, 1), (0, 1, 2, 0, 1, 2, 0, 1), (0, 1, 1, 1, 1, 1, 1, 1)]


def published(previous: Published | None = None, **changes: Any) -> Published:
    return publish(previous, parse_document({**TWO_PARENTS, **changes}, "test.yaml", {}))


#: A step: ms that pass, then events (who, what, shop, lateness), a snapshot, or nothing.
EVENTS = st.lists(
    st.tuples(st.sampled_from(USERS), st.sampled_from(["order", "view", "other"]), st.sampled_from(SHOPS),
              st.sampled_from([0, 0, 1, 4_999, 5_000])),
    max_size=4,
)  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 200, 4_999, 5_000, 7_000, 31_000]), EVENTS, st.booleans()), max_size=8
)


class Story:
    """Plays steps; the same ones give every town the same events."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.number = 0
        self.version = 0

    def play(self, steps: Sequence[Any]) -> None:
        for after, events, traits in steps:
            self.town.clock.advance(after)
            now = self.town.clock.now_ms()
            rows = []
            for user, name, shop, late in events:
                self.number += 1
                # Every third has no id: one that came twice would count twice.
                message = None if self.number % 3 == 0 else f"m{self.number % 11}"
                rows.append(event(name, user, message, timestamp=now - late, channel="web", context={"shop": shop}))
            if traits:
                self.version += 1
                values = {user: 200.0 + 200 * ((self.version + place) % 2) for place, user in enumerate(USERS)}
                self.town.snapshot("users", self.version, values)
            if rows:
                self.town.events(*rows)
            self.town.tick()


def move(town: Town, owners: Sequence[int], crash_every: int, live: list[Any], story: Story) -> None:
    """Hand all users over to evaluators 10, 11, ... while `live` steps go on, heirs killed now and then."""
    base = 10 * (1 + max(town.owners) // 10)
    new = tuple(base + owner for owner in owners)
    heirs = {index: town.heir(index, new) for index in sorted(set(new))}

    async def near(index: int) -> None:
        await heirs[index].come_near()
        await heirs[index].stop()

    for number, index in enumerate(heirs):
        asyncio.run(near(index))
        story.play(live[number::2])
        if crash_every and number % crash_every == 0:
            heirs[index] = town.heir(index, new)
    clock_ms, ends, counts = town.retire()
    for number, index in enumerate(heirs):
        importer = heirs[index]
        mine = {source: end for source, end in ends.items() if source in importer._sources}
        asyncio.run(importer.finish(mine, clock_ms, counts if number == 0 else {}))
        if crash_every and number % crash_every == 0:
            assert not town.open(index, new, heir=True).tenure.heir
    town.owners = new


def same(left: Town, right: Town) -> None:
    for town in (left, right):
        # An heir's clock is a ms ahead of the last one's before it.
        town.clock.advance(1)
        town.tick()
    assert left.history() == right.history()
    audiences = [a.id for a in left.published.definitions.audiences.values() if a.parent == "users"]
    assert left.members("users", USERS, audiences) == right.members("users", USERS, audiences)
    assert left.members("shops", SHOPS, ["busy"]) == right.members("shops", SHOPS, ["busy"])
    assert left.counts() == right.counts()


@given(
    before=STEPS, live=STEPS, after=STEPS, last=STEPS, old=st.sampled_from(OWNERS), new=st.sampled_from(OWNERS),
    newest=st.sampled_from(OWNERS), crash_every=st.integers(0, 2), bytes_max=st.sampled_from([1, 2_000, 1 << 20]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_nobody_can_tell_that_users_moved(
    before: list[Any], live: list[Any], after: list[Any], last: list[Any], old: tuple[int, ...], new: tuple[int, ...],
    newest: tuple[int, ...], crash_every: int, bytes_max: int,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        towns = []
        for name in ("moving", "staying"):
            Path(folder, name).mkdir()
            towns.append(Town(Path(folder, name), published(), old))
        moving, staying = towns
        moving.bytes_max = bytes_max
        mine, theirs = Story(moving), Story(staying)
        mine.play(before)
        move(moving, new, crash_every, live, mine)
        theirs.play(before)
        for number in range(len(set(new))):
            theirs.play(live[number::2])
        # What a move takes one ms for: the first change after it is at the next one.
        for story in (mine, theirs):
            story.town.clock.advance(2)
            story.play(after)
        same(moving, staying)
        # What the heirs logged is enough for definitions to come, and for further heirs.
        for town in towns:
            town.publish(published(town.published, audiences=LATER))
        move(moving, newest, crash_every, [], mine)
        for story in (mine, theirs):
            story.town.clock.advance(2)
            story.play(last)
        same(moving, staying)


def test_an_evaluator_that_hands_over_takes_nothing_and_time_stands_still(tmp_path: Path) -> None:
    town = Town(tmp_path, published(), OWNERS[0])
    town.events(event("order", "u1", "m1", channel="web", context={"shop": "s0"}))
    worker = town.workers[0]
    late = Append(town.published.version, 1, b"", b"")
    [held] = worker.process([Hold()])
    assert worker.process([late])[0]["error"] == "moved"
    town.clock.advance(5_000)
    # The hold ended by itself, so whoever held it has to begin anew.
    assert worker.process([Retire(held["clock_ms"])])[0]["error"] == "not_ready"
    town.tick()
    assert town.history()["u1", "hide_promo"][-1][0] == "exited"
    [held] = worker.process([Hold()])
    [end] = worker.process([Retire(held["clock_ms"])])
    before = town.history()
    town.clock.advance(60_000)
    again = town.open(0, OWNERS[0])
    town.tick()
    assert town.history() == before
    assert again.process([late])[0]["error"] == "moved"
    [further] = again.process([Retire(town.clock.now_ms())])
    assert further["seq"] == end["seq"] + 1
    assert town.history()["u1", "quiet"] == before["u1", "quiet"]


def test_ranges_of_partitions() -> None:
    from actors.evaluator.succession.ranges import read_ranges, write_ranges

    assert write_ranges([5, 0, 1, 2, 7, 8]) == "0-2,5,7-8"
    assert read_ranges("0-2,5,7-8") == (0, 1, 2, 5, 7, 8)
    assert read_ranges(write_ranges([])) == ()
    assert HIDE_PROMO["within"] == "5s"

"""Users that move to other evaluators, while events come and through crashes: nobody can tell from what is emitted."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.evaluator.stimuli import Append, Bound, Hold, Release, Retire
from actors.evaluator.succession.tenure import Kept
from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish
from cluster.edge.dealing import deal
from cluster.errors import NotReady
from cluster.wire.envelope import envelope_of, unpack
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
    [held] = worker.process([Hold(Kept())])
    assert worker.process([late])[0]["error"] == "moved"
    town.clock.advance(5_000)
    # The hold ended by itself, so whoever held it has to begin anew.
    assert worker.process([Retire(held["clock_ms"], held["seq"])])[0]["error"] == "not_ready"
    town.tick()
    assert town.history()["u1", "hide_promo"][-1][0] == "exited"
    [held] = worker.process([Hold(Kept())])
    [end] = worker.process([Retire(held["clock_ms"], held["seq"])])
    before = town.history()
    town.clock.advance(60_000)
    again = town.open(0, OWNERS[0])
    town.tick()
    assert town.history() == before
    assert again.process([late])[0]["error"] == "moved"
    # What was asked before that end and comes after it (a slow network) must not move it: heirs may work from there.
    assert again.process([Retire(town.clock.now_ms(), held["seq"])])[0]["error"] == "not_ready"
    [held] = again.process([Hold(Kept())])
    [further] = again.process([Retire(town.clock.now_ms(), held["seq"])])
    assert further["seq"] == end["seq"] + 1
    assert town.history()["u1", "quiet"] == before["u1", "quiet"]


def test_an_evaluator_that_is_to_end_with_a_snapshot_takes_no_other_until_it_is_told_so(tmp_path: Path) -> None:
    town = Town(tmp_path, published(), OWNERS[0])
    town.snapshot("users", 1, {"u1": 500.0})

    def has(version: int) -> bool:
        town.snapshot("users", version, {"u1": float(version)})
        [held] = town.workers[0].process([Hold(Kept(latest, kept))])
        town.workers[0].process([Release()])
        return bool(held["traits"] == {"users": version})

    latest, kept = 0, None
    assert has(2)
    latest, kept = 3, {"users": 2}
    town.workers[0].process([Hold(Kept(latest, kept)), Release()])
    assert not has(3)
    town.open(0, OWNERS[0])
    assert not has(3), "a restart changes nothing"
    # One of an earlier attempt, which comes late, neither holds nor allows anything.
    [reply] = town.workers[0].process([Hold(Kept(1, None))])
    assert reply["error"] == "not_ready"
    assert not has(3)
    latest, kept = 4, None
    town.workers[0].process([Hold(Kept(latest, kept)), Release()])
    assert has(3)


def test_nothing_is_logged_below_a_bound_that_was_given(tmp_path: Path) -> None:
    """An heir has taken others' entries up to there, whatever becomes of the source and of the machine's clock."""
    town = Town(tmp_path, published(), (0,) * PARTITIONS)
    town.events(event("order", "u1", "m1", channel="web"))
    town.clock.advance(60_000)
    [bound] = town.workers[0].process([Bound()])
    assert bound["clock_ms"] == town.clock.now_ms(), "nobody waits for an evaluator that has nothing to do"
    assert town.workers[0].process([Bound()]) == [bound]
    town.clock.advance(-30_000)
    town.open(0, town.owners)
    assert town.workers[0].process([Bound()]) == [bound]
    town.events(event("order", "u2", "m2", channel="web"))
    assert list(town.workers[0].log.entries())[-1].clock_ms == bound["clock_ms"]


def test_ranges_of_partitions() -> None:
    from cluster.model.partition_ranges import read_ranges, write_ranges

    assert write_ranges([5, 0, 1, 2, 7, 8]) == "0-2,5,7-8"
    assert read_ranges("0-2,5,7-8") == (0, 1, 2, 5, 7, 8)
    assert read_ranges(write_ranges([])) == ()
    assert HIDE_PROMO["within"] == "5s"


class Slow:
    """A source that answers after some turns of the loop, and refuses its first calls."""

    def __init__(self, source: Any, turns: int, refusals: int) -> None:
        self.source, self.turns, self.refusals = source, turns, refusals

    async def entries_after(self, seq: int, bytes_max: int) -> dict[str, Any]:
        if self.refusals:
            self.refusals -= 1
            return {"error": "unreachable", "message": "restarting"}
        reply: dict[str, Any] = await self.source.entries_after(seq, bytes_max)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return reply

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def test_what_one_source_refuses_or_a_caller_asks_twice_is_taken_once(tmp_path: Path) -> None:
    """Events without ids: taken twice they would count twice."""
    town = Town(tmp_path, published(), OWNERS[1])
    for place, user in enumerate(USERS):
        town.clock.advance(10)
        town.events({**event("order", user, None, channel="web"), "context": {"shop": SHOPS[place % 3]}})
    town.clock.advance(1_000)
    importer = town.heir(2, (2,) * PARTITIONS)
    sources: Any = importer._sources
    sources |= {index: Slow(source, 5, 2 * index) for index, source in sources.items()}

    async def work() -> None:
        for _ in range(2):
            with pytest.raises(NotReady):
                await importer.come_near()
        await asyncio.gather(importer.come_near(), importer.come_near())
        await importer.stop()

    asyncio.run(work())
    taken = [row for entry in town.workers[2].log.entries() if entry.kind == "batch"
             for row in unpack(entry.payload).column("raw").to_pylist()]  # fmt: skip
    logged = {row for index in (0, 1) for entry in town.workers[index].log.entries() if entry.kind == "batch"
              for row in unpack(entry.payload).column("raw").to_pylist()}  # fmt: skip
    # An event of two parents' keys is in both logs, once in each.
    assert set(taken) == logged
    assert all(taken.count(row) <= 2 for row in taken)
    assert town.workers[2].log.last_seq() == 1 + sum(
        entry.kind == "batch" for index in (0, 1) for entry in town.workers[index].log.entries()
    )


def test_a_row_that_comes_in_two_owners_parts_counts_once_for_each_also_after_a_recovery(tmp_path: Path) -> None:
    """While users move, the edge deals each old owner's part anew, and both may come to the same new one."""
    town = Town(tmp_path, published(), (2,) * PARTITIONS)
    rows = [{**event("sale", user, None), "event": "order", "context": {"shop": shop}}
            for user, shop in zip(USERS, SHOPS * 3, strict=True)]  # fmt: skip
    envelope = envelope_of([msgspec.json.encode(row) for row in rows], 0, source="web")
    decoded = Decoder(EventPlan(town.published.definitions)).decode(envelope)
    before, now = OWNERS[1], (2,) * PARTITIONS
    parts = [each for part in deal(envelope, decoded, before) for each in part.dealt_anew(before, now)]
    assert [part.owner for part in parts] == [2, 2]
    assert sum(part.envelope.num_rows for part in parts) > len(rows), "some rows are in both"
    assert sum(part.hits.num_rows for part in parts) == decoded.hits.num_rows
    for part in parts:
        request = part.request(town.published.version)
        append = Append(*(request[name] for name in ("version", "rows", "envelope", "hits", "partitions")))
        assert "error" not in town.workers[2].process([append])[0]
    town.clock.advance(1)

    def seen() -> Any:
        return town.history(), town.members("shops", SHOPS, ["busy"]), town.members("users", USERS, ["quiet"])

    made = seen()
    town.open(2, town.owners)
    assert seen() == made
    one = deal(envelope, decoded, now)[0].dealt_anew(now, before)
    assert all(part.partitions is None for part in one), "who gets no others' users is told nothing"

"""The waiting room on disk: at most one change a user, due when flap control says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from actors.delivery.changes import IDENTIFIERS, RESYNC, Change, Told, own_cause
from actors.delivery.flaps import Flaps, due_ms
from actors.delivery.store import DeliveryStore
from tests.actors.delivery.test_store import SYNC, begun, row, with_store

NEVER = 2**63 - 1


def change(user: str, kind: str = "entered", at_ms: int = 100, cause: str = "event") -> Change:
    return Change(0, 1, "aud", 1, user, kind, at_ms, 0, cause)  # type: ignore[arg-type]


def told(inside: bool, at_ms: int) -> Told:
    return Told(inside, 1, at_ms, 0, {}, at_ms)


async def park(store: DeliveryStore, *changes: Change, flaps: Flaps | None = None, now_ms: int = 100) -> Any:
    return await store.park(SYNC, changes, flaps, now_ms, {0: 7})


def test_a_second_change_undoes_the_first_and_the_cursor_moves_with_them(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        assert await park(store, change("a"), change("b")) == (2, 100)
        assert await park(store, change("a", "exited")) == (1, 100)
        assert await store.cursor(SYNC, 0) == 7
        assert await store.room.count(SYNC) == (3, 100), "what undoes what is found when its turn comes"
        taken = await store.room.take(SYNC, "aud", 9, 100)
        assert (taken.undone, taken.due_ms) == (2, NEVER)
        assert await store.room.count(SYNC) == (1, 100)
        assert [(one.user_id, one.kind, one.at_ms, one.audience_id) for one in taken.changes] == [
            ("b", "entered", 100, "aud")
        ]

    with_store(tmp_path / "d.db", work)


def test_what_was_taken_leaves_with_its_batch_and_what_came_since_stays(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await park(store, change("a"), change("b"))
        taken = await store.room.take(SYNC, "aud", 1, 100)
        assert (len(taken.changes), taken.due_ms) == (1, 100)
        assert len((await store.room.take(SYNC, "aud", 9, 100)).changes) == 2, "taking forgets nothing"
        await store.seal(SYNC, [row(0)], {}, 1, left=taken.changes)
        assert await store.room.count(SYNC) == (1, 100)
        await park(store, change("a", "exited"))
        await store.seal(SYNC, [], {}, 1, left=taken.changes)
        assert await store.room.count(SYNC) == (2, 100)

    with_store(tmp_path / "d.db", work)


def test_what_only_repeats_membership_gives_way_to_a_change(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        again = change("a", cause=IDENTIFIERS)
        assert (await park(store, again))[0] == 1
        assert await store.room.has_repeats(SYNC)
        assert (await park(store, change("a", "exited"), again))[0] == 2
        (one,) = (await store.room.take(SYNC, "aud", 9, 100)).changes
        assert (one.kind, own_cause(one)) == ("exited", "event")
        await store.seal(SYNC, [], {}, 1, left=[one])
        assert not await store.room.has_repeats(SYNC)

    with_store(tmp_path / "d.db", work)


def test_what_repeats_membership_is_due_again_where_the_change_in_its_place_is_undone(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        assert (await park(store, change("a", cause=RESYNC), change("a", "exited", 200)))[0] == 2
        assert (await park(store, change("a", "entered", 300)))[0] == 1
        assert await store.room.has_repeats(SYNC)
        (one,) = (await store.room.take(SYNC, "aud", 9, 400)).changes
        assert (one.kind, one.cause, one.at_ms) == ("entered", RESYNC, 300)

    with_store(tmp_path / "d.db", work)


def test_changes_are_due_when_they_have_lasted_and_stays_are_long_enough() -> None:
    flaps = Flaps(min_stay_ms=1_000, cooldown_ms=500, debounce_ms=50)

    assert due_ms(None, change("a"), None, 120) == 120
    assert due_ms(flaps, change("a"), None, 100) == 150
    assert due_ms(flaps, change("a"), None, 9_000) == 9_000
    assert due_ms(flaps, change("a", "exited", 300), told(True, 100), 300) == 1_100
    assert due_ms(flaps, change("a", "exited", 2_000), told(True, 100), 2_000) == 2_050
    assert due_ms(flaps, change("a", "entered", 400), told(False, 300), 400) == 800
    assert due_ms(flaps, change("a", cause=IDENTIFIERS), told(True, 100), 300) == 300


def test_due_times_come_from_what_was_told_and_can_be_released(tmp_path: Path) -> None:
    flaps = Flaps(min_stay_ms=1_000)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {}, 1, told={"a": told(True, 100)})
        assert await park(store, change("a", "exited", 300), flaps=flaps, now_ms=300) == (1, 1_100)
        taken = await store.room.take(SYNC, "aud", 9, 1_099)
        assert (list(taken.changes), taken.due_ms) == ([], 1_100)
        assert await store.room.release(SYNC, 400) == 400
        assert await store.ledger.members(SYNC, "", 9, unseen_since_ms=500) == [], "of whom something waits"
        await store.room.clear(SYNC)
        assert await store.room.count(SYNC) == (0, NEVER)

    with_store(tmp_path / "d.db", work)


def test_waiting_changes_are_found_by_the_index_of_their_times(tmp_path: Path) -> None:
    async def run() -> list[str]:
        from actors.delivery.commits import Commits

        store = await DeliveryStore.open(Commits(tmp_path / "d.db", "test"))
        plan = await store._commits.read(
            lambda connection: connection.execute(
                "EXPLAIN QUERY PLAN SELECT user FROM room WHERE sync='s' AND due_ms<=5 ORDER BY due_ms, number LIMIT 9"
            ).fetchall()
        )
        await store.close()
        return [each[3] for each in plan]

    (step,) = asyncio.run(run())
    assert "INDEX room_due (sync=? AND due_ms<?)" in step

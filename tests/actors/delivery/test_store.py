"""What is durable comes back, what is forgotten is gone, and a disk that refuses is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest

from actors.delivery import commits as commits_module
from actors.delivery import letters as letters_module
from actors.delivery.changes import Told, spool_source
from actors.delivery.commits import Commits
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.rows import DeadLetter, Spool, StoredRow
from actors.delivery.store import DeliveryStore
from cluster.errors import Fenced
from destinations.records import Record

SYNC = "promo"


def row(order: int, user: str = "a", body: bytes = b"{}") -> StoredRow:
    record = Record("t", "aud", 1, user, {"id": user}, "entered", 1, 0, "event", {}, "add")
    return StoredRow(order, f"msg_{order}", (record,), body)


def letter(stored: StoredRow, superseded: Iterable[str] = ()) -> DeadLetter:
    return DeadLetter(
        stored.id, stored.records, stored.body, 5, 3, "404", "{}", "{}", stored.key, frozenset(superseded)
    )


def whole(dead: DeadLetter, live: frozenset[str], order: int) -> StoredRow | None:
    """Brings back what has a live user, as it was."""
    if live.isdisjoint(record.user_id for record in dead.records):
        return None
    return StoredRow(order, dead.id, dead.records, dead.body)


def with_store(path: Path, work: Callable[[DeliveryStore], Awaitable[None]], *, abandon: bool = False) -> None:
    async def run() -> None:
        store = await DeliveryStore.open(Commits(path, "test"))
        try:
            await work(store)
        finally:
            await (store.abandon() if abandon else store.close())

    asyncio.run(run())


async def begun(store: DeliveryStore) -> None:
    await store.create(SYNC, 7, "aud\0hook", b"f")
    await store.start_cursor(SYNC, 0, 0, Spool(0, 2, 0, "", b"spool"))


def test_batches_and_cursors_come_back_as_they_were(tmp_path: Path) -> None:
    async def write(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0), row(1, "b", b"[1]")], {0: 1}, 2)
        await store.defer(SYNC, 1, 3, 10, 20)

    async def read(store: DeliveryStore) -> None:
        known = await store.sync(SYNC)
        assert known is not None
        assert (known.incarnation, known.identity, known.next_order, known.held) == (7, "aud\0hook", 2, False)
        assert await store.cursor(SYNC, 0) == 1
        first, second = await store.batches(SYNC)
        assert first == row(0)
        assert (second.body, second.attempts, second.first_attempt_ms, second.next_attempt_ms) == (b"[1]", 3, 10, 20)

    with_store(tmp_path / "d.db", write, abandon=True)
    with_store(tmp_path / "d.db", read)


def test_what_nobody_waited_for_may_be_lost_by_a_kill_but_not_by_a_close(tmp_path: Path) -> None:
    async def write(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {}, 1)
        _ = store.settle(SYNC, 0, 1, None)

    async def count(store: DeliveryStore) -> None:
        counts.append(len(await store.batches(SYNC)))

    counts: list[int] = []
    with_store(tmp_path / "killed.db", write, abandon=True)
    with_store(tmp_path / "killed.db", count)
    with_store(tmp_path / "closed.db", write)
    with_store(tmp_path / "closed.db", count)
    assert counts == [1, 0]


def test_a_lazy_write_is_never_overtaken_and_shares_the_next_commit(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        lazy = store.move_cursors(SYNC, {0: 5})
        await store.seal(SYNC, [row(0)], {0: 9}, 1)
        assert asyncio.ensure_future(lazy).done()
        assert await store.cursor(SYNC, 0) == 9

    with_store(tmp_path / "d.db", work)


def test_members_of_a_spool_are_dropped_once_all_are_in_batches(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {spool_source(0): 1}, 1)
        assert await store.spool(SYNC, 0) == Spool(0, 2, 1, "", b"spool")
        await store.seal(SYNC, [row(1)], {spool_source(0): 2, 0: 5}, 2)
        assert await store.spool(SYNC, 0) is None
        assert await store.cursor(SYNC, 0) == 5

    with_store(tmp_path / "d.db", work)


def test_a_resync_is_over_when_every_evaluators_members_are_in_batches(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.start_cursor(SYNC, 1, 0, None)
        await store.seal(SYNC, [], {spool_source(0): 2}, 0)
        assert await store.resync_left(SYNC, (0, 1), 7) == 2
        await store.add_spool(SYNC, 0, Spool(9, 1, 0, "resync", b"s"), 7)
        await store.add_spool(SYNC, 1, Spool(9, 0, 0, "resync", b""), 7)
        assert (await store.resynced(SYNC, 0), await store.resync_left(SYNC, (0, 1), 7)) == (7, 1)
        await store.seal(SYNC, [], {spool_source(0): 1}, 0)
        assert await store.resync_left(SYNC, (0, 1), 7) == 0

    with_store(tmp_path / "d.db", work)


def test_what_was_told_is_durable_with_its_batch(tmp_path: Path) -> None:
    inside, left = Told(True, 1, 5, 0, {"mail": ["x"]}, 9), Told(False, 1, 6, 0, {}, 9)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {}, 1, told={"a": inside, "b": inside, "c": inside})
        await store.seal(SYNC, [row(1)], {}, 2, told={"b": left})
        await store.seal(SYNC, [row(2)], {}, 3, told={"c": left}, keeps_left=True)
        assert await store.ledger.get(SYNC, ["a", "b", "c", "d"]) == {"a": inside, "c": left}
        assert await store.ledger.members(SYNC, "", 9) == [("a", inside)]
        assert await store.ledger.members(SYNC, "", 9, unseen_since_ms=9) == []
        assert await store.ledger.members(SYNC, "a", 9) == []

    with_store(tmp_path / "d.db", work)


def test_dead_letters_come_back_as_batches_with_their_ids_and_bytes(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0, "a", b"[7]")], {}, 1)
        await store.settle(SYNC, 0, 0, letter(row(0, "a", b"[7]")))
        assert [kept.id for kept in await store.letters.newest(SYNC, 5)] == ["msg_0"]
        assert await store.batches(SYNC) == []
        assert not await store.letters.wanted(SYNC)

        assert await store.letters.want(SYNC) == 1
        assert await store.letters.wanted(SYNC)
        (revived,), more = await store.letters.revive(SYNC, 4 * ORDER_SPAN, 2, whole)
        assert not more
        assert (revived.id, revived.body, revived.order) == ("msg_0", b"[7]", 4 * ORDER_SPAN)
        assert await store.batches(SYNC) == [revived]
        assert await store.letters.count(SYNC) == 0
        known = await store.sync(SYNC)
        assert known is not None
        assert (known.next_order, known.failed) == (5 * ORDER_SPAN, 1)

    with_store(tmp_path / "d.db", work)


def test_what_a_newer_change_has_superseded_is_known_also_over_a_restart(tmp_path: Path) -> None:
    async def bury(store: DeliveryStore) -> None:
        await begun(store)
        for number, user in enumerate("abc"):
            await store.settle(SYNC, number, 0, letter(row(number, user), "c" if user == "c" else ""))

    async def seal(store: DeliveryStore) -> None:
        await store.seal(SYNC, [row(9, "b")], {}, 10)
        await store.letters.want(SYNC)
        revived, _ = await store.letters.revive(SYNC, ORDER_SPAN, 5, whole)
        assert [one.id for one in revived] == ["msg_0"]
        assert await store.letters.count(SYNC) == 0

    with_store(tmp_path / "d.db", bury)
    with_store(tmp_path / "d.db", seal)


def test_wanted_dead_letters_come_back_a_few_at_a_time(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        for number in range(3):
            await store.settle(SYNC, number, 0, letter(row(number)))
        await store.letters.want(SYNC)
        first, more = await store.letters.revive(SYNC, 10 * ORDER_SPAN, 2, whole)
        assert ([one.id for one in first], more) == (["msg_0", "msg_1"], True)
        second, more = await store.letters.revive(SYNC, 20 * ORDER_SPAN, 2, whole)
        assert ([one.id for one in second], more) == (["msg_2"], False)

    with_store(tmp_path / "d.db", work)


def test_dead_letters_are_bounded_and_drop_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "SYNC_DEAD_LETTERS_MAX", 2)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        for number in range(5):
            await store.settle(SYNC, number, 0, letter(row(number)))
        assert [kept.id for kept in await store.letters.newest(SYNC, 9)] == ["msg_3", "msg_4"]

    with_store(tmp_path / "d.db", work)


def test_a_forgotten_sync_and_one_of_a_new_identity_leave_nothing(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {0: 1}, 1)
        await store.settle(SYNC, 5, 0, letter(row(5)))
        await store.create(SYNC, 8, "aud\0other", b"f")
        assert await store.batches(SYNC) == []
        assert await store.cursor(SYNC, 0) is None
        assert await store.letters.count(SYNC) == 0
        await store.forget(SYNC)
        assert await store.sync_names() == []

    with_store(tmp_path / "d.db", work)


def test_a_disk_that_is_full_is_waited_for_and_nothing_passes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits_module, "_REFUSED_PAUSE_S", 0.001)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        pages = await store._commits.read(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await store._commits.read(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        sealing = asyncio.ensure_future(store.seal(SYNC, [row(0, "a", b"x" * 200_000)], {0: 1}, 1))
        moving = asyncio.ensure_future(store.move_cursors(SYNC, {0: 2}))
        async with asyncio.timeout(30):
            while not store.failure:
                await asyncio.sleep(0.001)
        assert "full" in store.failure
        assert not sealing.done()
        assert not moving.done()
        await store._commits.read(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
        async with asyncio.timeout(30):
            await sealing
            await moving
        assert store.failure == ""
        assert await store.cursor(SYNC, 0) == 2
        assert len(await store.batches(SYNC)) == 1

    with_store(tmp_path / "d.db", work)


def test_who_was_replaced_writes_nothing_and_says_why(tmp_path: Path) -> None:
    path = tmp_path / "d.db"

    async def run() -> None:
        before = await DeliveryStore.open(Commits(path, "before", 1))
        await begun(before)
        after = await DeliveryStore.open(Commits(path, "after", 2))
        with pytest.raises(Fenced):
            await before.create("other", 8, "aud\0hook", b"f")
        assert "another process" in before.failure
        assert await after.sync_names() == [SYNC]
        with pytest.raises(Fenced):
            await DeliveryStore.open(Commits(path, "late", 1))
        await after.create("other", 8, "aud\0hook", b"f")
        await before.abandon()
        await after.close()

    asyncio.run(run())

"""What is durable comes back, what is forgotten is gone, and a disk that refuses is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from actors.delivery import store as store_module
from actors.delivery.rows import DeadLetter, LogRow, StoredRow
from actors.delivery.store import DeliveryStore
from destinations.records import Record

SYNC = "promo"


def row(order: int, user: str = "a", body: bytes = b"{}") -> StoredRow:
    record = Record("t", "aud", 1, user, {"id": user}, "entered", 1, 0, "event", {}, "add")
    return StoredRow(order, f"msg_{order}", (record,), body)


def log(outcome: str = "delivered", count: int = 1) -> LogRow:
    return LogRow(1, "msg", count, outcome, 200, 1, 2.5, "")


def letter(stored: StoredRow) -> DeadLetter:
    return DeadLetter(stored.id, stored.records, stored.body, 5, 3, "404", "{}", "{}")


def with_store(path: Path, work: Callable[[DeliveryStore], Awaitable[None]], *, abandon: bool = False) -> None:
    async def run() -> None:
        store = await DeliveryStore.open(path)
        try:
            await work(store)
        finally:
            await (store.abandon() if abandon else store.close())

    asyncio.run(run())


async def begun(store: DeliveryStore) -> None:
    await store.create(SYNC, 7, "aud\0hook", b"f")
    await store.start_cursor(SYNC, 0, -1, 2, b"spool")


def test_batches_and_cursors_come_back_as_they_were(tmp_path: Path) -> None:
    async def write(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0), row(1, "b", b"[1]")], {0: 1}, 2, [])
        await store.defer(SYNC, "msg_1", 3, 10, 20, log("retry"))

    async def read(store: DeliveryStore) -> None:
        known = await store.sync(SYNC)
        assert known is not None
        assert (known.incarnation, known.identity, known.next_order, known.held) == (7, "aud\0hook", 2, False)
        assert await store.cursor(SYNC, 0) == (1, 2)
        first, second = await store.batches(SYNC)
        assert first == row(0)
        assert (second.body, second.attempts, second.first_attempt_ms, second.next_attempt_ms) == (b"[1]", 3, 10, 20)

    with_store(tmp_path / "d.db", write, abandon=True)
    with_store(tmp_path / "d.db", read)


def test_what_nobody_waited_for_may_be_lost_by_a_kill_but_not_by_a_close(tmp_path: Path) -> None:
    async def write(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {}, 1, [])
        _ = store.settle(SYNC, 0, 1, None, [log()])

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
        await store.seal(SYNC, [row(0)], {0: 9}, 1, [])
        assert asyncio.ensure_future(lazy).done()
        assert await store.cursor(SYNC, 0) == (9, 2)

    with_store(tmp_path / "d.db", work)


def test_first_members_are_dropped_once_the_cursor_is_past_them(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {0: 1}, 1, [])
        assert await store.spool(SYNC, 0) == b"spool"
        await store.seal(SYNC, [row(1)], {0: 2}, 2, [])
        assert await store.spool(SYNC, 0) == b""

    with_store(tmp_path / "d.db", work)


def test_dead_letters_come_back_as_batches_with_their_ids_and_bytes(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0, "a", b"[7]")], {}, 1, [])
        await store.settle(SYNC, 0, 0, letter(row(0, "a", b"[7]")), [log("dead")])
        assert [kept.id for kept in await store.dead_letters(SYNC, 5)] == ["msg_0"]
        assert await store.batches(SYNC) == []

        (revived,) = await store.revive(SYNC, 4)
        assert (revived.id, revived.body, revived.order) == ("msg_0", b"[7]", 4)
        assert await store.batches(SYNC) == [revived]
        assert await store.dead_letter_count(SYNC) == 0
        known = await store.sync(SYNC)
        assert known is not None
        assert (known.next_order, known.failed) == (5, 1)

    with_store(tmp_path / "d.db", work)


def test_the_log_pages_forward_and_begins_at_its_end(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {}, 1, [log("dropped", count) for count in range(1, 6)])
        newest = await store.log_rows(SYNC, failed=False, after=0, limit=2)
        assert [entry.count for _, entry in newest] == [4, 5]
        following = await store.log_rows(SYNC, failed=False, after=newest[0][0] - 2, limit=2)
        assert [entry.count for _, entry in following] == [3, 4]
        await store.settle(SYNC, 0, 1, None, [log()])
        assert len(await store.log_rows(SYNC, failed=True, after=0, limit=100)) == 5

    with_store(tmp_path / "d.db", work)


def test_the_log_and_the_dead_letters_are_bounded_and_drop_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SYNC_LOG_ROWS_MAX", 3)
    monkeypatch.setattr(store_module, "SYNC_DEAD_LETTERS_MAX", 2)
    monkeypatch.setattr(store_module, "_TRIM_EVERY", 1)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        for number in range(5):
            await store.settle(SYNC, number, 0, letter(row(number)), [log("dead", number)])
        assert [entry.count for _, entry in await store.log_rows(SYNC, failed=False, after=0, limit=9)] == [2, 3, 4]
        assert [kept.id for kept in await store.dead_letters(SYNC, 9)] == ["msg_3", "msg_4"]

    with_store(tmp_path / "d.db", work)


def test_a_forgotten_sync_leaves_nothing_and_a_new_one_of_its_name_keeps_only_the_log(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.seal(SYNC, [row(0)], {0: 1}, 1, [log("dropped")])
        await store.create(SYNC, 8, "aud\0other", b"f")
        assert await store.batches(SYNC) == []
        assert await store.cursor(SYNC, 0) is None
        assert len(await store.log_rows(SYNC, failed=False, after=0, limit=9)) == 1
        await store.forget(SYNC)
        assert await store.sync_names() == []
        assert await store.log_rows(SYNC, failed=False, after=0, limit=9) == []

    with_store(tmp_path / "d.db", work)


def test_a_disk_that_is_full_is_waited_for_and_nothing_passes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_REFUSED_PAUSE_S", 0.001)

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        pages = await store._in_thread(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await store._in_thread(lambda c: c.execute(f"PRAGMA max_page_count={pages}").fetchone())
        sealing = asyncio.ensure_future(store.seal(SYNC, [row(0, "a", b"x" * 200_000)], {0: 1}, 1, []))
        moving = asyncio.ensure_future(store.move_cursors(SYNC, {0: 2}))
        async with asyncio.timeout(30):
            while not store.failure:
                await asyncio.sleep(0.001)
        assert "full" in store.failure
        assert not sealing.done()
        assert not moving.done()
        await store._in_thread(lambda c: c.execute("PRAGMA max_page_count=100000").fetchone())
        async with asyncio.timeout(30):
            await sealing
            await moving
        assert store.failure == ""
        assert await store.cursor(SYNC, 0) == (2, 2)
        assert len(await store.batches(SYNC)) == 1

    with_store(tmp_path / "d.db", work)

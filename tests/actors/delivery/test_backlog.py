"""A backlog on disk against a plain one: whatever is parked, taken, left and restarted, what comes to nothing goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from actors.delivery import backlog, room
from actors.delivery.changes import IDENTIFIERS, REPEATS, RESYNC, Change, instead
from actors.delivery.chunks import code_of, divide, from_bits, pack, to_bits, unpack, with_code
from actors.delivery.commits import Commits
from actors.delivery.store import DeliveryStore
from actors.delivery.window import Window
from tests.actors.delivery.test_store import SYNC, begun, with_store

NEVER = 2**63 - 1


def change(user: str, seq: int, kind: str, cause: str = "event") -> Change:
    return Change(0, seq, "aud", 1, user, kind, seq, 0, cause)  # type: ignore[arg-type]


def told(changes: Any) -> list[tuple[str, str, int, str]]:
    return [(one.user_id, one.kind, one.at_ms, one.cause) for one in changes]


class Plain:
    """What waits, by user, as `Pending` nets it; and what the room said of it."""

    def __init__(self, chance: Random) -> None:
        self.users = [f"u{number}" for number in range(chance.choice([3, 10, 40]))]
        self.inside = dict.fromkeys(self.users, False)
        self.waiting: dict[str, Change] = {}
        self.count = 0
        self.seq = 0

    def some(self, chance: Random) -> list[Change]:
        """Make changes, and net them."""
        made = []
        for user in chance.sample(self.users, chance.randint(1, len(self.users))):
            self.seq += 1
            repeats = chance.random() < 0.15
            self.inside[user] ^= not repeats
            kind = "entered" if self.inside[user] else "exited"
            made.append(change(user, self.seq, kind, chance.choice([RESYNC, IDENTIFIERS]) if repeats else "event"))
            before = self.waiting.get(user)
            if before is not None and repeats:
                continue
            self.waiting.pop(user, None)
            left = made[-1] if before is None else instead(made[-1], before.cause)
            if left is not None:
                self.waiting[user] = left
        return made


async def _take(store: DeliveryStore, plain: Plain, chance: Random) -> None:
    taken = await store.room.take(SYNC, "aud", chance.randint(1, 9), 100)
    plain.count -= taken.undone
    oldest = sorted(plain.waiting.values(), key=lambda one: one.at_ms)[: len(taken.changes)]
    assert told(taken.changes) == told(oldest)
    assert bool(taken.changes) == bool(plain.waiting)
    if chance.random() < 0.8 and taken.changes:
        await store.seal(SYNC, [], {}, 1, left=taken.changes)
        plain.count -= len(taken.changes)
        for one in taken.changes:
            del plain.waiting[one.user_id]
    await _look(store, plain)


async def _look(store: DeliveryStore, plain: Plain) -> None:
    assert await store.room.count(SYNC) == (plain.count, 100 if plain.count else NEVER)
    times = [one.at_ms for one in plain.waiting.values() if one.cause not in REPEATS]
    first = await store.room.first_at_ms(SYNC, "aud")
    assert not times or (first is not None and first <= min(times))
    if len(times) < len(plain.waiting):
        assert await store.room.has_repeats(SYNC)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_happens_the_oldest_that_counts_comes_first(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Random(seed)
    monkeypatch.setattr(backlog, "WINDOW_CHANGES", chance.choice([3, 8, 30]))
    monkeypatch.setattr(backlog, "_CHUNKS_A_STEP", chance.choice([1, 2, 5]))
    monkeypatch.setattr(backlog, "_UNDONE_A_STEP", chance.choice([1, 4, 100]))
    monkeypatch.setattr(room, "CHUNK_CHANGES_MAX", chance.choice([1, 3, 7]))
    plain = Plain(chance)

    async def life(store: DeliveryStore) -> None:
        for _ in range(chance.randint(1, 20)):
            what = chance.random()
            if what < 0.5:
                plain.count += (await store.park(SYNC, plain.some(chance), None, 100, {}))[0]
            elif what < 0.9:
                await _take(store, plain, chance)
            else:
                store._commits.rolled_back += 1  # what is in memory is made anew
        await _look(store, plain)

    async def end(store: DeliveryStore) -> None:
        while plain.count:
            await _take(store, plain, chance)
        assert await rows(store) == {"room_rows": 0, "room_chunks": 0}

    with_store(tmp_path / "d.db", begun, abandon=False)
    for _ in range(4):
        with_store(tmp_path / "d.db", life, abandon=chance.random() < 0.5)
    with_store(tmp_path / "d.db", end)


async def rows(store: DeliveryStore) -> Mapping[str, int]:
    return await store._commits.read(
        lambda connection: {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("room_rows", "room_chunks")
        }
    )


def test_a_disk_that_refuses_leaves_nothing_half_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from actors.delivery import commits as commits_module
    from cluster.errors import StorageFull

    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.park(SYNC, [change("a", 1, "entered"), change("b", 2, "entered")], None, 100, {})
        await store.room.take(SYNC, "aud", 9, 100)
        refusals = [True]
        commit = Commits._commit

        def refuses_once(self: Commits, writes: list[Any]) -> None:
            def refuse(connection: Any) -> None:
                if refusals.pop() if refusals else False:
                    raise StorageFull("The disk is full.", retry_after_ms=1)

            commit(self, [*writes, refuse])

        monkeypatch.setattr(commits_module, "_REFUSED_PAUSE_S", 0.0)
        monkeypatch.setattr(Commits, "_commit", refuses_once)
        assert await store.park(SYNC, [change("a", 3, "exited")], None, 100, {}) == (1, 100)
        taken = await store.room.take(SYNC, "aud", 9, 100)
        assert (told(taken.changes), taken.undone) == ([("b", "entered", 2, "event")], 2)

    with_store(tmp_path / "d.db", work)


def test_a_sync_that_is_forgotten_leaves_nothing(tmp_path: Path) -> None:
    async def work(store: DeliveryStore) -> None:
        await begun(store)
        await store.park(SYNC, [change("a", 1, "entered")], None, 100, {})
        await store.room.clear(SYNC)
        assert await store.room.count(SYNC) == (0, NEVER)
        await store.park(SYNC, [change("a", 2, "entered")], None, 100, {})
        await store.forget(SYNC)
        assert await rows(store) == {"room_rows": 0, "room_chunks": 0}

    with_store(tmp_path / "d.db", work)


def test_chunks_hold_changes_and_each_user_once() -> None:
    changes = [change("a", 1, "entered"), change("ü", 2, "exited", RESYNC), change("a", 3, "exited")]
    first, second = divide(changes, 9)
    assert [list(part) for part in (first, second)] == [changes[:2], changes[2:]]
    assert [len(part) for part in divide(changes[:2], 1)] == [1, 1]

    packed = pack(first, 7)
    assert told(unpack(packed.payload, 5, "aud")) == told(first)
    assert [one.seq for one in unpack(packed.payload, 5, "aud")] == [5, 6]
    assert (packed.at_ms, packed.codes.tolist()) == (1, [0, 2])
    assert pack(second, 7).keys[0] == packed.keys[0] != pack(second, 8).keys[0]


def test_what_a_change_owes_is_kept_in_its_cause() -> None:
    plain = change("a", 1, "exited")
    for code, cause in enumerate(["event", IDENTIFIERS, RESYNC, "event|identifiers", "event|resync"]):
        assert with_code(plain, code).cause == cause
        assert code_of(cause) == code
    assert instead(plain, RESYNC) == with_code(plain, 4)


def test_flags_are_packed() -> None:
    flags = np.array([True] + [False] * 8 + [True])
    assert from_bits(to_bits(flags), 10).tolist() == flags.tolist()
    assert to_bits(np.zeros(3, np.bool_)) is None
    assert not from_bits(None, 3).any()


def test_users_whose_hashes_meet_in_one_half_are_told_apart() -> None:
    window = Window()
    keys, checks = np.array([5, 5, 9], np.uint64), np.array([1, 2, 3], np.uint64)
    window.gather(keys, checks, 3)
    window.close()
    plain = np.zeros(3, np.uint8)
    assert window.fold(np.array([1, 2, 3]), keys, lambda: checks, plain, 0).dead.tolist() == []
    again = window.fold(np.array([4, 5, 6]), keys, lambda: checks, plain, 0).dead
    assert sorted(again.tolist()) == [1, 3, 4, 6]

"""The users of two machines brought together by hashes are those with the same parent and key, however they came."""

from __future__ import annotations

import random

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.evaluator import key_table
from actors.evaluator.key_table import ENTRY_WORDS, Correspondence, KeyTable, key_hash, parent_seed, table_entries

PARENTS = ("users", "shops")


class Slots:
    """Users by slot, under parents in an order of their own."""

    def __init__(self, parents: tuple[str, ...]) -> None:
        self.parents = parents
        self.users: list[tuple[str, str]] = []
        self.keys = KeyTable([parent_seed(parent, 7) for parent in parents])

    def keys_between(self, first: int, stop: int) -> tuple[list[bytes], NDArray[np.int16]]:
        users = self.users[first:stop]
        return [key.encode() for _, key in users], np.array([self.parents.index(p) for p, _ in users], np.int16)

    def come(self, users: list[tuple[str, str]]) -> None:
        self.users += [user for user in users if user not in self.users]
        self.keys.keep_in_memory(len(self.users))
        self.keys.add(self, len(self.users))


@pytest.mark.parametrize("seed", range(5))
def test_slots_correspond_however_users_come_to_either(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_table, "KEYS_A_STEP", 3)
    draw = random.Random(seed)
    old, new = Slots(PARENTS), Slots(PARENTS[::-1])
    together = Correspondence()
    for _ in range(30):
        for side in (old, new):
            came = [(draw.choice(PARENTS), f"user {draw.randrange(300)}") for _ in range(draw.randrange(12))]
            side.come(came)
        if draw.random() < 0.1:
            moved, old = old.users, Slots(PARENTS)
            old.come(draw.sample(moved, len(moved)))
        if draw.random() < 0.5:
            place = {user: slot for slot, user in enumerate(new.users)}
            found = together.extend(old.keys, new.keys).tolist()
            assert found == [place.get(user, -1) for user in old.users]


def test_a_user_is_found_in_whatever_table_the_users_moved_to() -> None:
    slots = Slots(("users",))
    slots.come([("users", f"user {number}") for number in range(2_000)])
    table = np.zeros((table_entries(4_000), ENTRY_WORDS), np.uint64)
    slots.keys.move_to(table)
    slots.come([("users", f"user {number}") for number in range(2_500)])
    assert slots.keys.find(slots.keys.hashes(0, 2_500)).tolist() == list(range(2_500))
    stranger = key_hash(parent_seed("users", 7), "nobody")
    halves = np.array([[stranger >> 64, stranger & (2**64 - 1)]], np.uint64)
    assert slots.keys.find(halves).tolist() == [-1]
    known = key_hash(parent_seed("users", 7), "user 5")
    assert slots.keys.hashes(5, 6).tolist() == [[known >> 64, known & (2**64 - 1)]]
    assert parent_seed("users", 7) != parent_seed("users", 8)

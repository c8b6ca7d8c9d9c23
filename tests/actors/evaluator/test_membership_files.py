"""Membership files: what another process reads while one writes is always something that held."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actors.evaluator import membership_files
from actors.evaluator.key_table import KeyTable, parent_seed
from actors.evaluator.membership_files import BOOT, MembershipReader, MembershipWriter
from cluster.errors import StorageFull

ALWAYS = 64
NAMES = {
    "definitions_version": 1,
    "parents": ["users"],
    "audiences": {f"a{bit}": (bit, 0, 1) for bit in range(ALWAYS + 1)},
}


class Rows:
    """Users of whom at clock t bit t % 64 holds, until t + 1; and bit 64 always."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        self.clock = 0

    def keys_between(self, first: int, stop: int) -> tuple[list[bytes], NDArray[np.int16]]:
        return [key.encode() for key in self.keys[first:stop]], np.zeros(stop - first, np.int16)

    def membership_rows(self, slots: NDArray[np.int32] | None) -> NDArray[np.int64]:
        count = len(self.keys) if slots is None else len(slots)
        row = np.array([self.clock + 1, 1 << (self.clock % 64), 1], np.uint64).view(np.int64)
        return np.tile(row, (count, 1))


def write(folder: str, clocks: int) -> None:
    """Move on `clocks` times: by row, whole, with new users, and as a writer that was started anew."""
    rows = Rows([f"u{i}" for i in range(500)])
    writer = MembershipWriter(Path(folder))
    renewed = True
    for clock in range(1, clocks + 1):
        rows.clock = clock
        if clock % 20 == 0:
            rows.keys += [f"new{clock}_{i}" for i in range(40)]
        if clock % 97 == 0:
            writer, renewed = MembershipWriter(Path(folder)), True
        touched = np.arange(len(rows.keys), dtype=np.int32)
        renewed = renewed or clock % 31 == 0
        if renewed or not writer.publish(rows, touched, len(rows.keys), clock):
            writer.publish_all(rows, NAMES, len(rows.keys), clock)
            renewed = False


def generation(folder: Path) -> int:
    (names,) = folder.glob("names-*.json")
    return int(names.stem.removeprefix("names-"))


def test_a_reader_beside_a_writer_never_sees_what_did_not_hold(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=write, args=(str(tmp_path), 2_000))
    process.start()
    reader = MembershipReader(tmp_path)
    answers = {True: 0, False: 0, None: 0}
    number = 0
    while process.is_alive():
        user = f"u{number % 500}"
        number += 1
        before = reader.clock_ms
        if before < 2:
            reader.is_member("users", user, "a0", 0)
            continue
        stale = reader.is_member("users", user, f"a{(before - 1) % 64}", before)
        assert stale is not True or reader.clock_ms - before >= 62, "what ended before now was given as holding"
        assert reader.is_member("users", user, f"a{ALWAYS}", before) is not False, "a known user was not found"
        answers[reader.is_member("users", user, f"a{before % 64}", before)] += 1
    process.join()
    assert process.exitcode == 0
    assert reader.clock_ms == 2_000
    assert answers[True] > 0
    assert [reader.is_member("users", "u0", f"a{2_000 % 64}", now) for now in (2_000, 2_001)] == [True, None]


def test_what_a_crash_left_half_written_is_never_taken(tmp_path: Path) -> None:
    rows = Rows(["ann", "ben"])
    writer = MembershipWriter(tmp_path)
    writer.publish_all(rows, NAMES, 2, 0)
    number = generation(tmp_path)
    for name in ("rows", "table"):
        (tmp_path / f"{name}-{number + 1}").write_bytes((tmp_path / f"{name}-{number}").read_bytes())
    swapped = Rows(["ben", "ann"])
    again = MembershipWriter(tmp_path)
    again.publish_all(swapped, NAMES, 2, 0)
    reader = MembershipReader(tmp_path)
    seed = parent_seed("users", 0)
    assert reader._row(seed, "ben") == 0
    assert reader._row(seed, "ann") == 1
    assert len(list(tmp_path.iterdir())) == 4


def test_what_a_writer_does_that_was_succeeded_is_seen_by_nobody(tmp_path: Path) -> None:
    rows = Rows(["ann"])
    zombie = MembershipWriter(tmp_path)
    zombie.publish_all(rows, NAMES, 1, 0)
    early = MembershipReader(tmp_path)
    assert early.is_member("users", "ann", "a0", 0) is True
    coming = zombie.lay_out(1, 3)
    heir = MembershipWriter(tmp_path)
    for reader in (early, MembershipReader(tmp_path)):
        assert reader.is_member("users", "ann", "a0", 0) is True, "the last that is known is shown until there is more"
    rows.clock = 5
    heir.publish_all(rows, NAMES, 1, 5)

    # A stopped process that goes on: a row, everybody anew, no room for anybody.
    rows.clock = 0
    zombie.publish(rows, np.zeros(1, np.int32), 1, 0)
    zombie.publish_all(rows, NAMES, 1, 0, keys=KeyTable(zombie.seeds(["users"])), generation=coming)
    zombie.publish_all(rows, NAMES, 1, 0)
    zombie.withdraw()
    for reader in (early, MembershipReader(tmp_path)):
        assert reader.is_member("users", "ann", "a0", 5) is False
        assert reader.is_member("users", "ann", "a5", 5) is True
        assert reader.clock_ms == 5


def test_what_another_start_of_the_machine_left_counts_as_nothing(tmp_path: Path) -> None:
    rows = Rows(["ann"])
    writer = MembershipWriter(tmp_path)
    writer.publish_all(rows, NAMES, 1, 0)
    assert MembershipReader(tmp_path).is_member("users", "ann", "a0", 0) is True
    writer._current[BOOT] = membership_files.boot() + 1
    reader = MembershipReader(tmp_path)
    assert reader.is_member("users", "ann", "a0", 0) is None
    again = MembershipWriter(tmp_path)
    assert reader.is_member("users", "ann", "a0", 0) is None
    again.publish_all(rows, NAMES, 1, 0)
    assert reader.is_member("users", "ann", "a0", 0) is True


def test_without_room_readers_are_told_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows(["ann"])
    writer = MembershipWriter(tmp_path)
    writer.publish_all(rows, NAMES, 1, 0)
    reader = MembershipReader(tmp_path)
    assert reader.is_member("users", "ann", "a0", 0) is True

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(StorageFull, match="No space left"):
            writer.publish_all(rows, NAMES, 1, 0)
    assert reader.is_member("users", "ann", "a0", 0) is None
    assert [path.name for path in tmp_path.iterdir()] == ["current"]
    writer.publish_all(rows, NAMES, 1, 0)
    assert reader.is_member("users", "ann", "a0", 0) is True


def test_a_user_who_is_known_and_not_touched_needs_no_asking(tmp_path: Path) -> None:
    rows = Rows(["ann"])
    writer = MembershipWriter(tmp_path)
    writer.publish_all(rows, NAMES, 1, 0)
    rows.keys.append("ben")
    assert writer.publish(rows, np.zeros(0, np.int32), 2, 0)
    assert MembershipReader(tmp_path).is_member("users", "ben", "a1", 0) is False
    assert json.loads((tmp_path / f"names-{generation(tmp_path)}.json").read_text())["capacity"] == 1024

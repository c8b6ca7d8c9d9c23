"""Dropped transitions leave who was inside: every reader finds what it would have found with all of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.evaluator import ledger
from actors.evaluator.results import TRANSITION_SCHEMA
from actors.evaluator.stored import entered_since, history_after, last_entered
from cluster.log.records import TransitionBlock, unpack_transitions
from cluster.log.sqlite import EvaluatorLog

USERS, AUDIENCES = ("a", "b", "c", "d"), ("x", "y")


class Told:
    """A log that drops, and one beside it that keeps everything."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "dropping.db"
        self.log = EvaluatorLog.open(self.path, owner_epoch=1)
        self.whole = EvaluatorLog.open(folder / "whole.db", owner_epoch=1)
        self.now_ms = 1_000
        self.inside: set[tuple[str, str]] = set()
        self.epoch = 1

    def block(self, *pairs: tuple[str, str]) -> None:
        """Transitions of these pairs, in or out as each alternates."""
        rows = []
        for audience, user in pairs:
            self.now_ms += 1
            pair = (audience, user)
            kind = "exited" if pair in self.inside else "entered"
            self.inside ^= {pair}
            rows.append((audience, 1, user, kind, self.now_ms, 0, "event", 3))
        table = pa.RecordBatch.from_arrays(
            [pa.array(list(column), field.type) for column, field in zip(zip(*rows, strict=True), TRANSITION_SCHEMA,
                                                                         strict=True)], schema=TRANSITION_SCHEMA,
        )  # fmt: skip
        for log in (self.log, self.whole):
            log.commit((), [TransitionBlock.of(log.last_transition_seq() + 1, table)])

    def reopen(self) -> None:
        """kill -9 and a successor."""
        self.log.close()
        self.epoch += 1
        self.log = EvaluatorLog.open(self.path, owner_epoch=self.epoch)

    def fold(self, read: int, age_ms: int) -> int:
        return ledger.fold(self.log, min(read, self.log.last_transition_seq()), self.now_ms - age_ms)

    def check(self) -> None:
        seq = self.whole.last_transition_seq()
        assert self.log.last_transition_seq() == seq
        for audience in AUDIENCES:
            numbers, rows = last_entered(self.log, audience, seq)
            wanted, wanted_rows = last_entered(self.whole, audience, seq)
            assert numbers.tolist() == wanted.tolist()
            assert (rows and unpack_transitions(rows)) == (wanted_rows and unpack_transitions(wanted_rows))
        assert entered_since(self.log, self.inside, seq) == entered_since(self.whole, self.inside, seq)
        for limit in (1, 3, 1_000):
            assert self.walked(limit) == self.inside, "an heir that reads everything knows who is inside"

    def walked(self, limit: int) -> set[tuple[str, str]]:
        inside: set[tuple[str, str]] = set()
        seq, last = 0, 0
        while seq < self.log.last_transition_seq():
            reply = history_after(self.log, seq, limit, None)
            assert reply["next_seq"] > seq
            for number, row in rows_of(reply):
                assert seq < number <= reply["next_seq"]
                assert number > last
                last, pair = number, (row["audience_id"], row["user_id"])
                assert (pair in inside) == (row["kind"] == "exited"), "kinds alternate"
                inside ^= {pair}
            seq = reply["next_seq"]
        return inside


def rows_of(reply: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    if not reply["transitions"]:
        return []
    numbers = np.frombuffer(reply["seqs"], "<i8").tolist()
    return list(zip(numbers, unpack_transitions(reply["transitions"]).to_pylist(), strict=True))


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    with ExitStack() as patches:
        for name, value in {"ROWS_MIN": 3, "PAGE_ROWS": 2, "ROWS_A_FOLD": 6, "_STEP": 4}.items():
            patches.enter_context(patch.object(ledger, name, value))
        yield


PAIRS = st.tuples(st.sampled_from(AUDIENCES), st.sampled_from(USERS))
STEPS = st.one_of(
    st.tuples(st.just("block"), st.lists(PAIRS, min_size=1, max_size=6)),
    st.tuples(st.just("block"), st.lists(PAIRS, min_size=1, max_size=6)),
    st.tuples(st.just("fold"), st.integers(0, 60), st.integers(0, 8)),
    st.tuples(st.just("crash in a fold"), st.integers(0, 60), st.integers(0, 6)),
    st.tuples(st.just("reopen")),
)


@settings(max_examples=60)
@example([("block", [("x", "a")] * 4), ("fold", 4, 1)])
@given(st.lists(STEPS, max_size=25))
def test_every_reader_finds_what_it_would_have_found(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        told = Told(Path(name))
        for what, *values in steps:
            match what:
                case "block":
                    told.block(*values[0])
                case "fold":
                    told.fold(values[0], values[1])
                case "crash in a fold":
                    crash_in_a_fold(told, *values)
                case "reopen":
                    told.reopen()
            told.check()


def crash_in_a_fold(told: Told, read: int, writes: int) -> None:
    """Die after so many of its writes: commits and droppings."""
    left = writes

    def once(method: Any) -> Any:
        def dying(*args: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return method(*args)

        return dying

    with (
        patch.object(told.log, "commit", once(told.log.commit)),
        patch.object(told.log, "trim_transitions", once(told.log.trim_transitions)),
        suppress(KeyboardInterrupt),
    ):
        told.fold(read, 0)
    told.reopen()


def test_what_is_young_or_unread_stays_and_little_is_not_worth_it(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for _ in range(6):
        told.block(("x", "a"), ("y", "b"))
    assert told.fold(read=2, age_ms=0) == 0
    assert told.fold(read=12, age_ms=100) == 0
    assert told.fold(read=5, age_ms=0) == 4, "the block of which a part is not read stays"
    assert told.log.transitions_after(0, 100)[0].first_seq == 5
    told.check()
    assert ledger.pages_of(told.log).row_count == 1, "five changes: a is in x, and b left y with the fourth"


def test_a_log_that_lacks_its_beginning_without_a_ledger_is_read_from_where_it_begins(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for user in USERS:
        told.block(("x", user))
    told.log.trim_transitions(2)
    reply = history_after(told.log, 0, 100, None)
    assert [number for number, _ in rows_of(reply)] == [3, 4]


def test_pages_of_the_ledger_before_are_emptied(tmp_path: Path) -> None:
    told = Told(tmp_path)
    for user in USERS:
        told.block(*((audience, user) for audience in AUDIENCES))
    told.fold(read=6, age_ms=0)
    assert len(ledger.pages_of(told.log).ends) == 3
    for _ in range(4):
        told.block(*(("x", user) for user in USERS))
    told.fold(read=100, age_ms=0)
    pages = ledger.pages_of(told.log)
    assert pages.turn == 2
    assert told.log.meta("ledger/1/0") == b""
    assert told.log.meta("ledger/0/0")
    told.check()

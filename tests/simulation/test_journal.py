"""The journal is a log as the SQLite log is: the same calls give the same answers; power takes what was not synced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import Fenced, InternalError
from cluster.log.contract import Log
from cluster.log.records import Entry, TransitionBlock
from cluster.log.sqlite import EvaluatorLog
from tests.simulation.journal import JournalLog, SimFile


def entry(seq: int, clock_ms: int, kind: Any = "batch", subject: str = "") -> Entry:
    return Entry(seq, clock_ms, kind, 1, 1, b"payload", subject)


def block(first_seq: int, count: int) -> TransitionBlock:
    rows = pa.record_batch({"at": pa.array(range(first_seq, first_seq + count), pa.int64())})
    return TransitionBlock.of(first_seq, rows)


commits = st.tuples(
    st.just("commit"),
    st.lists(st.tuples(st.sampled_from(["batch", "tick", "traits", "definitions"]), st.integers(0, 5)), max_size=3),
    st.integers(0, 4),
)
trims = st.tuples(st.just("trim"), st.integers(0, 40))
trims_of_transitions = st.tuples(st.just("trim_transitions"), st.integers(0, 20))
reopenings = st.tuples(st.just("reopen"))
steps = st.lists(st.one_of(commits, commits, trims, trims_of_transitions, reopenings), max_size=12)


def play(log: Log, step: Any, reopen: Callable[[], Log]) -> tuple[Log, Any]:
    match step:
        case ("commit", kinds, count):
            clock = log.last_clock_ms() or 0
            entries = []
            for kind, after_ms in kinds:
                clock += after_ms
                subject = "users" if kind == "traits" and after_ms % 2 else ""
                entries.append(entry(log.last_seq() + len(entries) + 1, clock, kind, subject))
            log.commit(entries, [block(log.last_transition_seq() + 1, count)] if count else [], {"k": bytes([count])})
            return log, None
        case ("trim", clock_ms):
            return log, log.trim(clock_ms)
        case ("trim_transitions", seq):
            return log, log.trim_transitions(seq)
        case _:
            log.close()
            return reopen(), None


def seen(log: Log) -> list[Any]:
    return [
        log.last_seq(), log.last_clock_ms(), log.last_transition_seq(), log.meta("k"), log.meta("other"),
        list(log.entries()), list(log.entries(2)), list(log.entries(kinds=("batch", "tick"))),
        list(log.entries(1, ("traits",), 4)), list(log.entries(from_clock_ms=7)),
        log.newest("traits"), log.newest("definitions"), log.first_clock_ms(),
        log.transitions_after(0, 100), log.transitions_after(3, 4), log.transitions_after(5, 1),
    ]  # fmt: skip


@given(steps)
@settings(max_examples=40)
def test_the_journal_answers_as_the_sqlite_log(history: list[Any]) -> None:
    with TemporaryDirectory() as name:
        path, file = Path(name) / "log.db", SimFile()
        real: Log = EvaluatorLog.open(path, owner_epoch=1)
        journal: Log = JournalLog(file, owner_epoch=1)
        for step in history:
            real, answer = play(real, step, lambda: EvaluatorLog.open(path, owner_epoch=1))
            journal, same = play(journal, step, lambda: JournalLog(file, owner_epoch=1))
            assert same == answer
            assert seen(journal) == seen(real)
        real.close()


@pytest.mark.parametrize("seed", range(40))
def test_power_takes_what_was_not_synced_and_nothing_else(seed: int) -> None:
    file, lost = SimFile(), Random(seed)
    committed = 0

    def written() -> None:
        if committed == seed % 5 + 3:
            file.lose_power(lost)
            raise RuntimeError

    log = JournalLog(file, owner_epoch=1, written=written)
    with suppress(RuntimeError):
        while True:
            log.commit([entry(committed + 1, committed)], [block(committed + 1, 1)])
            committed += 1
    assert committed == seed % 5 + 3
    again = JournalLog(file, owner_epoch=1)
    # The torn commit, which nobody was told of, is there or not, never half of it.
    assert again.last_seq() in (committed, committed + 1)
    assert again.last_transition_seq() == again.last_seq()
    again.commit([entry(again.last_seq() + 1, 100)], [])


def test_a_newer_owner_ends_an_older_one() -> None:
    file = SimFile()
    first = JournalLog(file, owner_epoch=1)
    first.commit([entry(1, 1)], [])
    second = JournalLog(file, owner_epoch=1)
    with pytest.raises(Fenced, match="newer run"):
        first.commit([entry(2, 2)], [])
    second.commit([entry(2, 2)], [])
    JournalLog(file, owner_epoch=3)
    with pytest.raises(Fenced, match="newer run"):
        JournalLog(file, owner_epoch=2)


def test_what_does_not_follow_is_refused() -> None:
    log = JournalLog(SimFile(), owner_epoch=1)
    log.commit([entry(1, 5)], [])
    for wrong in (entry(1, 5), entry(3, 5), entry(2, 4)):
        with pytest.raises(InternalError):
            log.commit([wrong], [])
    with pytest.raises(InternalError):
        log.commit([], [block(2, 1)])
    assert log.last_seq() == 1

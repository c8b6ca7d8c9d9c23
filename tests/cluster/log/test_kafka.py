"""The log in Kafka: what brokers do to it, and what is left of it once its cache or its beginning is gone."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest

from cluster.errors import Damaged, Fenced, LogUnavailable
from cluster.log.contract import Log
from cluster.log.kafka import log as log_module
from cluster.log.kafka import taking, topic
from cluster.log.kafka.frames import Kind, unpack
from cluster.log.kafka.log import KafkaLog
from tests.brokers import FETCH, NOT_LEADER, PRODUCE, STORAGE_ERROR, TIMED_OUT
from tests.cluster.log.kept import InKafka, block, entry, file_size_limit, seqs


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic, "ANSWER_MS", 1_500)
    monkeypatch.setattr(topic, "_ANSWER_S", 1.5)


@pytest.fixture
def often_cut(monkeypatch: pytest.MonkeyPatch, in_kafka: InKafka) -> None:
    """A topic that may be cut every few entries, by what only the mock broker can do: it has no admin requests."""
    monkeypatch.setattr(taking, "MARK_BYTES", 5_000)
    monkeypatch.setattr(taking.Taker.__init__, "__defaults__", (5_000,))

    def delete_before(self: topic.Topic, offset: int) -> None:
        in_kafka.brokers.delete_before(self.name, offset)

    monkeypatch.setattr(topic.Topic, "delete_before", delete_before)


def fill(log: Log, count: int, kind: str = "batch") -> None:
    for _ in range(count):
        seq, transition = log.last_seq() + 1, log.last_transition_seq() + 1
        made = entry(seq, seq, kind, "users" * (kind == "traits"), os.urandom(2_000))  # type: ignore[arg-type]
        log.commit([made], [block(transition, 2)], {"count": str(seq).encode()})


def contents(log: Log) -> tuple[object, ...]:
    """All that a log says of itself."""
    return (
        list(log.entries()), log.newest("definitions"), log.newest("traits"), log.last_seq(), log.last_clock_ms(),
        log.last_transition_seq(), log.transitions_after(0, 1_000_000), log.meta("count"), log.meta("name"),
        log.first_clock_ms(),
    )  # fmt: skip


def test_one_record_is_sent_for_each_entry_and_every_record_names_its_owner(in_kafka: InKafka) -> None:
    with closing(in_kafka.open(3)) as log:
        log.commit([entry(i, i) for i in (1, 2, 3)], [block(1, 2)], {"a": b"1"})
        log.commit([entry(4, 4)], [])
    frames = [unpack(record, "t", offset) for offset, record in in_kafka.records()]
    assert [(frame.kind, frame.number, frame.part, frame.parts) for frame in frames] == [
        (Kind.CLAIM, 0, 0, 1), (Kind.COMMIT, 1, 0, 3), (Kind.COMMIT, 1, 1, 3), (Kind.COMMIT, 1, 2, 3),
        (Kind.COMMIT, 2, 0, 1),
    ]  # fmt: skip
    assert {frame.owner.epoch for frame in frames} == {3}


# --- brokers ---------------------------------------------------------------------------------------------


def test_errors_that_pass_are_waited_out(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        in_kafka.brokers.fail(PRODUCE, NOT_LEADER, TIMED_OUT, STORAGE_ERROR)
        in_kafka.brokers.fail(FETCH, NOT_LEADER, TIMED_OUT)
        fill(log, 3)
        assert seqs(log) == [1, 2, 3]


def test_brokers_that_go_away_and_come_back_in_time_are_waited_for(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 1)
        in_kafka.brokers.stop()
        back = threading.Timer(1.0, in_kafka.brokers.go_on)
        back.start()
        fill(log, 2)
        back.join()
        assert seqs(log) == [1, 2, 3]


@pytest.mark.usefixtures("impatient")
def test_brokers_that_stay_away_end_the_log_and_whoever_opens_it_anew_finds_out(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 2)
        in_kafka.brokers.stop()
        with pytest.raises(LogUnavailable) as found:
            fill(log, 1)
        assert "brokers" in found.value.next_step
        assert seqs(log) == [1, 2], "what is there can be read"
        in_kafka.brokers.go_on()
        with pytest.raises(LogUnavailable, match="not written to any more"):
            fill(log, 1)
    with closing(in_kafka.open()) as log:
        assert log.last_seq() in (2, 3)
        fill(log, 1)
    in_kafka.lose_cache()
    with closing(in_kafka.open()) as log:
        assert seqs(log) == list(range(1, log.last_seq() + 1))


@pytest.mark.usefixtures("impatient")
def test_brokers_that_are_not_there_are_named_at_once(in_kafka: InKafka) -> None:
    in_kafka.brokers.stop()
    with pytest.raises(LogUnavailable, match=in_kafka.topic):
        in_kafka.open()
    in_kafka.brokers.go_on()
    in_kafka.open().close()


@pytest.mark.usefixtures("impatient")
def test_an_answer_that_is_lost_after_the_record_was_taken_leaves_it_once(in_kafka: InKafka) -> None:
    """The client sends it again, under the same number: brokers, and at last the reader, know it."""
    with closing(in_kafka.open()) as log:
        fill(log, 1)
        in_kafka.brokers.delay(700)
        fill(log, 1)
        in_kafka.brokers.delay(0)
        fill(log, 1)
        assert seqs(log) == [1, 2, 3]
    in_kafka.lose_cache()
    with closing(in_kafka.open()) as log:
        assert seqs(log) == [1, 2, 3]


def test_a_commit_whose_cache_finds_no_room_is_not_refused_but_ends_the_log(
    in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts already: its sender must not be told that it may try again with something else in its place."""
    with closing(in_kafka.open()) as log:
        fill(log, 1)
        with file_size_limit(200_000), pytest.raises(LogUnavailable, match="cache"):
            log.commit([entry(2, 2, payload=os.urandom(800_000))], [])
        with pytest.raises(LogUnavailable):
            fill(log, 1)
    with closing(in_kafka.open()) as log:
        assert seqs(log) == [1, 2]


# --- what is lost ----------------------------------------------------------------------------------------


def test_a_cache_that_stopped_somewhere_is_brought_up_to_date(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 3)
    elsewhere = in_kafka.folder / "elsewhere"
    elsewhere.mkdir()
    for path in in_kafka.folder.glob("cache.db*"):
        path.rename(elsewhere / path.name)
    with closing(in_kafka.open(2)) as log:
        fill(log, 3)
        expected = contents(log)
    in_kafka.lose_cache()
    for path in elsewhere.glob("cache.db*"):
        path.rename(in_kafka.folder / path.name)
    with closing(in_kafka.open(2)) as log:
        assert contents(log) == expected


def test_a_topic_that_lost_its_end_is_loud(in_kafka: InKafka) -> None:
    """As after an unclean election, or where it was deleted and made anew: the cache knows of more."""
    with closing(in_kafka.open()) as log:
        fill(log, 3)
        known = log._cache.position()
        assert known is not None
        log._cache.take((), (), {}, msgspec.structs.replace(known, next_offset=known.next_offset + 10))
    with pytest.raises(Damaged, match="was acknowledged") as found:
        in_kafka.open()
    assert found.value.file == in_kafka.topic
    assert "delete" in found.value.next_step
    in_kafka.lose_cache()  # what the message says: go on without it
    with closing(in_kafka.open()) as log:
        assert seqs(log) == [1, 2, 3]


def test_records_that_a_retention_took_are_loud_where_they_are_needed(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 6)
    in_kafka.brokers.delete_before(in_kafka.topic, 4)
    with closing(in_kafka.open()) as log:
        assert seqs(log) == [1, 2, 3, 4, 5, 6], "the cache has them"
    in_kafka.lose_cache()
    with pytest.raises(Damaged, match="offset 4, which is no place at which Usher cut it") as found:
        in_kafka.open()
    assert "retention.ms" in found.value.next_step


def test_what_somebody_else_writes_is_named_and_nothing_goes_on_behind_it(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 1)
        in_kafka.write(b"hello")
        with pytest.raises(Damaged, match="no record of Usher's"):
            fill(log, 1)
    with pytest.raises(Damaged, match="Let nobody but Usher write"):
        in_kafka.open()


# --- cutting ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("often_cut")
def test_a_topic_is_cut_behind_what_was_trimmed_and_gives_the_same_without_its_cache(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        log.commit([entry(1, 1, "definitions", payload=b"D")], [], {"name": b"early"})
        fill(log, 1, "traits")
        fill(log, 40)
        assert log.trim(30) > 20
        first = in_kafka.records()[0][0]
        assert first > 5, "records are gone"
        fill(log, 5)
        assert log.trim(40) > 5
        assert in_kafka.records()[0][0] > first
        assert log.trim(41) == 1
        fill(log, 3)
        expected = contents(log)
    with closing(in_kafka.open()) as log:
        assert contents(log) == expected
    in_kafka.lose_cache()
    with closing(in_kafka.open()) as log:
        # Up to a mark's length more of the history may be there.
        found = contents(log)
        assert found[1:9] == expected[1:9]
        assert set(one.seq for one in expected[0]) <= set(seqs(log))  # type: ignore[attr-defined]
        fill(log, 30)
        assert log.trim(70) > 10
        expected = contents(log)
    in_kafka.lose_cache()
    with closing(in_kafka.open()) as log:
        assert contents(log)[1:9] == expected[1:9]


@pytest.mark.usefixtures("often_cut")
@pytest.mark.parametrize("step", ["_move_transitions", "_append", "delete_before"])
def test_a_crash_within_a_cut_loses_nothing(in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def crash(*_: object) -> None:
        message = "killed"
        raise KeyboardInterrupt(message)

    log = in_kafka.open()
    log.commit([entry(1, 1, "definitions", payload=b"D")], [], {"name": b"early"})
    fill(log, 30)
    with monkeypatch.context() as patch:
        if step == "delete_before":
            patch.setattr(topic.Topic, step, crash)
        else:
            patch.setattr(KafkaLog, step, crash)
        with pytest.raises(KeyboardInterrupt):
            log.trim(25)
    for _ in range(2):
        with closing(in_kafka.open(2)) as again:
            assert again.last_seq() == 31
            assert again.meta("name") == b"early"
            assert [one.payload for one in again.newest("definitions")] == [b"D"]
            assert again.transitions_after(0, 1_000)[0].first_seq == 1
            assert again.transitions_after(0, 1_000)[-1].last_seq == 60
            again.trim(25)
        in_kafka.lose_cache()
    log.close()


@pytest.mark.usefixtures("often_cut")
def test_a_fenced_owner_cuts_nothing(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as first:
        fill(first, 30)
        with closing(in_kafka.open(2)):
            with pytest.raises(Fenced):
                first.trim(25)
            assert in_kafka.records()[0][0] == 0


@pytest.mark.parametrize("succeeded", [True, False])
def test_an_owner_whose_place_is_cut_off_is_fenced_where_a_newer_one_did_it(
    in_kafka: InKafka, monkeypatch: pytest.MonkeyPatch, succeeded: bool
) -> None:
    reads = topic.Topic.read_through
    with closing(in_kafka.open()) as first:
        if succeeded:
            with closing(in_kafka.open(2)) as second:
                fill(second, 6)
                in_kafka.brokers.delete_before(in_kafka.topic, in_kafka.records()[-1][0])

        def cut_off(self: topic.Topic, offset: int) -> Iterator[tuple[int, bytes]]:
            """The client has no records in advance: what it asks for next is gone."""
            monkeypatch.setattr(topic.Topic, "read_through", reads)
            message = "lacks records that were there"
            raise Damaged(message, file=self.name, position="its beginning", next_step="")

        monkeypatch.setattr(topic.Topic, "read_through", cut_off)
        with pytest.raises(Fenced if succeeded else Damaged):
            fill(first, 1)


@pytest.mark.usefixtures("often_cut")
def test_commits_get_their_turn_while_the_topic_is_cut(in_kafka: InKafka) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 60)
        trimming = threading.Thread(target=lambda: [log.trim(seq) for seq in range(5, 55, 5)])
        trimming.start()
        until = time.monotonic() + 30
        while trimming.is_alive() and time.monotonic() < until:
            fill(log, 1)
        trimming.join(30)
        last = log.last_seq()
        assert last > 60
    in_kafka.lose_cache()
    with closing(in_kafka.open()) as log:
        assert log.last_seq() == last
        assert log.last_transition_seq() == 2 * last


def test_torn_and_fenced_records_are_said_at_the_next_opening(
    in_kafka: InKafka, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(in_kafka.open()) as log:
        fill(log, 1)
        torn = log_module.Frame(Kind.COMMIT, log._owner, 2, 0, 2, -1, b"half")
    in_kafka.write(torn.pack())
    with caplog.at_level(logging.WARNING), closing(in_kafka.open(2)) as log:
        assert seqs(log) == [1]
    assert "never acknowledged" in caplog.text
    in_kafka.write(torn.pack())
    caplog.clear()
    with caplog.at_level(logging.WARNING), closing(in_kafka.open(3)):
        pass
    assert "1 records of fenced owners" in caplog.text

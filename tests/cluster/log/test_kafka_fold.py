"""Which records of a topic count: the same for every reader, whatever owners send, when, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import Damaged
from cluster.log.kafka.fold import Fold, Group
from cluster.log.kafka.frames import Commit, Frame, Kind, Owner, cut_commit, unpack, unpack_commit
from tests.cluster.log.kept import block, entry


def read(topic: Sequence[bytes], fold: Fold | None = None) -> list[Group]:
    fold = fold or Fold("t")
    groups = [fold.feed(offset, topic[offset]) for offset in range(fold.position, len(topic))]
    return [group for group in groups if group is not None]


@dataclass
class Writer:
    """An owner as the log's is: it knows the topic up to where it has read, and sends on from there."""

    owner: Owner
    fold: Fold
    sent: list[bytes] = field(default_factory=list)
    acknowledged: list[bytes] = field(default_factory=list)
    fenced: bool = False

    def catch_up(self, topic: list[bytes]) -> None:
        for offset in range(self.fold.position, len(topic)):
            group = self.fold.feed(offset, topic[offset])
            if group is not None and group.owner == self.owner:
                self.acknowledged.append(group.body)
        self.fenced = self.fold.owner != self.owner

    def group(self, body: bytes, parts: int) -> list[bytes]:
        size = len(body) // parts + 1
        pieces = [body[place * size : (place + 1) * size] for place in range(parts)]
        number = self.fold.number + 1
        return [Frame(Kind.COMMIT, self.owner, number, i, parts, -1, piece).pack() for i, piece in enumerate(pieces)]


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[bytes], list[Writer]]:
    """Owners that take over from one another, each going on for a while without knowing; torn and repeated sends."""
    topic: list[bytes] = []
    writers: list[Writer] = []
    for number in range(draw(st.integers(1, 4))):
        claimant = Writer(Owner(draw(st.integers(1, 3)) + number, 1, number), Fold("t"))
        topic.append(Frame(Kind.CLAIM, claimant.owner, 0, 0, 1, -1, b"").pack())
        claimant.catch_up(topic)
        writers.append(claimant)
        for _ in range(draw(st.integers(0, 6))):
            writer = draw(st.sampled_from(writers))
            if writer.fenced:
                continue
            body = f"{writer.owner.nonce}-{len(writer.sent)}".encode()
            records = writer.group(body, draw(st.integers(1, 3)))
            writer.sent.append(body)
            arrived = draw(st.integers(0, len(records)))
            topic += records[:arrived]
            if draw(st.booleans()):
                topic += records[:arrived][-1:]  # an answer was lost, the client sent it again
            if arrived < len(records):
                writer.fenced = True  # it never came to know, and ended
            else:
                writer.catch_up(topic)
    return topic, writers


@given(stories(), st.data())
def test_all_that_was_acknowledged_counts_once_and_nothing_after_an_owner_was_fenced(
    story: tuple[list[bytes], list[Writer]], data: st.DataObject
) -> None:
    topic, writers = story
    counted = [group.body for group in read(topic)]
    assert len(counted) == len(set(counted))
    for writer in writers:
        assert [body for body in counted if body in set(writer.sent)] == writer.acknowledged
    claims = [offset for offset, record in enumerate(topic) if unpack(record, "t", offset).kind is Kind.CLAIM]
    for group in read(topic):
        newest = max(
            (unpack(topic[offset], "t", offset).owner for offset in claims if offset < group.next_offset),
            key=lambda owner: (owner.epoch, owner.claim),
        )
        assert (group.owner.epoch, group.owner.claim) == (newest.epoch, newest.claim)
    # Whoever goes on from any group finds the same as who reads it all.
    groups = read(topic)
    if groups:
        at = data.draw(st.sampled_from(groups))
        later = read(topic, Fold("t", at.next_offset, at.owner, at.number))
        assert later == groups[groups.index(at) + 1 :]


@given(stories())
def test_a_reader_that_is_fed_in_any_two_pieces_is_the_same(story: tuple[list[bytes], list[Writer]]) -> None:
    topic, _ = story
    for cut in range(len(topic)):
        fold = Fold("t")
        assert read(topic[:cut], fold) + read(topic, fold) == read(topic)


ONE = Owner(1, 1, 7)


def frame(owner: Owner, number: int, body: bytes = b"x", part: int = 0, parts: int = 1) -> bytes:
    return Frame(Kind.COMMIT, owner, number, part, parts, -1, body).pack()


def claim(owner: Owner) -> bytes:
    return Frame(Kind.CLAIM, owner, 0, 0, 1, -1, b"").pack()


def test_of_two_claims_of_one_rank_the_first_in_the_topic_holds() -> None:
    other = replace(ONE, nonce=8)
    fold = Fold("t")
    topic = [claim(ONE), claim(other), frame(other, 1), frame(ONE, 1, b"mine")]
    assert [group.body for group in read(topic, fold)] == [b"mine"]
    assert fold.fenced == 1


def test_a_group_that_was_cut_short_does_not_count_and_is_counted() -> None:
    fold = Fold("t")
    later = Owner(2, 1, 9)
    topic = [claim(ONE), frame(ONE, 1, part=0, parts=2), claim(later), frame(ONE, 1, part=1, parts=2), frame(later, 1)]
    assert [group.owner for group in read(topic, fold)] == [later]
    assert (fold.torn, fold.fenced) == (1, 1)


@pytest.mark.parametrize("topic", [
    [claim(ONE), frame(ONE, 2)], [claim(ONE), frame(ONE, 1), frame(ONE, 3)],
    [frame(ONE, 1)], [claim(ONE), frame(Owner(2, 1, 3), 1)],
])  # fmt: skip
def test_records_that_are_missing_before_others_are_damage(topic: list[bytes]) -> None:
    with pytest.raises(Damaged, match="lost records that were acknowledged") as found:
        read(topic)
    assert found.value.position == f"offset {len(topic) - 1}"


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_byte_anywhere_in_a_record_is_found(place: int, change: int) -> None:
    record = bytearray(frame(ONE, 1, b"body" * 10))
    record[place % len(record)] ^= change
    with pytest.raises(Damaged) as found:
        read([claim(ONE), bytes(record)])
    assert found.value.position == "offset 1"
    assert found.value.next_step


@pytest.mark.parametrize("record", [b"", b"hello", b"USHR", b"\0" * 100])
def test_what_somebody_else_wrote_is_named(record: bytes) -> None:
    with pytest.raises(Damaged, match="The record at offset 0 of t"):
        read([record])


KINDS = st.sampled_from(["batch", "tick", "traits", "definitions"])


@given(
    st.lists(st.tuples(KINDS, st.binary(max_size=300)), max_size=5),
    st.integers(0, 3), st.dictionaries(st.text(max_size=5), st.binary(max_size=20), max_size=3), st.integers(20, 400),
)  # fmt: skip
def test_a_commit_comes_back_from_its_records(
    payloads: list[tuple[str, bytes]], blocks: int, meta: dict[str, bytes], record_bytes: int
) -> None:
    entries = tuple(entry(i + 1, i, kind, "users" * (kind == "traits"), payload)  # type: ignore[arg-type]
                    for i, (kind, payload) in enumerate(payloads))  # fmt: skip
    commit = Commit(entries, tuple(block(1 + i, 1) for i in range(blocks)), meta)
    bodies = cut_commit(commit, record_bytes)
    assert len(bodies) >= max(1, len(entries)), "one record for each entry"
    assert max(map(len, bodies)) <= record_bytes
    assert unpack_commit(b"".join(bodies)) == commit

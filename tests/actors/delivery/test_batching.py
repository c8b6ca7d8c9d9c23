from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from actors.delivery.batching import Pending, cut
from actors.delivery.changes import SWEEP, Change


def change(evaluator: int, seq: int, user: str = "u", kind: str = "entered") -> Change:
    return Change(evaluator, seq, "a", 1, user, kind, seq, 0, "event")  # type: ignore[arg-type]


def test_in_order_a_cursor_stands_before_the_first_change_that_was_not_taken() -> None:
    pending = Pending(net=False)
    pending.open(0, 10)
    pending.open(1, 5)
    pending.add(0, [change(0, 12), change(0, 15)], 20, 0)
    pending.add(1, [change(1, 6)], 8, 0)

    assert pending.cursors() == {0: 10, 1: 5}
    assert [c.seq for c in pending.take(1, 0)] == [12]
    assert pending.cursors() == {0: 12, 1: 5}
    assert [c.seq for c in pending.take(9, 0)] == [15, 6]
    assert pending.cursors() == {0: 20, 1: 8}


def test_net_two_changes_of_a_user_come_to_nothing_and_three_to_the_newest() -> None:
    pending = Pending(net=True)
    pending.open(0, 0)
    first = [change(0, 1, "a"), change(0, 2, "b"), change(0, 3, "a", "exited"), change(0, 4, "b", "exited")]
    pending.add(0, first, 4, 0)
    pending.add(0, [change(0, 5, "a")], 5, 0)

    assert pending.cursors() == {}
    assert [c.seq for c in pending.take(1, 0)] == [5]
    assert pending.cursors() == {0: 5}


def test_going_net_folds_what_is_there_and_back_in_order_nothing_is_lost() -> None:
    pending = Pending(net=False)
    pending.open(0, 0)
    pending.add(0, [change(0, 1, "a"), change(0, 2, "a", "exited"), change(0, 3, "b")], 3, 0)
    pending.go_net()
    assert [c.seq for c in pending.take(9, 0)] == [3]
    pending.go_in_order()
    pending.add(0, [change(0, 4, "b", "exited"), change(0, 5, "b")], 5, 0)

    assert pending.cursors() == {0: 3}
    assert [c.seq for c in pending.take(9, 0)] == [4, 5]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("ab"), st.just("flip")), st.tuples(st.sampled_from("ab"), st.just("repeat"))
        )
    ),
    st.integers(0, 3),
)
def test_what_repeats_membership_undoes_nothing_and_gives_way_to_a_change(
    steps: list[tuple[str, str]], taken_after: int
) -> None:
    pending = Pending(net=True)
    pending.open(0, 0)
    inside, told, owed = set[str](), set[str](), set[str]()

    def take() -> None:
        for one in pending.take(9, 0):
            (told.add if one.kind == "entered" else told.discard)(one.user_id)
            owed.discard(one.user_id)

    for number, (user, step) in enumerate(steps):
        if step == "flip":
            kind = "exited" if user in inside else "entered"
            (inside.discard if kind == "exited" else inside.add)(user)
            pending.add(0, [change(0, number, user, kind)], number, 0)
        elif user in inside:
            again = msgspec.structs.replace(change(0, number, user), cause="resync")
            pending.add(SWEEP, [again], number, 0)
            owed.add(user)
        if taken_after and number % taken_after == 0:
            take()
    take()

    assert told == inside
    assert not owed & inside, "whoever is inside was told of since the last repeat"


@given(st.lists(st.integers(0, 5)), st.integers(1, 4))
def test_cut_loses_nothing_and_makes_nothing_empty(numbers: list[int], size: int) -> None:
    changes = [change(0, number) for number in numbers]
    parts = cut(changes, size)

    assert [c for part in parts for c in part] == changes
    assert all(1 <= len(part) <= size for part in parts)

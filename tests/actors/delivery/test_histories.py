"""Random histories with failures and crashes at any point: the destination ends with the membership, in order."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.delivery.changes import Change
from actors.delivery.flaps import Flaps
from tests.actors.delivery.histories import Kind, World

STEPS = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 1), st.integers(0, 2)),
    st.tuples(st.just("flip"), st.integers(0, 1), st.integers(0, 2)),
    st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 4)),
    st.tuples(st.just("write"), st.integers(1, 3)),
    st.tuples(st.just("answer"), st.integers(0, 3), st.booleans(), st.sampled_from(["truth", "nothing", "part"])),
    st.tuples(st.just("time"), st.sampled_from([1, 5, 700, 5_000])),
    st.tuples(st.just("crash"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("suspend"), st.booleans()),
)
PAUSES = st.tuples(st.just("pause"), st.booleans())
REFUSALS = st.one_of(
    st.tuples(st.just("answer"), st.integers(0, 3), st.just(False), st.just("refusal")),
    st.tuples(st.just("cycle"), st.sampled_from(["refusal", "half refusal"])),
    st.tuples(st.just("cycle"), st.sampled_from(["truth", "nothing"])),
    st.tuples(st.just("retry")),
)
CHURN = st.one_of(
    st.tuples(st.just("churn"), st.integers(0, 1), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    st.tuples(st.just("write"), st.integers(1, 3)),
    st.tuples(st.just("time"), st.sampled_from([5, 700, 5_000])),
)
KINDS = st.builds(
    Kind, st.sampled_from(["state", "changes"]), batch_records=st.integers(1, 4), keyed=st.booleans()
)  # fmt: skip


def lived(world: World, steps: list[tuple[Any, ...]]) -> World:
    for name, *values in steps:
        getattr(world, name)(*values)
    world.settle_down()
    return world


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=80), st.integers(1, 4), st.booleans())
def test_every_change_arrives_in_order_whatever_crashes(
    steps: list[tuple[Any, ...]], batch_records: int, keyed: bool
) -> None:
    world = World(Kind("changes", batch_records, keyed))
    world.poisoned = False
    lived(world, steps).check(every_change=True)


@settings(max_examples=200)
@given(st.lists(st.one_of(STEPS, PAUSES), max_size=80), KINDS)
def test_the_destination_ends_with_the_membership_whatever_crashes_and_pauses(
    steps: list[tuple[Any, ...]], kind: Kind
) -> None:
    lived(World(kind), steps).check(every_change=False)


@settings(max_examples=300)
@given(st.lists(st.one_of(STEPS, PAUSES, REFUSALS), max_size=100), KINDS)
def test_no_dead_letter_that_is_sent_again_undoes_a_newer_change(steps: list[tuple[Any, ...]], kind: Kind) -> None:
    lived(World(kind), steps).check(every_change=False)


@settings(max_examples=200)
@given(st.lists(st.one_of(STEPS, REFUSALS), max_size=80), st.integers(1, 4))
def test_where_each_change_counts_dead_letters_bring_every_one_in_the_end(
    steps: list[tuple[Any, ...]], batch_records: int
) -> None:
    lived(World(Kind("changes", batch_records, newest_counts=False)), steps).check(every_change=True)


FLAPS = st.builds(Flaps, *[st.sampled_from([0, 1_000, 5_000])] * 3).filter(lambda flaps: flaps != Flaps())


@settings(max_examples=200)
@given(st.lists(st.one_of(STEPS, PAUSES, REFUSALS, CHURN, CHURN), max_size=100), KINDS)
def test_what_does_not_fit_memory_waits_on_disk_and_comes_to_the_same(
    steps: list[tuple[Any, ...]], kind: Kind
) -> None:
    with ExitStack() as tight:
        for name, bound in (("SYNC_PENDING_MAX", 4), ("PARKED_AT_ONCE", 2), ("FETCHED_AT_ONCE", 2)):
            tight.enter_context(patch(f"actors.delivery.intake.{name}", bound))
        tight.enter_context(patch("actors.delivery.machine.SEALED_AHEAD", 0))
        lived(World(replace(kind, in_flight_max=1)), steps).check(every_change=False)


@settings(max_examples=200)
@given(st.lists(st.one_of(STEPS, PAUSES, CHURN, CHURN), max_size=100), KINDS, FLAPS)
def test_flap_control_holds_changes_back_and_the_end_is_the_membership(
    steps: list[tuple[Any, ...]], kind: Kind, flaps: Flaps
) -> None:
    world = lived(World(replace(kind, flaps=flaps)), steps)

    world.check(every_change=False)
    last: dict[str, Change] = {}
    for batch in world.sealed:
        for change in batch:
            before = last.get(change.user_id)
            if before is not None:
                assert before.kind != change.kind, "what is told of a user alternates"
                wait_ms = flaps.min_stay_ms if change.kind == "exited" else flaps.cooldown_ms
                assert world.told_at[change] >= before.at_ms + wait_ms
            last[change.user_id] = change

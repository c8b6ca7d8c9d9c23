"""The trait loader's machine: one snapshot in force a parent, failures leave it, evaluators get it in the end."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.traits.instructions import Forget, Instruction, Load, Offer, Poll, Restore
from actors.traits.machine import NEVER_MS, TraitsMachine, shape_of
from actors.traits.stimuli import (
    DefinitionsSeen,
    Fingerprint,
    Loaded,
    LoadFailed,
    NotTaken,
    Polled,
    RefreshAsked,
    Restored,
    SnapshotInfo,
    Stimulus,
    Taken,
    Tick,
)
from cluster.definitions.model import ParentModel
from cluster.definitions.trait_sources import identity_of
from cluster.limits import (
    TRAITS_OFFER_RETRY_MAX_MS,
    TRAITS_OFFER_RETRY_MIN_MS,
    TRAITS_POLL_MS,
    TRAITS_REMOTE_POLL_MS,
    TRAITS_RETRY_MAX_MS,
    TRAITS_RETRY_MIN_MS,
)
from tests.actors.traits.making import parent, source_of, with_source

USERS = parent(path="users.parquet")
OLD: Fingerprint = ("users.parquet 10 1",)
NEW: Fingerprint = ("users.parquet 10 2",)


def info(version: int, model: ParentModel = USERS, fingerprint: Fingerprint = OLD, rows: int = 5) -> SnapshotInfo:
    return SnapshotInfo(version, shape_of(model, 64), identity_of(model.sources), fingerprint, rows, 0)


def seen(model: ParentModel | None = USERS, evaluators: int = 1) -> DefinitionsSeen:
    return DefinitionsSeen({} if model is None else {"users": model}, 64, tuple(range(evaluators)))


def load(model: ParentModel = USERS) -> Load:
    return Load(model, 64, shape_of(model, 64))


def started(model: ParentModel = USERS, evaluators: int = 1) -> TraitsMachine:
    """A machine with version 1 loaded at 0 and taken by every evaluator."""
    machine = TraitsMachine()
    machine.handle(seen(model, evaluators), 0)
    machine.handle(Restored("users", None), 0)
    machine.handle(Loaded("users", info(1, model)), 0)
    for evaluator in range(evaluators):
        assert machine.handle(Taken(evaluator, "users", 1), 0) == []
    return machine


def test_a_first_start_looks_for_a_stored_snapshot_then_loads_then_offers() -> None:
    machine = TraitsMachine()
    assert machine.handle(seen(evaluators=2), 0) == [Restore("users")]
    assert machine.handle(Restored("users", None), 0) == [load()]
    assert machine.status()[0]["state"] == "loading"
    assert machine.handle(Loaded("users", info(1)), 5) == [Offer(0, "users", 1), Offer(1, "users", 1)]
    assert machine.status()[0]["state"] == "ok"


def test_a_restart_offers_what_is_stored_and_only_looks_at_the_source() -> None:
    machine = TraitsMachine()
    machine.handle(seen(), 0)
    assert machine.handle(Restored("users", info(7)), 0) == [Poll(USERS), Offer(0, "users", 7)]
    assert machine.handle(Polled("users", OLD), 0) == []
    assert machine.current_version("users") == 7


def test_a_source_that_changed_while_usher_was_down_is_loaded() -> None:
    machine = TraitsMachine()
    machine.handle(seen(), 0)
    machine.handle(Restored("users", info(7)), 0)
    assert machine.handle(Polled("users", NEW), 0) == [load()]


@pytest.mark.parametrize("other", [parent({"ltv": "string"}, "users.parquet"), replace(USERS, primary_key="id")])
def test_a_stored_snapshot_of_another_shape_is_not_taken(other: ParentModel) -> None:
    machine = TraitsMachine()
    machine.handle(seen(), 0)
    assert machine.handle(Restored("users", info(7, other)), 0) == [load()]


def test_a_stored_snapshot_of_another_source_stays_until_the_new_source_is_loaded() -> None:
    machine = TraitsMachine()
    machine.handle(seen(), 0)
    found = machine.handle(Restored("users", info(7, parent(path="other.parquet"))), 0)
    assert found == [Poll(USERS), Offer(0, "users", 7)]
    assert machine.handle(Polled("users", OLD), 0) == [load()]


def test_a_source_is_looked_at_every_second_and_loaded_when_it_changed() -> None:
    machine = started()
    assert machine.next_due_ms() == TRAITS_POLL_MS
    assert machine.handle(Tick(), TRAITS_POLL_MS - 1) == []
    assert machine.handle(Tick(), TRAITS_POLL_MS) == [Poll(USERS)]
    assert machine.handle(Tick(), 9 * TRAITS_POLL_MS) == []  # one look at a time
    assert machine.handle(Polled("users", NEW), 9 * TRAITS_POLL_MS) == [load()]


def test_a_source_behind_a_network_is_looked_at_less_often() -> None:
    model = parent(path="s3://bucket/users.parquet")
    machine = started(model)
    assert machine.next_due_ms() == TRAITS_REMOTE_POLL_MS


QUERY = with_source(USERS, source_of("duckdb", query="SELECT 1"))


def test_a_source_that_cannot_tell_a_change_is_read_at_the_start_and_not_looked_at_again() -> None:
    machine = started(QUERY)
    assert machine.next_due_ms() == NEVER_MS
    again = TraitsMachine()
    again.handle(seen(QUERY), 0)
    assert Poll(QUERY) in again.handle(Restored("users", info(1, QUERY, ())), 0)
    assert again.handle(Polled("users", ()), 0) == [load(QUERY)]
    again.handle(Loaded("users", info(2, QUERY, ())), 0)
    assert again.handle(Taken(0, "users", 1), 0) == [Offer(0, "users", 2)]


def test_a_changed_password_has_the_source_read_again_also_while_it_is_being_read() -> None:
    first, second = (
        with_source(USERS, source_of("adbc", uri=f"postgresql://u:{word}@h/d", query="SELECT 1"))
        for word in ("old-password", "new-password")
    )
    machine = started(first)
    assert machine.handle(seen(second), 1) == [Poll(second)]
    assert machine.handle(Polled("users", ()), 1) == [load(second)]
    assert machine.handle(seen(first), 2) == []
    assert machine.handle(Loaded("users", info(2, second, ())), 3) == [load(first)]
    assert machine.current_version("users") == 1
    assert machine.handle(seen(second), 4) == []
    found = machine.handle(LoadFailed("users", "unreachable", "no such password"), 5)
    assert found == [load(second)]
    assert machine.status()[0]["error"] is None


def test_a_refresh_is_answered_by_a_load_that_began_after_it() -> None:
    machine = started()
    machine.handle(RefreshAsked("users"), 1)
    machine.handle(RefreshAsked("users"), 2)
    assert machine.status()[0]["refreshes"] == {"asked": 2, "answered": 0}
    assert load() in machine.handle(Loaded("users", info(2)), 3)
    assert machine.status()[0]["refreshes"] == {"asked": 2, "answered": 1}
    machine.handle(LoadFailed("users", "damaged", "cut off"), 4)
    assert machine.status()[0]["refreshes"] == {"asked": 2, "answered": 2}


def test_a_schedule_loads_unchanged_sources_too() -> None:
    model = replace(USERS, refresh_ms=2_500)
    machine = started(model)
    for now_ms in (1_000, 2_000):
        machine.handle(Tick(), now_ms)
        machine.handle(Polled("users", OLD), now_ms)
    assert machine.next_due_ms() == 2_500
    assert machine.handle(Tick(), 2_500) == [load(model)]
    assert machine.handle(Loaded("users", info(1, model)), 2_600) == []  # equal: nothing to offer
    machine.handle(Tick(), 3_600)
    machine.handle(Polled("users", OLD), 3_600)
    assert machine.handle(Tick(), 5_000) == [load(model)]


def test_a_refresh_asked_for_loads_at_once_or_after_what_is_under_way() -> None:
    machine = started()
    assert machine.handle(RefreshAsked("users"), 10) == [load()]
    assert machine.handle(RefreshAsked("users"), 11) == []
    assert machine.handle(Loaded("users", info(2)), 20) == [load(), Offer(0, "users", 2)]
    assert machine.handle(RefreshAsked("nobody"), 21) == []


def test_a_failure_keeps_the_old_snapshot_and_is_shown_since_it_began() -> None:
    machine = started()
    machine.handle(RefreshAsked("users"), 100)
    assert machine.handle(LoadFailed("users", "duplicate_key", "twice", NEW), 100) == []
    assert machine.handle(Tick(), 100 + TRAITS_RETRY_MIN_MS) == [load()]
    machine.handle(LoadFailed("users", "null_key", "null", NEW), 1_200)
    row = machine.status()[0]
    assert (row["version"], row["rows"], row["state"]) == (1, 5, "failed")
    assert row["error"] == {"reason": "null_key", "message": "null", "since_ms": 100}
    machine.handle(RefreshAsked("users"), 1_300)
    assert machine.handle(Loaded("users", info(2)), 1_300) == [Offer(0, "users", 2)]
    assert (machine.status()[0]["state"], machine.status()[0]["error"]) == ("ok", None)


def test_retries_of_an_unchanged_faulty_source_become_rarer_and_a_change_is_read_at_once() -> None:
    machine = started()
    machine.handle(RefreshAsked("users"), 0)
    now_ms, loads = 0, []
    machine.handle(LoadFailed("users", "damaged", "cut off", NEW), 0)
    while now_ms < 10 * TRAITS_RETRY_MAX_MS:
        now_ms = machine.next_due_ms()
        for instruction in machine.handle(Tick(), now_ms):
            if isinstance(instruction, Load):
                loads.append(now_ms)
                machine.handle(LoadFailed("users", "damaged", "cut off", NEW), now_ms)
            else:
                assert machine.handle(Polled("users", NEW), now_ms) == []
    pauses = [later - sooner for sooner, later in pairwise(loads)]
    assert pauses[0] == 2 * TRAITS_RETRY_MIN_MS
    assert pauses == sorted(pauses)
    assert pauses[-1] == TRAITS_RETRY_MAX_MS
    machine.handle(Tick(), now_ms + TRAITS_POLL_MS)
    assert machine.handle(Polled("users", OLD), now_ms + TRAITS_POLL_MS) == [load()]


def test_a_source_that_went_away_and_came_back_unchanged_is_loaded_and_well_again() -> None:
    machine = started()
    machine.handle(Tick(), 1_000)
    machine.handle(LoadFailed("users", "no_files", "gone"), 1_000)
    assert machine.status()[0]["state"] == "failed"
    assert machine.handle(Tick(), 2_000) == [load()]
    machine.handle(LoadFailed("users", "no_files", "gone"), 2_000)
    assert machine.handle(Tick(), 3_000) == [Poll(USERS)]
    assert machine.handle(Polled("users", OLD), 3_000) == [load()]
    machine.handle(Loaded("users", info(1)), 3_100)
    assert machine.status()[0]["state"] == "ok"


def test_an_evaluator_that_did_not_take_it_is_asked_again_until_it_does() -> None:
    machine = started(evaluators=2)
    machine.handle(RefreshAsked("users"), 0)
    machine.handle(Loaded("users", info(2)), 0)
    assert machine.handle(Taken(1, "users", 2), 0) == []
    now_ms, pauses = 0, []
    for _ in range(8):
        assert machine.handle(NotTaken(0, "users", 2, "starting"), now_ms) == []
        due_ms = next(t for t in range(now_ms, now_ms + 10_000, 100) if Offer(0, "users", 2) in tick_at(machine, t))
        pauses.append(due_ms - now_ms)
        now_ms = due_ms
    assert pauses[:3] == [TRAITS_OFFER_RETRY_MIN_MS << i for i in range(3)]
    assert pauses[-1] == TRAITS_OFFER_RETRY_MAX_MS
    assert machine.status()[0]["waiting_for"] == {0: "starting"}
    machine.handle(Taken(0, "users", 2), now_ms)
    assert machine.status()[0]["waiting_for"] == {}


def tick_at(machine: TraitsMachine, now_ms: int) -> list[Instruction]:
    found = machine.handle(Tick(), now_ms)
    if any(isinstance(one, Poll) for one in found):
        machine.handle(Polled("users", OLD), now_ms)
    return found


def test_a_newer_snapshot_is_offered_even_while_an_older_one_is_under_way() -> None:
    machine = started()
    machine.handle(RefreshAsked("users"), 0)
    machine.handle(Loaded("users", info(2)), 0)
    machine.handle(RefreshAsked("users"), 0)
    assert machine.handle(Loaded("users", info(3)), 0) == []  # one offer at a time
    assert machine.handle(Taken(0, "users", 2), 0) == [Offer(0, "users", 3)]


def test_a_new_evaluator_gets_the_snapshot_in_force() -> None:
    machine = started()
    assert machine.handle(seen(evaluators=2), 10) == [Offer(1, "users", 1)]


def test_new_columns_are_loaded_at_once_and_the_old_snapshot_stays_meanwhile() -> None:
    machine = started()
    wider = parent({"ltv": "number", "tier": "string", "age": "number"}, "users.parquet")
    assert machine.handle(seen(wider), 10) == [load(wider)]
    assert (machine.status()[0]["version"], machine.status()[0]["state"]) == (1, "loading")
    machine.handle(LoadFailed("users", "missing_column", "no age", OLD), 20)
    assert (machine.status()[0]["version"], machine.status()[0]["state"]) == (1, "failed")


def test_a_load_of_definitions_that_changed_meanwhile_is_void() -> None:
    machine = started()
    wider = parent({"ltv": "number", "age": "number"}, "users.parquet")
    machine.handle(RefreshAsked("users"), 5)
    assert machine.handle(seen(wider), 10) == []
    assert machine.handle(Loaded("users", info(2)), 20) == [load(wider)]
    assert machine.current_version("users") == 1


def test_a_removed_source_leaves_a_snapshot_without_rows() -> None:
    machine = started()
    bare = parent({})
    assert machine.handle(seen(bare), 10) == [load(bare)]
    assert machine.handle(Loaded("users", info(2, bare, (), 0)), 20) == [Offer(0, "users", 2)]
    assert machine.handle(Taken(0, "users", 2), 30) == []
    assert machine.next_due_ms() == NEVER_MS


def test_an_empty_snapshot_that_could_not_be_stored_is_tried_again_later() -> None:
    machine = started()
    bare = parent({})
    machine.handle(seen(bare), 10)
    assert machine.handle(LoadFailed("users", "storage_full", "full"), 20) == []
    assert machine.next_due_ms() == 20 + TRAITS_RETRY_MIN_MS
    assert machine.handle(Tick(), 20 + TRAITS_RETRY_MIN_MS) == [load(bare)]


def test_a_parent_that_never_had_traits_needs_nothing() -> None:
    machine = TraitsMachine()
    machine.handle(seen(parent({})), 0)
    assert machine.handle(Restored("users", None), 0) == []
    assert machine.next_due_ms() == NEVER_MS
    assert machine.status() == []


def test_a_parent_that_comes_back_is_offered_again_and_looked_at() -> None:
    machine = started()
    assert machine.handle(seen(None), 10) == []
    assert machine.next_due_ms() == NEVER_MS
    assert machine.status() == []
    assert machine.handle(seen(), 20) == [Poll(USERS), Offer(0, "users", 1)]


def test_stored_versions_are_forgotten_once_nobody_needs_them_and_three_are_kept() -> None:
    machine = started(evaluators=2)
    forgotten: list[Instruction] = []
    for version in range(2, 8):
        machine.handle(RefreshAsked("users"), 0)
        machine.handle(Loaded("users", info(version)), 0)
        forgotten += machine.handle(Taken(0, "users", version), 0)
        if version < 6:
            machine.handle(NotTaken(1, "users", version, "down"), 0)  # it still recovers from version 1
        else:
            found = machine.handle(Taken(1, "users", version), 0) if version == 7 else []
            forgotten += found
    assert forgotten == [Forget("users", 5)]


class Loader(RuleBasedStateMachine):
    """Whatever happens in whatever order: versions only grow, and a lasting peace ends with all having the newest."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = TraitsMachine()
        self.now_ms = 0
        self.open: list[Instruction] = []
        self.version = 0
        self.evaluators = 2
        self.taken: dict[int, int] = {}
        self.tell(seen(USERS, 2))

    def tell(self, stimulus: Stimulus) -> None:
        before = self.machine.current_version("users") or 0
        self.open += [one for one in self.machine.handle(stimulus, self.now_ms) if not isinstance(one, Forget)]
        assert (self.machine.current_version("users") or 0) >= before

    def answer(self, instruction: Instruction, well: bool) -> None:
        match instruction:
            case Restore():
                self.tell(Restored("users", None))
            case Poll() | Load() if not well:
                self.tell(LoadFailed("users", "damaged", "", OLD))
            case Poll():
                self.tell(Polled("users", OLD))
            case Load():
                self.version += 1
                self.tell(Loaded("users", replace(info(self.version, instruction.model), shape=instruction.shape)))
            case Offer(evaluator, name, version):
                self.taken |= {evaluator: version} if well else {}
                self.tell(Taken(evaluator, name, version) if well else NotTaken(evaluator, name, version, ""))

    @rule(by_ms=st.integers(0, 70_000))
    def pass_time(self, by_ms: int) -> None:
        self.now_ms += by_ms
        self.tell(Tick())

    @precondition(lambda self: self.open)
    @rule(data=st.data(), well=st.booleans())
    def answer_one(self, data: Any, well: bool) -> None:
        index = data.draw(st.integers(0, len(self.open) - 1))
        self.answer(self.open.pop(index), well)

    @rule(wide=st.booleans(), evaluators=st.integers(1, 3))
    def redefine(self, wide: bool, evaluators: int) -> None:
        self.evaluators = evaluators
        model = parent({"ltv": "number", "age": "number"}, "users.parquet") if wide else USERS
        self.tell(seen(model, evaluators))

    @rule()
    def ask_for_a_refresh(self) -> None:
        self.tell(RefreshAsked("users"))

    @invariant()
    def at_most_one_look_or_load_and_one_offer_each_is_open(self) -> None:
        assert sum(isinstance(one, Restore | Poll | Load) for one in self.open) <= 1
        offers = [one.evaluator for one in self.open if isinstance(one, Offer)]
        assert len(offers) == len(set(offers))

    def teardown(self) -> None:
        for _ in range(30):
            while self.open:
                self.answer(self.open.pop(), well=True)
            self.now_ms += 70_000
            self.tell(Tick())
        row = self.machine.status()[0]
        assert row["state"] == "ok"
        assert row["waiting_for"] == {}
        newest = {self.taken[evaluator] for evaluator in range(self.evaluators)}
        assert newest == {self.machine.current_version("users")}


TestLoader = Loader.TestCase

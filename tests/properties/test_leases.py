"""Never two owners: any order of looks and puts, processes stopped at any place, clocks that differ and drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.leases.machine import Candidate, Gone, Lease, Put, Sleep, Withdraw, first

TERM_MS, MARGIN_MS, RENEW_MS = 1_000, 100, 200
#: A clock may be as much faster or slower as two of them may differ by the margin in a term.
DRIFT = 0.04


@dataclass
class World:
    """A store, and the true time."""

    now_ms: float = 0.0
    records: dict[str, Lease] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)


@dataclass
class Process:
    """A candidate that does one thing at a time: a look, or the put that follows from it."""

    world: World
    candidate: Candidate
    offset_ms: float
    rate: float
    put: Lease | None = None
    withdrawn: Lease | None = None
    nap_until_ms: float = 0.0
    gone: bool = False

    def now_ms(self) -> float:
        return self.offset_ms + self.world.now_ms * self.rate

    def step(self, *, early: bool = False) -> None:
        """The next thing; a look before its time harms nobody."""
        if self.gone or self.candidate.nonce in self.world.dead:
            return
        if self.put is not None:
            self.world.records[self.put.nonce] = self.put
            self.put, self.nap_until_ms = None, 0.0
            return
        if self.withdrawn is not None:
            self.world.records.pop(self.withdrawn.nonce, None)
            self.withdrawn, self.nap_until_ms = None, 0.0
            return
        if self.now_ms() < self.nap_until_ms and not early:
            return
        found = list(self.world.records.values())
        match self.candidate.looked(found, self.now_ms(), self.world.dead):
            case Put(record):
                self.put = record
            case Withdraw(record):
                self.withdrawn = record
            case Sleep(ms):
                self.nap_until_ms = self.now_ms() + ms
            case Gone():
                self.gone = True

    def holds(self) -> bool:
        return self.candidate.nonce not in self.world.dead and self.candidate.holds(self.now_ms())


def process(world: World, nonce: str, offset_ms: float = 0.0, rate: float = 1.0, floor: int = 1) -> Process:
    return Process(world, Candidate(nonce, nonce, TERM_MS, MARGIN_MS, RENEW_MS, floor), offset_ms, rate)


def owners(processes: list[Process]) -> list[str]:
    return [each.candidate.nonce for each in processes if each.holds()]


NONCES = "abcd"
PACES = st.sampled_from([0.0, 1.0, 10.0, 50.0, 150.0, 199.0, 400.0, 899.0, 901.0, 1_000.0, 1_100.0, 3_000.0])
DOINGS = st.sampled_from(["step", "step", "step", "early", "kill", "let go"])
STEPS = st.tuples(st.integers(0, len(NONCES) - 1), PACES, DOINGS)


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1 - DRIFT, 1 + DRIFT)), min_size=4, max_size=4),
    st.lists(STEPS, min_size=10, max_size=120),
)
@settings(max_examples=400)
def test_no_two_hold_at_once(clocks: list[tuple[float, float]], story: list[tuple[int, float, str]]) -> None:
    world = World()
    processes = [process(world, nonce, *clock) for nonce, clock in zip(NONCES, clocks, strict=True)]
    epochs: dict[str, int] = {}
    for index, pace_ms, what in story:
        world.now_ms += pace_ms
        assert len(owners(processes)) <= 1
        chosen = processes[index]
        if what == "kill" and pace_ms == 50.0:
            world.dead.add(chosen.candidate.nonce)
        elif what == "let go" and chosen.holds():
            put = chosen.candidate.release()
            assert put is not None
            world.records[put.record.nonce] = put.record
            chosen.gone = True
        else:
            chosen.step(early=what == "early")
        for nonce in owners(processes):
            lease = next(each.candidate.lease for each in processes if each.candidate.nonce == nonce)
            assert lease is not None
            epochs.setdefault(nonce, lease.epoch)
        assert len(owners(processes)) <= 1


def run(world: World, processes: list[Process], until: Callable[[], bool], at_most_ms: float) -> float:
    """Let all go on, a ms each; gives how long it took."""
    began = world.now_ms
    while not until():
        assert world.now_ms - began < at_most_ms, "it does not come to its end"
        world.now_ms += 1
        for each in processes:
            each.step()
    return world.now_ms - began


@given(st.permutations(range(4)), st.lists(st.integers(0, 40), min_size=4, max_size=4))
@settings(max_examples=60)
def test_some_one_comes_to_own_soon_whoever_else_tries(order: list[int], starts: list[int]) -> None:
    world = World()
    processes = [process(world, NONCES[index]) for index in order]
    for each, start in zip(processes, starts, strict=True):
        each.nap_until_ms = float(start)
    run(world, processes, lambda: bool(owners(processes)), 3 * TERM_MS)
    [owner] = owners(processes)
    for _ in range(50):
        run(world, processes, lambda: True, 1)
        world.now_ms += 20
        for each in processes:
            each.step()
        assert owners(processes) == [owner], "and goes on owning"


def test_the_first_owns_at_once_and_the_next_after_a_term_of_silence() -> None:
    world = World()
    one, two = process(world, "a"), process(world, "b", offset_ms=1e9)
    assert run(world, [one], one.holds, 10) <= 3
    assert one.candidate.is_first
    run(world, [one, two], lambda: world.now_ms > 5_000, 6_000)
    assert owners([one, two]) == ["a"]
    silent_from = world.now_ms
    took = run(world, [two], two.holds, 2 * TERM_MS)
    assert TERM_MS - RENEW_MS <= took <= TERM_MS + RENEW_MS
    assert not two.candidate.is_first
    assert (two.candidate.lease or first([])) is not None
    assert world.now_ms - silent_from >= TERM_MS - MARGIN_MS
    # The one that was stopped goes on: it knows by its own clock before it looks, and ends when it does.
    assert not one.holds()
    run(world, [one, two], lambda: one.gone, 1_000)
    assert owners([one, two]) == ["b"]
    assert [each.candidate.lease.epoch for each in (one, two) if each.candidate.lease] == [1, 2]


def test_nobody_waits_for_who_has_let_go_or_is_dead() -> None:
    world = World()
    one, two, three = (process(world, nonce) for nonce in "abc")
    run(world, [one], one.holds, 10)
    put = one.candidate.release()
    assert put is not None
    world.records["a"] = put.record
    assert run(world, [two], two.holds, 10) <= 3
    world.dead.add("b")
    assert run(world, [three], three.holds, 10) <= 3
    assert three.candidate.lease is not None
    assert three.candidate.lease.epoch == 3


def test_an_owner_that_was_stopped_and_not_replaced_goes_on() -> None:
    world = World()
    one = process(world, "a")
    run(world, [one], one.holds, 10)
    world.now_ms += 10 * TERM_MS
    assert not one.holds(), "not before it has looked"
    run(world, [one], one.holds, 10)
    assert one.candidate.lease is not None
    assert one.candidate.lease.epoch == 1


def test_a_renewal_that_comes_late_makes_its_successor_wait_a_term_more() -> None:
    """Stopped between its look and its put, it puts just before its successor looks once more."""
    world = World()
    one, two = process(world, "a"), process(world, "b")
    run(world, [one], one.holds, 10)
    run(world, [one, two], lambda: world.now_ms > 1_000, 2_000)
    run(world, [one, two], lambda: one.put is not None, 1_000)
    world.now_ms += TERM_MS
    run(world, [two], lambda: two.put is not None, 2 * TERM_MS)
    one.step()  # its put
    one.step()  # its look: nobody else is there, its word is good again
    assert not one.holds(), "it began that renewal long ago"
    two.step()
    two.step()
    assert not two.holds()
    took = run(world, [one, two], two.holds, 3 * TERM_MS)
    assert took >= TERM_MS - RENEW_MS
    assert owners([one, two]) == ["b"]


def test_no_epoch_below_the_floor_is_taken() -> None:
    world = World()
    one = process(world, "a", floor=17)
    run(world, [one], one.holds, 10)
    assert one.candidate.lease is not None
    assert one.candidate.lease.epoch == 17


def test_a_slow_clock_s_owner_ends_before_a_fast_clock_s_successor_begins() -> None:
    world = World()
    one, two = process(world, "a", rate=1 - DRIFT), process(world, "b", rate=1 + DRIFT)
    run(world, [one], one.holds, 10)
    run(world, [one, two], lambda: world.now_ms > 3_000, 4_000)
    while not two.holds():
        world.now_ms += 0.5
        two.step(early=True)
        assert len(owners([one, two])) <= 1


def test_who_stops_between_its_first_put_and_its_look_counts_from_before_both() -> None:
    world = World()
    one, two = process(world, "a"), process(world, "b")
    one.step()
    one.step()  # put
    two.step()  # seen by the next
    world.now_ms += 0.9 * TERM_MS - 1
    one.step()
    while not two.holds():
        world.now_ms += 1
        two.step(early=True)
        assert len(owners([one, two])) <= 1


def test_who_owns_is_not_pushed_out_by_one_that_began_at_the_same_time() -> None:
    world = World()
    one, two = process(world, "b"), process(world, "a")
    two.step()  # it has looked, and found nobody
    run(world, [one], lambda: one.holds() and world.records["b"].owned, 10)
    two.step()  # it puts a record of the same epoch that would come first
    run(world, [one, two], lambda: world.now_ms > 5_000, 6_000)
    assert owners([one, two]) == ["b"]
    assert set(world.records) == {"b"}

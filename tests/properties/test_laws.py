"""Laws of semantics.md at their exact ms, one by one: the reference and the engine must both keep each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from tests.conftest import START_MS
from tests.properties import engine
from tests.reference import evaluator as reference

Found = list[tuple[int, str, str, str]]
Run = Callable[..., Found]
T = START_MS


def _shown(transitions: Sequence[reference.Transition]) -> Found:
    return [(each["at"] - T, each["user_id"], each["kind"], each["cause"]) for each in reference.ordered(transitions)]


def _reference(document: Mapping[str, Any], rows: Sequence[Any], traits: Any, until_ms: int) -> Found:
    return _shown(reference.replay(document, rows, traits, until_ms).transitions)


def _engine(document: Mapping[str, Any], rows: Sequence[Any], traits: Any, until_ms: int) -> Found:
    run = engine.replay(document, rows, traits, range(len(rows)), until_ms)
    return [] if run is None else _shown(run.transitions)


def _engine_in_one_batch(document: Mapping[str, Any], rows: Sequence[Any], traits: Any, until_ms: int) -> Found:
    run = engine.replay(document, rows, traits, (), until_ms)
    return [] if run is None else _shown(run.transitions)


@pytest.fixture(params=[_reference, _engine, _engine_in_one_batch], ids=["reference", "engine", "one-batch"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run rows under one audience `a` with this condition until `until` ms after T; gives what happened."""
    evaluate = request.param

    def with_condition(
        where: Mapping[str, Any], rows: Sequence[Any], *, until: int, traits: Any = None, **settings: Any
    ) -> Found:
        found: Found = evaluate(_document(where, settings), rows, traits or {}, T + until)
        return found

    return with_condition


def _document(where: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    columns = {"tier": {"type": "string"}}
    traits = {"source": {"kind": "parquet", "path": "users.parquet"}, "columns": columns}
    model: dict[str, Any] = {"id": "m", "parent": "users", "event": "view", "foreign_key": ["user_id", "anonymous_id"]}
    model |= {"columns": {"amount": {"path": "properties.amount", "type": "number"}}, "timestamp": "timestamp"}
    return {
        "version": 1,
        "sources": [{"id": "web", "kind": "http"}],
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": traits}],
        "event_models": [model],
        "audiences": [{"id": "a", "parent": "users", "where": where}],
        "settings": settings,
    }


def view(clock: int, ts: int | None = None, **fields: Any) -> dict[str, Any]:
    """A view at `clock` ms after T that says it happened at `ts` after T (default: then)."""
    row = {"type": "track", "event": "view", "user_id": "u", "received_at": T + clock}
    return {**row, "timestamp": T + (clock if ts is None else ts), **fields}


ONCE: dict[str, Any] = {"event": "m", "within": "10s"}
TWICE = {"event": "m", "within": "10s", "at_least": 2}
NEVER = {"not": {"event": "m", "within": "10s"}}
ENTERED = (0, "u", "entered", "event")


def test_event_leaves_window_exactly_at_its_end(run: Run) -> None:
    assert run(ONCE, [view(0)], until=9_999) == [ENTERED]
    assert run(ONCE, [view(0)], until=10_000) == [ENTERED, (10_000, "u", "exited", "time")]


def test_late_event_leaves_by_its_own_time(run: Run) -> None:
    assert run(ONCE, [view(0, ts=-4_000)], until=60_000) == [ENTERED, (6_000, "u", "exited", "time")]


def test_late_event_past_the_window_changes_nothing(run: Run) -> None:
    assert run(ONCE, [view(0, ts=-10_000)], until=60_000) == []
    assert run(ONCE, [view(0, ts=-9_999)], until=60_000) == [ENTERED, (1, "u", "exited", "time")]


def test_future_event_counts_as_now(run: Run) -> None:
    rows = [view(0, ts=99_000)]
    assert run(ONCE, rows, until=60_000) == [ENTERED, (10_000, "u", "exited", "time")]


def test_second_latest_event_decides_at_least_two(run: Run) -> None:
    rows = [view(0), view(3_000), view(4_000)]
    assert run(TWICE, rows, until=60_000) == [
        (3_000, "u", "entered", "event"),
        (13_000, "u", "exited", "time"),
    ]


def test_what_is_due_at_an_instant_comes_before_an_event_of_that_instant(run: Run) -> None:
    """Out by time and in by the event: two transitions at one instant, in this order."""
    assert run(ONCE, [view(0), view(10_000)], until=10_000) == [
        ENTERED,
        (10_000, "u", "exited", "time"),
        (10_000, "u", "entered", "event"),
    ]


def test_event_a_ms_before_the_end_prolongs_without_a_transition(run: Run) -> None:
    assert run(ONCE, [view(0), view(9_999)], until=60_000) == [ENTERED, (19_999, "u", "exited", "time")]


def test_user_leaves_the_universe_exactly_at_greatest_ts_plus_retention(run: Run) -> None:
    """A member by `not` enters when its window has passed and leaves all audiences at the end of retention."""
    assert run(NEVER, [view(0), view(1_000, ts=500)], until=99_000, retention="1m") == [
        (10_500, "u", "entered", "time"),
        (60_500, "u", "exited", "time"),
    ]


def test_user_with_a_trait_row_stays_in_the_universe(run: Run) -> None:
    traits = {"users": pa.table({"user_id": ["u"], "tier": ["gold"]})}
    assert run(NEVER, [view(1_000)], until=99_000, traits=traits, retention="1m") == [
        (1_000, "u", "entered", "definition"),
        (1_000, "u", "exited", "event"),
        (11_000, "u", "entered", "time"),
    ]


@pytest.mark.parametrize(("age_ms", "counts"), [(59_999, True), (60_000, False)])
def test_event_is_too_late_exactly_at_retention(run: Run, age_ms: int, counts: bool) -> None:
    """Seen by the universe: an accepted event makes a `not` member, a late one makes nobody."""
    assert bool(run(NEVER, [view(0, ts=-age_ms)], until=0, retention="1m")) is counts


@pytest.mark.parametrize(("gap_ms", "counts"), [(4_999, False), (5_000, True), (5_001, True)])
def test_message_id_counts_again_exactly_at_the_horizon(run: Run, gap_ms: int, counts: bool) -> None:
    rows = [view(0, message_id="x"), view(gap_ms, message_id="x")]
    entered = (gap_ms, "u", "entered", "event")
    assert (entered in run(TWICE, rows, until=gap_ms, dedup={"horizon": "5s"})) is counts


def test_duplicate_does_not_renew_the_horizon(run: Run) -> None:
    rows = [view(clock, message_id="x") for clock in (0, 4_000, 5_000)]
    found = run(TWICE, rows, until=5_000, dedup={"horizon": "5s"})
    assert found == [(5_000, "u", "entered", "event")]


def test_message_ids_of_other_users_and_sources_are_others(run: Run) -> None:
    rows = [view(0, message_id="x"), view(0, message_id="x", user_id="v"), view(0, message_id="x", source="web")]
    assert run(TWICE, rows, until=0) == [ENTERED]


def test_row_that_changed_nothing_does_not_register_its_message_id(run: Run) -> None:
    rows = [view(0, ts=-99_000, message_id="x"), view(0, message_id="x")]
    assert run(ONCE, rows, until=0, retention="1m") == [ENTERED]


def test_oldest_message_id_is_evicted_first(run: Run) -> None:
    rows = [view(at, message_id=name) for at, name in enumerate(["x", "y", "z", "y", "x"])]
    four = {"event": "m", "within": "10s", "at_least": 4}
    assert run(four, rows, until=4, dedup={"max_ids": 2}) == [(4, "u", "entered", "event")]


def test_clock_never_goes_back(run: Run) -> None:
    rows = [view(5_000), view(0, ts=99_000, user_id="v")]
    assert run(ONCE, rows, until=5_000) == [(5_000, "u", "entered", "event"), (5_000, "v", "entered", "event")]


def test_row_of_no_model_moves_the_clock(run: Run) -> None:
    rows = [view(0), view(10_000, event="other")]
    assert run(ONCE, rows, until=10_000)[-1] == (10_000, "u", "exited", "time")


def test_row_without_time_moves_nothing(run: Run) -> None:
    timeless = {"type": "track", "event": "view", "user_id": "u"}
    assert run(ONCE, [timeless], until=0) == []
    assert run(ONCE, [timeless, view(0), timeless], until=0) == [ENTERED]
    assert run(TWICE, [timeless, view(0), timeless], until=0) == []


def test_first_non_empty_foreign_key_wins(run: Run) -> None:
    rows = [view(0, user_id="", anonymous_id="x"), view(0, anonymous_id="y"), view(0, user_id=12.0)]
    assert [user for _, user, _, _ in run(ONCE, rows, until=0)] == ["12", "u", "x"]


def test_exactly_enters_and_leaves_as_the_count_passes(run: Run) -> None:
    exactly = {"event": "m", "within": "10s", "exactly": 1}
    assert run(exactly, [view(0), view(2_000)], until=60_000) == [
        ENTERED,
        (2_000, "u", "exited", "event"),
        (10_000, "u", "entered", "time"),
        (12_000, "u", "exited", "time"),
    ]


def test_missing_value_satisfies_only_negated_operators(run: Run) -> None:
    rows = [view(0, properties={"amount": "many"})]
    cases: list[tuple[dict[str, Any], bool]] = [
        ({"ne": 1}, True), ({"not_in": [1]}, True), ({"eq": 1}, False), ({"is_set": False}, True),
    ]  # fmt: skip
    for test, counts in cases:
        where = {**ONCE, "where": {"property": "amount", **test}}
        assert bool(run(where, rows, until=0)) is counts


def test_an_eviction_within_a_row_does_not_depend_on_the_cut() -> None:
    """A row of two users: its id is judged for both before it is kept for either."""
    common = {"parent": "users", "timestamp": "timestamp"}
    document = {
        "version": 1, "parent_models": [{"id": "users", "primary_key": "user_id"}], "audiences": [],
        "settings": {"dedup": {"max_ids": 2}}, "event_models": [
            {"id": "by_user", "foreign_key": "user_id", **common},
            {"id": "by_buyer", "event": "view", "foreign_key": ["properties.buyer", "user_id"], **common},
        ],
    }  # fmt: skip

    def row(name: str, user: str, clock: int, message: str | None = "m", **properties: str) -> dict[str, Any]:
        at = START_MS + clock
        found = {"type": "track", "event": name, "user_id": user, "received_at": at, "properties": properties}
        return found | ({"message_id": message} if message else {})

    rows = [
        row("order", "cid", 0, None), row("order", "ann", 0), row("order", "bob", 1),
        row("view", "ann", 2, buyer="cid"), row("order", "ann", 3),
    ]  # fmt: skip
    whole, cut = (engine.replay(document, rows, {}, cuts) for cuts in ((), (1,)))
    assert whole is not None
    assert cut is not None
    assert whole.outcomes == cut.outcomes

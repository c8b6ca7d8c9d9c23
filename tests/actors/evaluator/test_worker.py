"""The worker: one commit a group, recovery from the log alone, refusals that leave nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.evaluator import machine, worker
from actors.evaluator.membership_files import MembershipReader
from actors.evaluator.stimuli import (
    Lookup,
    MembersPage,
    Prepare,
    Publish,
    Status,
    Tick,
)
from actors.evaluator.stored import initial_members, with_since
from cluster.errors import StorageFull
from cluster.log import database
from tests.actors.evaluator.driving import START_MS, Evaluator
from tests.actors.evaluator.examples import HIDE_PROMO, document, event, published


@pytest.fixture
def evaluator(tmp_path: Path) -> Evaluator:
    return Evaluator(tmp_path, published())


def test_a_buyer_leaves_and_enters_at_once_and_the_files_show_it(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, ann=500.0)
    evaluator.clock.advance(1_000)
    evaluator.do(evaluator.batch(event("view", "ann")))
    reader = MembershipReader(evaluator.folder / "membership")
    assert reader.is_member("users", "ann", "eligible", evaluator.clock.now_ms()) is True
    evaluator.clock.advance(1_000)
    evaluator.do(evaluator.batch(event("order", "ann", channel="web")))
    assert reader.is_member("users", "ann", "eligible", evaluator.clock.now_ms()) is False
    assert reader.is_member("users", "ann", "hide_promo", evaluator.clock.now_ms()) is True
    assert evaluator.history()[-2:] == [
        ("eligible", "ann", "exited", 2_000, 0, "event"), ("hide_promo", "ann", "entered", 2_000, 0, "event"),
    ] or evaluator.history()[-2:] == [
        ("hide_promo", "ann", "entered", 2_000, 0, "event"), ("eligible", "ann", "exited", 2_000, 0, "event"),
    ]


def test_the_files_ask_from_the_exact_ms_of_the_due_time(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", channel="web")))
    reader = MembershipReader(evaluator.folder / "membership")
    assert reader.is_member("users", "ann", "hide_promo", START_MS + 4_999) is True
    assert reader.is_member("users", "ann", "hide_promo", START_MS + 5_000) is None
    evaluator.clock.advance(5_000)
    assert evaluator.members("ann")["hide_promo"] is False
    assert reader.is_member("users", "ann", "hide_promo", START_MS + 5_000) is False
    assert reader.is_member("users", "nobody", "hide_promo", START_MS + 5_000) is False
    assert reader.is_member("users", "ann", "no_such_audience", START_MS) is None


def test_a_reader_follows_growth_and_new_definitions(evaluator: Evaluator) -> None:
    reader = MembershipReader(evaluator.folder / "membership")
    users = [f"user_{i}" for i in range(3_000)]
    evaluator.do(evaluator.batch(*(event("order", user, channel="web") for user in users)))
    now = evaluator.clock.now_ms()
    assert all(reader.is_member("users", user, "hide_promo", now) for user in users)
    evaluator.publish(audiences=[{"id": "hide_promo", "parent": "users", "where": HIDE_PROMO}])
    assert reader.is_member("users", users[0], "hide_promo", now) is True
    assert reader.is_member("users", users[0], "quiet", now) is None
    assert reader.version == 2


def test_time_alone_makes_entries_and_exits_at_their_exact_ms(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, ann=500.0)
    evaluator.do(evaluator.batch(event("view", "ann"), event("order", "ann", channel="web")))
    evaluator.clock.advance(60_000)
    evaluator.do(Tick())
    timed = [row for row in evaluator.history() if row[5] == "time"]
    assert sorted(timed) == sorted([
        ("hide_promo", "ann", "exited", 5_000, 0, "time"), ("eligible", "ann", "entered", 5_000, 0, "time"),
        ("eligible", "ann", "exited", 30_000, 0, "time"),
    ])


def test_a_tick_that_changes_nothing_is_no_entry(evaluator: Evaluator) -> None:
    before = evaluator.worker.log.last_seq()
    evaluator.clock.advance(10)
    evaluator.do(Tick())
    assert evaluator.worker.log.last_seq() == before


def test_an_evaluator_killed_anywhere_comes_back_the_same(evaluator: Evaluator, tmp_path: Path) -> None:
    twin = Evaluator(tmp_path / "twin", published())
    for both in (evaluator, twin):
        both.take_traits(1, ann=500.0, ben=100.0)
    for step in range(12):
        for both in (evaluator, twin):
            both.clock.advance(1_700)
            both.do(both.batch(
                event("view", "ann", f"v{step}"), event("order", "ben", f"o{step // 2}", channel="web"),
                event("order", "ann", f"p{step}", channel="web" if step % 4 == 0 else "ios"),
            ))
        evaluator.reopen()
    assert evaluator.history() == twin.history()
    assert evaluator.ids() == twin.ids()
    assert len(set(evaluator.ids())) == len(evaluator.ids())
    for user in ("ann", "ben", "nobody"):
        assert evaluator.members(user) == twin.members(user)


@pytest.mark.parametrize("what", ["a batch that no model takes", "a pause"])
def test_whatever_is_logged_makes_what_is_due_by_then(evaluator: Evaluator, what: str) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", channel="web")))
    evaluator.clock.advance(6_000)
    if what == "a pause":
        paused = {"id": "hide_promo", "parent": "users", "where": HIDE_PROMO, "status": "paused"}
        others = [each for each in document()["audiences"] if each["id"] != "hide_promo"]
        assert "error" not in evaluator.publish(audiences=[paused, *others])
    else:
        evaluator.do(replace(evaluator.batch(event("no such event", "ann")), hits=b""))
    exited = ("hide_promo", "ann", "exited", 5_000, 0, "time")
    assert evaluator.history().count(exited) == 1, "no tick has to come first"
    evaluator.reopen()
    evaluator.do(Tick())
    assert evaluator.history().count(exited) == 1
    assert evaluator.members("ann")["hide_promo"] is False


def test_numbering_at_one_instant_goes_on_after_a_restart(evaluator: Evaluator) -> None:
    """Two entries at the same ms, one before and one after a kill, must not share an id."""
    evaluator.do(evaluator.batch(event("order", "ann", "a", channel="web"), event("order", "ann", "b", channel="web")))
    evaluator.do(evaluator.batch(event("view", "ann", "c")))
    evaluator.reopen()
    evaluator.publish(audiences=[{"id": "quiet", "parent": "users", "where": {"event": "view", "within": "1m"}}])
    quiet = [row for row in evaluator.history() if row[0] == "quiet"]
    assert [(row[2], row[4]) for row in quiet] == [("entered", 0), ("exited", 1), ("entered", 2)]
    assert len(set(evaluator.ids())) == len(evaluator.ids())


def test_numbering_goes_on_for_who_left_with_the_snapshot_of_this_instant(evaluator: Evaluator) -> None:
    """After the restart nothing that is retained names them, but the stored transitions."""
    rich = {"id": "quiet", "parent": "users", "where": {"trait": "ltv", "gt": 300}}
    evaluator.publish(audiences=[rich])
    evaluator.clock.advance(1_000)
    evaluator.take_traits(1, ann=500.0)
    evaluator.clock.advance(1_000)
    evaluator.take_traits(2, ben=500.0)
    evaluator.reopen()
    evaluator.take_traits(3, ann=500.0)
    ann = [row[2:5] for row in evaluator.history() if row[1] == "ann"]
    assert ann == [("entered", 1_000, 0), ("exited", 2_000, 0), ("entered", 2_000, 1)]
    assert len(set(evaluator.ids())) == len(evaluator.ids())


def test_duplicates_stay_duplicates_after_a_restart(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))
    evaluator.reopen()
    assert evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))[0]["outcomes"] == b"\x01"


def test_a_duplicate_stays_one_when_its_original_is_older_than_the_retention(tmp_path: Path) -> None:
    """The original no longer counts by itself at the restart, but it is why the second one does not either."""
    evaluator = Evaluator(tmp_path, published(
        audiences=[{"id": "quiet", "parent": "users", "where": {"event": "order", "within": "1h"}}],
    ))
    evaluator.do(evaluator.batch(event("order", "ann", "m1")))
    evaluator.clock.advance(540_000)
    assert evaluator.do(evaluator.batch(event("order", "ann", "m1")))[0]["outcomes"] == b"\x01"
    evaluator.clock.advance(3_300_000)
    evaluator.do(evaluator.batch(event("view", "ben")))
    asked = Lookup("users", ("ann",), ("quiet",), False)
    assert evaluator.do(asked)[0]["members"] == [[False]]
    evaluator.reopen()
    assert evaluator.do(asked)[0]["members"] == [[False]]


def test_what_was_committed_before_a_refused_publication_is_answered_as_done(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = evaluator.batch(event("order", "ann", channel="web"))
    without = published(evaluator.published, audiences=[])
    backfill = evaluator.prepare(without)
    assert backfill is not None
    backfill.build()
    commit, commits = evaluator.worker.log.commit, []

    def full_at_the_second(*values: Any) -> None:
        commits.append(values)
        if len(commits) == 2:
            message = "no room"
            raise StorageFull(message, retry_after_ms=5_000)
        commit(*values)

    monkeypatch.setattr(evaluator.worker.log, "commit", full_at_the_second)
    done, refused, asked = evaluator.do(
        batch, Publish(without), Lookup("users", ("ann",), ("hide_promo",), False)
    )
    assert done["outcomes"] == b"\x00"
    assert refused["error"] == "storage_full"
    assert asked["members"] == [[True]], "the definitions before are in force"
    assert [block.last_seq for block in evaluator.worker.fresh] == [evaluator.worker.log.last_transition_seq()]


def test_an_audience_published_later_is_backfilled(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(event("view", "ann"), event("unmodelled", "ben", channel="web")))
    evaluator.clock.advance(5_000)
    before = len(evaluator.history())
    evaluator.publish(
        event_models=[
            {"id": model, "parent": "users", "event": name, "foreign_key": "user_id", "timestamp": "timestamp"}
            for model, name in (("other", "unmodelled"), ("view", "view"))
        ],
        audiences=[
            {"id": "viewers", "parent": "users", "where": {"event": "view", "within": "10s"}},
            {"id": "others", "parent": "users", "where": {"event": "other", "within": "10s"}},
        ],
    )
    new = evaluator.history()[before:]
    assert ("viewers", "ann", "entered", 5_000, 0, "definition") in new
    assert ("others", "ben", "entered", 5_000, 0, "definition") in new, "events no model named are kept for this"
    evaluator.clock.advance(5_000)
    evaluator.do(Tick())
    assert ("viewers", "ann", "exited", 10_000, 0, "time") in evaluator.history()


def test_batches_of_the_same_groups_as_its_two_steps_are_in_the_backfill(evaluator: Evaluator) -> None:
    viewers = {"id": "viewers", "parent": "users", "where": {"event": "view", "within": "10s"}}
    new = published(evaluator.published, audiences=[viewers])
    first, last = evaluator.batch(event("view", "ann")), evaluator.batch(event("view", "ben"))
    evaluator.do(first, Prepare(new))
    assert evaluator.worker.backfill is not None
    evaluator.worker.backfill.build()
    evaluator.do(last, Publish(new))
    assert {("viewers", user, "entered", 0, 0, "definition") for user in ("ann", "ben")} <= set(evaluator.history())


def test_a_batch_decoded_under_old_definitions_is_sent_back(evaluator: Evaluator) -> None:
    old = evaluator.batch(event("order", "ann", channel="web"))
    evaluator.publish(audiences=[])
    seq = evaluator.worker.log.last_seq()
    reply = evaluator.do(old)[0]
    assert (reply["error"], reply["current_version"]) == ("stale", 2)
    assert evaluator.worker.log.last_seq() == seq


def test_a_commit_without_room_is_refused_and_leaves_nothing(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        message = "no room"
        raise StorageFull(message, retry_after_ms=5_000)

    with monkeypatch.context() as patch:
        patch.setattr(evaluator.worker.log, "commit", full)
        reply = evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))[0]
    assert (reply["error"], reply["retry_after_ms"]) == ("storage_full", 5_000)
    assert evaluator.members("ann")["hide_promo"] is False
    assert evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))[0]["outcomes"] == b"\x00"
    assert evaluator.members("ann")["hide_promo"] is True


def test_on_a_full_disk_events_are_refused_unevaluated_and_exits_by_time_go_on(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))
    monkeypatch.setattr(database, "DISK_FREE_BYTES_MIN", 1 << 60)
    machine = evaluator.worker.machine
    refused, asked = evaluator.do(
        evaluator.batch(event("order", "ben", "m2", channel="web")), Lookup("users", ("ann",), ("hide_promo",), False)
    )
    assert refused["error"] == "storage_full"
    assert asked["members"] == [[True]]
    evaluator.clock.advance(5_000)
    assert evaluator.members("ann")["hide_promo"] is False
    assert evaluator.history()[-1][:4] == ("hide_promo", "ann", "exited", 5_000)
    assert evaluator.worker.machine is machine, "nothing was rebuilt"
    evaluator.reopen()
    assert evaluator.members("ann")["hide_promo"] is False


def test_a_disk_that_takes_nothing_at_all_costs_one_recovery_not_one_a_tick_and_look_up(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator.do(evaluator.batch(event("order", "ann", "m1", channel="web")))
    recoveries: list[int] = []
    recover = worker.recover
    monkeypatch.setattr(worker, "recover", lambda *args, **named: recoveries.append(1) or recover(*args, **named))

    def full(*_: object, **__: object) -> None:
        message = "no room"
        raise StorageFull(message, retry_after_ms=5_000)

    evaluator.clock.advance(5_000)
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.worker.log, "commit", full)
        patch.setattr(evaluator.worker.log, "require_room", full)
        asked = Lookup("users", ("ann",), ("hide_promo",), False)
        for _ in range(3):
            evaluator.do(Tick())
            assert evaluator.do(asked)[0]["error"] == "storage_full", "she has left, but that cannot be said yet"
    assert len(recoveries) == 1
    assert evaluator.members("ann")["hide_promo"] is False
    assert evaluator.history()[-1][:4] == ("hide_promo", "ann", "exited", 5_000)


def test_trait_only_and_not_only_audiences_have_members_from_the_start(tmp_path: Path) -> None:
    evaluator = Evaluator(tmp_path, None)
    evaluator.publish(audiences=[
        {"id": "rich", "parent": "users", "where": {"trait": "ltv", "gt": 300}},
        {"id": "idle", "parent": "users", "where": {"not": {"event": "order", "within": "1m"}}},
    ])
    evaluator.take_traits(1, ann=500.0, ben=1.0)
    assert sorted(evaluator.history()) == [
        ("idle", "ann", "entered", 0, 0, "traits"), ("idle", "ben", "entered", 0, 0, "traits"),
        ("rich", "ann", "entered", 0, 0, "traits"),
    ]
    evaluator.clock.advance(10)
    evaluator.take_traits(2, ben=900.0)
    assert sorted(evaluator.history()[3:]) == [
        ("idle", "ann", "exited", 10, 0, "traits"), ("rich", "ann", "exited", 10, 0, "traits"),
        ("rich", "ben", "entered", 10, 0, "traits"),
    ]
    assert evaluator.take_traits(2, cid=900.0)["clock_ms"] == START_MS + 10, "the same version again changes nothing"


def test_detail_says_since_and_the_next_change(evaluator: Evaluator) -> None:
    evaluator.take_traits(1, ann=500.0)
    evaluator.clock.advance(1_000)
    evaluator.do(evaluator.batch(event("view", "ann"), event("order", "ann", channel="web")))
    evaluator.clock.advance(1_000)
    asked = Lookup("users", ("ann",), ("hide_promo", "eligible", "quiet"), True)
    reply = with_since(evaluator.worker.log, evaluator.do(asked)[0], asked.users, asked.audiences)
    assert reply["details"][0] == [
        {"since": START_MS + 1_000, "changes_at": START_MS + 6_000, "version": 1},
        {"since": None, "changes_at": START_MS + 6_000, "version": 1},
        {"since": START_MS, "changes_at": None, "version": 1},
    ]


def test_members_come_in_pages_and_initial_members_by_their_last_entry(evaluator: Evaluator) -> None:
    users = [f"user_{i}" for i in range(25)]
    evaluator.do(evaluator.batch(*(event("order", user, channel="web") for user in users)))
    pages, cursor = [], None
    while True:
        page = evaluator.do(MembersPage("hide_promo", cursor, 10))[0]
        pages.append(page["members"])
        cursor = page["cursor"]
        if cursor is None:
            break
    assert [len(page) for page in pages] == [10, 10, 5]
    assert sorted(user for page in pages for user in page) == sorted(users)
    initial = initial_members(evaluator.worker.log, "hide_promo")
    assert len(initial["seqs"]) == 25 * 8
    assert initial["seq"] == evaluator.worker.log.last_transition_seq()


def test_status_counts(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(
        event("order", "ann", "m1", channel="web"), event("order", "ann", "m1", channel="web"),
        event("order", "ben", "m2", timestamp=START_MS - 3_600_000),
    ))
    status = evaluator.do(Status())[0]
    assert status["events"] == {"accepted": 1, "duplicates": 1, "too_late": 1}
    assert status["audiences"]["hide_promo"] == {"size": 1, "version": 1}
    evaluator.reopen()
    again = evaluator.do(Status())[0]
    assert again["audiences"]["hide_promo"]["size"] == 1
    assert again["events"] == status["events"]


def test_state_of_lapsed_windows_is_freed(evaluator: Evaluator) -> None:
    evaluator.do(evaluator.batch(*(event("order", f"u{i}", channel="web") for i in range(500))))
    assert evaluator.worker.machine is not None
    assert evaluator.worker.machine.counters()["blocks"] == 500
    evaluator.clock.advance(3_600_001)
    evaluator.do(Tick())
    counters = evaluator.worker.machine.counters()
    assert (counters["blocks"], counters["timers"], counters["alive"]) == (0, 0, 0)


# --- a wave of due changes -------------------------------------------------------------------------------


def wave_history(evaluator: Evaluator, users: int, *, crash_after: int | None) -> list[tuple[Any, ...]]:
    """All enter at once and leave at once; some buy again while others wait. Reopened after so many groups."""
    names = [f"user{i:03}" for i in range(users)]
    evaluator.do(*(evaluator.batch(event("order", name, channel="web")) for name in names))
    evaluator.clock.advance(5_000)
    for group in range(40):
        evaluator.do(evaluator.batch(event("order", names[-1 - group], channel="web")) if group % 3 == 1 else Tick())
        assert group > 5 or crash_after is not None or evaluator.worker.behind
        if group == crash_after:
            evaluator.reopen()
    evaluator.clock.advance(60_000)
    for _ in range(200):
        evaluator.do(Tick())
    assert not evaluator.worker.behind
    return sorted(evaluator.history())


@pytest.mark.parametrize("crash_after", range(9))
def test_a_crash_in_the_middle_of_a_wave_loses_and_doubles_and_renames_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_after: int
) -> None:
    monkeypatch.setattr(worker, "WAVE_USERS", 7)
    monkeypatch.setattr(machine, "_TIMERS_AN_EVENT", 0)
    without = wave_history(Evaluator(tmp_path / "without", published()), 60, crash_after=None)
    crashed = Evaluator(tmp_path / "crashed", published())
    assert wave_history(crashed, 60, crash_after=crash_after) == without
    assert len(set(crashed.ids())) == len(crashed.ids()) == len(without)


def test_a_publication_and_a_snapshot_wait_for_the_end_of_a_wave(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAVE_USERS", 3)
    evaluator.do(*(evaluator.batch(event("order", f"user{i}", channel="web")) for i in range(20)))
    evaluator.clock.advance(5_000)
    evaluator.do(Tick())
    later = replace(evaluator.published, version=evaluator.published.version + 1)
    assert evaluator.worker.behind
    assert evaluator.do(Publish(later))[0]["error"] == "not_ready"
    assert evaluator.take_traits(1, user3=500.0)["error"] == "not_ready"
    assert evaluator.worker.behind
    while evaluator.worker.behind:
        evaluator.do(Tick())
    assert "error" not in evaluator.take_traits(1, user3=500.0)
    assert "error" not in evaluator.do(Publish(later))[0]
    assert evaluator.worker.version == later.version


def test_a_look_up_in_the_middle_of_a_wave_is_right_and_durable(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "WAVE_USERS", 3)
    names = [f"user{i}" for i in range(20)]
    evaluator.do(*(evaluator.batch(event("order", name, channel="web")) for name in names))
    evaluator.clock.advance(5_000)
    (reply,) = evaluator.do(Lookup("users", tuple(names), ("hide_promo",), False))
    assert reply["members"] == [[False]] * 20
    exits = [row for row in evaluator.history() if row[0] == "hide_promo" and row[2] == "exited"]
    assert [(row[3], row[5]) for row in exits] == [(5_000, "time")] * 20


def test_what_was_due_is_made_before_definitions_that_evaluate_alike_come_into_force(tmp_path: Path) -> None:
    evaluator = Evaluator(tmp_path, published())
    evaluator.do(evaluator.batch(event("order", "u1", "m1", channel="web")))
    evaluator.clock.advance(6_000)
    # No tick came in between: the entry's clock is beyond the exit, and a recovery goes by the entry.
    evaluator.publish(sources=[{"id": "web", "kind": "http", "write_key": "another"}])
    evaluator.reopen()
    exits = [row for row in evaluator.history() if row[:3] == ("hide_promo", "u1", "exited")]
    assert exits == [("hide_promo", "u1", "exited", 5_000, 0, "time")]

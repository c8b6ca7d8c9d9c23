"""The main job on real processes, and kill -9 of each of them. The tests share one Usher and run in this order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from segment.analytics.client import Client as SegmentClient

from tests.live.usher import (
    WRITE_KEY,
    Receiver,
    Usher,
    assert_nothing_sent_twice_under_another_id,
    came_and_went,
    eventually,
    kinds,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]


@contextmanager
def stream(usher: Usher, prefix: str) -> Iterator[list[str]]:
    """Send orders of ever new users in the background, each until it is taken; gives the users so far."""
    users: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            user = f"{prefix}-{len(users)}"
            usher.track_surely(user, "order_completed", f"m-{user}", channel="web")
            users.append(user)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield users
    finally:
        stop.set()
        sender.join()


def test_an_event_makes_a_member_at_once_and_a_webhook_soon(usher: Usher, receiver: Receiver) -> None:
    eventually("the traits are taken", lambda: all(
        row["version"] is not None and not row["waiting_for"] for row in usher.status()["traits"]
    ))  # fmt: skip
    assert usher.is_member("hide_promo", "ada") is False
    assert usher.track("ada", "order_completed", "m-ada", channel="web") == 200
    assert usher.is_member("hide_promo", "ada") is True
    eventually("the entry is sent", lambda: kinds(receiver, "ada", "hide_promo")[:1] == ["entered"])
    [entry] = [change for change in receiver.changes("ada") if change["kind"] == "entered"]
    assert entry["identifiers"] == {"user_id": "ada"}
    assert entry["cause"] == "event"


def test_a_filter_and_a_trait_decide_who_is_in(usher: Usher) -> None:
    for user in ("rich-0", "poor-0", "unknown-0"):
        assert usher.track(user, "order_completed", f"m-{user}", channel="app") == 200
    assert [usher.is_member("hide_promo", user) for user in ("rich-0", "poor-0")] == [False, False]
    found = [usher.is_member("rich_buyers", user) for user in ("rich-0", "poor-0", "unknown-0")]
    assert found == [True, False, False]


def test_a_lapsed_window_reads_as_left_and_its_exit_is_sent(usher: Usher, receiver: Receiver) -> None:
    assert usher.track("eve", "order_completed", "m-eve", channel="web") == 200
    assert usher.is_member("hide_promo", "eve") is True
    eventually("the window lapses", lambda: usher.is_member("hide_promo", "eve") is False)
    came_and_went(receiver, "eve")
    changes = [change for change in receiver.changes("eve") if change["audience_id"] == "hide_promo"]
    by_kind = {change["kind"]: change for change in changes}
    assert by_kind["exited"]["cause"] == "time"


def test_a_repeated_message_id_changes_nothing(usher: Usher) -> None:
    before = usher.status()["events"]["duplicates"]
    for _ in range(3):
        assert usher.track("dup", "order_completed", "m-dup", channel="web") == 200
    assert usher.status()["events"]["duplicates"] == before + 2


def test_status_names_every_process_and_what_it_does(usher: Usher) -> None:
    status = usher.status()
    kinds_found = sorted(row["kind"] for row in status["actors"])
    assert kinds_found == ["controller", "delivery", "edge", "edge", "evaluator", "traits"]
    pids = [row["pid"] for row in status["actors"]]
    assert len(set(pids)) == len(pids)
    audiences = {row["id"]: row["status"] for row in status["audiences"]}
    assert audiences == {"hide_promo": "live", "rich_buyers": "live", "rich_pros": "live"}
    assert {row["id"] for row in status["syncs"]} == {"hide_promo_hook", "rich_buyers_hook"}
    assert set(status["events"]) >= {"accepted", "duplicates", "rejected", "too_late", "lag_ms"}
    assert status["url"] == usher.url


def killed_in_mid_stream(
    usher: Usher, receiver: Receiver, name: str, prefix: str, after_kill: Callable[[], None] = lambda: None
) -> None:
    with stream(usher, prefix) as users:
        eventually("events flow", lambda: len(users) >= 20)
        pid = usher.kill(name)
        after_kill()
        count = len(users)
        eventually("events flow again", lambda: len(users) >= count + 20)
    assert usher.pid(name) != pid
    for user in users:
        came_and_went(receiver, user)
    assert_nothing_sent_twice_under_another_id(receiver)


def test_a_trait_that_an_identify_call_says_outlives_its_evaluator(usher: Usher) -> None:
    client = SegmentClient(WRITE_KEY, host=usher.url)
    for user in ("rich-20", "rich-21", "poor-0"):
        client.identify(user, {"plan": "pro"})
    client.identify("rich-21", {"plan": "free"})
    client.flush()
    client.join()

    def pros() -> list[bool | None]:
        return [usher.is_member("rich_pros", user) for user in ("rich-20", "rich-21", "poor-0")]

    eventually("the calls are taken", lambda: pros() == [True, False, False])
    pid = usher.kill("evaluator-0")
    eventually("it is back", lambda: usher.pid("evaluator-0") != pid)
    eventually("it says the same", lambda: pros() == [True, False, False])


def test_a_killed_evaluator_loses_nothing_and_repeats_nothing(usher: Usher, receiver: Receiver) -> None:
    assert usher.is_member("rich_buyers", "rich-0") is True
    accepted = usher.status()["events"]
    killed_in_mid_stream(usher, receiver, "evaluator-0", "ev")
    assert usher.is_member("rich_buyers", "rich-0") is True
    assert usher.is_member("rich_buyers", "poor-0") is False
    assert kinds(receiver, "rich-0", "rich_buyers") == ["entered"]
    assert accepted["accepted"] > 0


def test_a_killed_evaluator_comes_back_from_its_checkpoint(usher: Usher, receiver: Receiver) -> None:
    for user in ("rich-8", "rich-9", "poor-0"):
        usher.track_surely(user, "order_completed", f"m-ck-{user}", channel="app")
    written = usher.checkpoints()["written"]
    eventually("it is checkpointed", lambda: usher.checkpoints()["written"] > written)
    usher.track_surely("rich-7", "order_completed", "m-ck-rich-7", channel="app")
    pid = usher.kill("evaluator-0")
    eventually("it is back", lambda: usher.pid("evaluator-0") != pid)
    recovered = usher.checkpoints()["recovered"]
    assert recovered["from"].startswith("checkpoint "), recovered
    assert recovered["passed_over"] == []
    found = [usher.is_member("rich_buyers", user) for user in ("rich-7", "rich-8", "rich-9", "poor-0")]
    assert found == [True, True, True, False]
    metrics = usher.request("GET", "/metrics")[1]
    assert 'usher_checkpoints_total{evaluator="evaluator-0",outcome="passed_over"} 0.0' in metrics
    killed_in_mid_stream(usher, receiver, "evaluator-0", "ck")


def test_a_killed_delivery_sends_everything_under_the_same_ids(usher: Usher, receiver: Receiver) -> None:
    killed_in_mid_stream(usher, receiver, "delivery", "de")


def test_a_killed_front_edge_comes_back_on_the_same_port(usher: Usher, receiver: Receiver) -> None:
    killed_in_mid_stream(usher, receiver, "edge-front", "ed")


def test_a_killed_ingest_edge_costs_no_event(usher: Usher, receiver: Receiver) -> None:
    killed_in_mid_stream(usher, receiver, "edge-ingest-0", "in")


def test_a_killed_controller_comes_back_with_definitions_and_keys(usher: Usher) -> None:
    before = usher.status()
    pid = usher.kill("controller")
    eventually("the controller is back", lambda: usher.pid("controller") != pid)
    assert usher.is_member("rich_buyers", "rich-0") is True
    after = usher.status()
    assert after["version"] == before["version"]
    assert after["audiences"] == before["audiences"]


def test_an_audience_comes_and_goes_while_events_flow(usher: Usher, receiver: Receiver) -> None:
    path = "/api/v1/audiences/buyers"
    with stream(usher, "pb") as users:
        eventually("events flow", lambda: len(users) >= 20)
        where = {"event": "order_completed", "within": "1h"}
        assert usher.request("PUT", path, {"parent": "users", "where": where})[0] == 201
        status = {row["id"]: row["status"] for row in usher.status()["audiences"]}
        assert status["buyers"] == "live"
        count = len(users)
        eventually("events flow on", lambda: len(users) >= count + 20)
    for user in users:
        came_and_went(receiver, user)
        assert usher.is_member("buyers", user) is True
    assert usher.request("DELETE", path)[0] == 200
    assert usher.is_member("buyers", users[0]) is None
    assert_nothing_sent_twice_under_another_id(receiver)


def test_the_segment_sdk_sends_to_usher(usher: Usher, receiver: Receiver) -> None:
    errors: list[object] = []
    client = SegmentClient(WRITE_KEY, host=usher.url, on_error=lambda error, items: errors.append(error))
    for number in range(120):
        client.track(f"sdk-{number}", "order_completed", {"channel": "web"})
    client.flush()
    client.join()
    assert errors == []
    for number in (0, 119):
        came_and_went(receiver, f"sdk-{number}")

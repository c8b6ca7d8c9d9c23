"""Both clients against a real edge: what goes over the wire, what comes back typed, what is raised."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster import event
from cluster.client import (
    BadRequest,
    Client,
    Forbidden,
    InvalidDefinitions,
    NotFound,
    ServerUnavailable,
    TooBusy,
    Unauthorized,
    UsherApiError,
)
from cluster.client.models import Membership
from cluster.errors import DefinitionError, InputError
from cluster.runtime.protocols import LogQuery
from tests.cluster.client.hosting import Awaited, hosted
from tests.cluster.edge.serving import Site, track
from tests.conftest import START_MS

Connect = Callable[..., Any]


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    """One edge for all tests that leave it as it was."""
    with hosted() as here:
        here.reader.members = {"buyers": {"ann", "bo/b é", ".."}}
        here.evaluators[0].members = {"buyers": [f"user_{number}" for number in range(25)]}
        yield here


@pytest.fixture(params=[Client, Awaited.client], ids=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    kind: Connect = request.param
    return lambda here, role="admin", **more: kind(here.url, here.controller.api_keys[role], **more)


# --- membership ------------------------------------------------------------------------------------


def test_is_member(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher:
        assert usher.is_member("buyers", "ann") is True
        assert usher.is_member("buyers", "nobody") is False


@pytest.mark.parametrize("user", ["bo/b é", ".."])
def test_any_text_is_one_user_in_the_path(shared: Site, connect: Connect, user: str) -> None:
    with connect(shared, "read") as usher:
        assert usher.is_member("buyers", user) is True


def test_detail_says_since_when_and_until_when(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher:
        found = usher.membership("buyers", "user_3")
    assert found == Membership(
        is_member=True, as_of=START_MS, since=START_MS - 5, changes_at=START_MS + 9, version=1
    )


def test_many_pairs_in_one_call(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher:
        found = usher.memberships(["ann", "nobody"], ["buyers"])
    assert found == {"ann": {"buyers": True}, "nobody": {"buyers": False}}


def test_all_audiences_of_a_user(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher:
        assert usher.user_memberships("ann") == ["buyers"]


@pytest.mark.parametrize("page_size", [7, 25, 1000])
def test_members_come_from_every_page(shared: Site, connect: Connect, page_size: int) -> None:
    with connect(shared, "read") as usher:
        assert list(usher.members("buyers", page_size=page_size)) == [f"user_{number}" for number in range(25)]


# --- events ----------------------------------------------------------------------------------------


def test_sent_events_are_counted(connect: Connect) -> None:
    with hosted() as here, connect(here, "ingest") as usher:
        sent = usher.events.send([track("u1", "m1"), track("u1", "m1"), {"type": "nonsense"}])
        assert (sent.accepted, sent.duplicates) == (1, 1)
        assert [(row.index, row.reason) for row in sent.rejected] == [(2, "no_model")]


def test_track_sends_one_event_with_a_message_id_of_its_own(connect: Connect) -> None:
    with hosted() as here, connect(here, "ingest") as usher:
        usher.events.track("u1", "bought", {"channel": "web"})
        assert usher.events.track("u1", "bought", message_id="mine").accepted == 1
        first, second = (json.loads(raw) for raw in here.evaluators[0].raw)
    assert first["properties"] == {"channel": "web"}
    assert len(first["message_id"]) == 36
    assert second["message_id"] == "mine"


# --- definitions -----------------------------------------------------------------------------------


def test_publishing_from_python_publishes_what_was_built(connect: Connect) -> None:
    where = event("track").within("10m").where(channel="web")
    with hosted() as here, connect(here, "edit") as usher:
        applied = usher.audiences.publish("web_buyers", name="Web", parent="users", where=where)
        assert applied.version == 2
        stored = usher.audiences.get("web_buyers")
    assert stored["where"] == where.to_dict()
    assert (stored["name"], stored["status"]) == ("Web", "published")


def test_objects_are_put_listed_and_deleted(connect: Connect) -> None:
    model = {"id": "orders", "parent": "users", "event": "order", "foreign_key": "user_id"}
    with hosted() as here, connect(here) as usher:
        usher.event_models.put(model)
        assert usher.event_models.get("orders") == model
        usher.event_models.delete("orders")
        assert "orders" not in [row["id"] for row in usher.event_models.list()]


def test_archiving_keeps_the_audience_and_sets_its_status(connect: Connect) -> None:
    with hosted() as here, connect(here) as usher:
        usher.syncs.delete("push")
        usher.audiences.archive("buyers")
        assert usher.audiences.get("buyers")["status"] == "archived"


def test_apply_takes_files_and_this_environment(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "more.yaml"
    file.write_text('version: 1\nsources: [{id: app, kind: http, write_key: "${APP_KEY}"}]\n')
    with hosted() as here, connect(here) as usher:
        with pytest.raises(DefinitionError, match="APP_KEY is not set"):
            usher.apply(file)
        monkeypatch.setenv("APP_KEY", "wk_app")
        assert usher.plan(file).version == 2
        assert usher.apply(file).version == 2
        published = here.controller.state.published
    assert published is not None
    assert published.definitions.sources["app"].write_key == "wk_app"


def test_conditions_inside_a_document_are_written_out(connect: Connect) -> None:
    audience = {"id": "fresh", "parent": "users", "where": event("track").within("1m")}
    with hosted() as here, connect(here) as usher:
        usher.apply({"version": 1, "audiences": [audience]})
        assert usher.audiences.get("fresh")["where"] == {"event": "track", "within": "1m"}


def test_a_refused_document_raises_every_fault(shared: Site, connect: Connect) -> None:
    with connect(shared) as usher, pytest.raises(InvalidDefinitions) as caught:
        usher.apply({"version": 1, "audiences": [{"id": "x", "parent": "nobody", "where": {"trait": "y", "gt": 1}}]})
    [fault] = [fault for fault in caught.value.faults if fault.path.endswith("parent")]
    assert "nobody" in fault.message
    assert "users" in fault.allowed
    assert fault.message in str(caught.value)
    assert caught.value.problem["status"] == caught.value.status == 422


# --- keys, syncs, status ---------------------------------------------------------------------------


def test_a_key_is_given_once_and_shown_by_no_repr(connect: Connect) -> None:
    with hosted() as here, connect(here) as usher:
        made = usher.keys.create("read", "shop")
        assert made.key is not None
        assert made.key.startswith("ush_")
        assert made.key not in repr(made)
        assert "shop" in [key.name for key in usher.keys.list()]
        assert all(key.key is None for key in usher.keys.list())
        usher.keys.revoke(made.id)
        with pytest.raises(NotFound):
            usher.keys.revoke(made.id)


def test_sync_log_and_retry_ask_for_what_was_said(connect: Connect) -> None:
    with hosted() as here, connect(here) as usher:
        assert usher.sync_log("push", failed=True, after=4, limit=5).next == 4
        at = datetime(2026, 11, 23, 10, tzinfo=UTC)
        of_whom = {"user": "Zoë & co", "outcomes": ["dead", "dropped"], "kinds": ["token", "list"]}
        usher.sync_log("push", **of_whom, since=at, until=1_800_000_000_000, detail=True)
        assert usher.retry("push").retried == 0
        usher.pause("push")
        usher.resume("push")
        assert usher.resync("push").resyncing == "push"
        assert usher.dead_letters("push", limit=3) == []
        between = {"since_ms": 1_795_428_000_000, "until_ms": 1_800_000_000_000}
        of_whom = {"user": "Zoë & co", "outcomes": ("dead", "dropped"), "kinds": ("token", "list")}
        everything = LogQuery(**of_whom, **between, detail=True)
        assert here.delivery.asked == [("log", "push", LogQuery(failed=True, after=4, limit=5)),
                                       ("log", "push", everything), ("retry", "push"), ("suspend", "push", True),
                                       ("suspend", "push", False), ("resync", "push"), ("dead_letters", "push", 3)]


def test_a_destination_is_tried_out_on_one_user(connect: Connect) -> None:
    with hosted() as here, connect(here) as usher:
        assert usher.test_destination("hook", "ann")["delivered"] is None
        assert usher.test_destination("hook", "ann", sync="push", exit_=True, send=True)["delivered"] is True
        assert here.delivery.asked == [
            ("test", "hook", "", "ann", "add", False), ("test", "hook", "push", "ann", "remove", True),
        ]  # fmt: skip


def test_a_refresh_of_traits_reaches_the_loader(connect: Connect) -> None:
    with hosted() as here, connect(here) as usher:
        usher.refresh_traits("users")
        assert here.traits.asked == ["users"]


def test_status_is_typed_and_keeps_the_whole_report(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher:
        found = usher.status()
    assert found.url == "http://here"
    assert found.document == {"url": "http://here", "actors": [], "audiences": []}


# --- errors ----------------------------------------------------------------------------------------


def test_an_unknown_audience_is_not_found(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher, pytest.raises(NotFound) as caught:
        usher.is_member("nothing", "ann")
    assert caught.value.code == "not_found"
    assert caught.value.request == "GET /api/v1/audiences/nothing/memberships/ann"


def test_a_role_that_is_too_low_is_forbidden(shared: Site, connect: Connect) -> None:
    with connect(shared, "ingest") as usher, pytest.raises(Forbidden, match="role read"):
        usher.is_member("buyers", "ann")


@pytest.mark.parametrize("kind", [Client, Awaited.client])
@pytest.mark.parametrize("key", ["", "ush_wrong"])
def test_no_key_or_a_wrong_one_is_unauthorized(shared: Site, kind: Any, key: str) -> None:
    with kind(shared.url, key) as usher, pytest.raises(Unauthorized, match="USHER_API_KEY"):
        usher.status()


def test_too_many_pairs_is_a_bad_request(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher, pytest.raises(BadRequest, match="10,000"):
        usher.memberships([str(number) for number in range(10_001)], ["buyers"])


def test_overload_says_when_to_come_back(connect: Connect) -> None:
    refusal = {"error": "overloaded", "message": "Full.", "retry_after_ms": 7_000}
    with hosted() as here, connect(here, "ingest") as usher:
        here.evaluators[0].refusals = [refusal]
        with pytest.raises(TooBusy) as caught:
            usher.events.send([track("u1", "m1")])
        assert caught.value.retry_after_s == 7.0
        assert usher.events.send([track("u1", "m1")]).accepted == 1


@pytest.mark.parametrize("kind", [Client, Awaited.client])
def test_no_server_is_unavailable_and_says_how_to_start_one(kind: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with kind(url, "key") as usher, pytest.raises(ServerUnavailable, match="usher up"):
        usher.status()


def test_every_error_is_one_kind_of_usher_error(shared: Site, connect: Connect) -> None:
    with connect(shared, "read") as usher, pytest.raises(UsherApiError):
        usher.audiences.delete("buyers")


# --- construction ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Client, Awaited.client])
def test_url_and_key_come_from_the_environment_when_made(
    shared: Site, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USHER_URL", shared.url + "/")
    monkeypatch.setenv("USHER_API_KEY", shared.controller.api_keys["read"])
    with kind() as usher:
        assert usher.is_member("buyers", "ann") is True
        assert shared.controller.api_keys["read"] not in repr(usher)


@pytest.mark.parametrize("kind", [Client, Awaited.client])
@pytest.mark.parametrize("url", ["localhost:8080", "ftp://host", "http://", "http://host?x=1"])
def test_what_is_no_server_url_is_refused(kind: Any, url: str) -> None:
    with pytest.raises(InputError, match="allowed"):
        kind(url, "key")


@pytest.mark.parametrize("kind", [Client, Awaited.client])
def test_a_key_with_a_line_break_is_refused_and_not_shown(kind: Any) -> None:
    with pytest.raises(InputError) as caught:
        kind("http://127.0.0.1:1", "ush_secret\nX: y")
    assert "ush_secret" not in str(caught.value)


def test_the_sync_client_serves_many_threads(shared: Site) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Client(shared.url, shared.controller.api_keys["read"]) as usher, ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: usher.is_member("buyers", "ann" if number % 2 else "no"), range(64)))
    assert found == [bool(number % 2) for number in range(64)]

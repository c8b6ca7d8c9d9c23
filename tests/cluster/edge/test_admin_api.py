"""Administration: who may do what, documents in and out, keys, syncs, and what operators look at."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster.edge.documents import HIDDEN
from cluster.runtime.protocols import LogQuery, Role
from tests.cluster.edge.serving import DOCUMENT, SECRET, WRITE_KEY, Site, at_site

AUDIENCE = {"parent": "users", "where": {"event": "page", "within": "1h"}}
SYNC = {"audience": "buyers", "destination": "hook", "identifiers": {"user_id": "user_id"}}

#: method, path, body, and the least role that may.
MATRIX: list[tuple[str, str, Any, Role]] = [
    ("GET", "/api/v1/status", None, "read"),
    ("GET", "/api/v1/users/u1/memberships", None, "read"),
    ("GET", "/api/v1/audiences/buyers/members", None, "read"),
    ("POST", "/api/v1/memberships", {"users": [], "audiences": []}, "read"),
    ("GET", "/api/v1/audiences", None, "edit"),
    ("GET", "/api/v1/audiences/buyers", None, "edit"),
    ("PUT", "/api/v1/audiences/new", AUDIENCE, "edit"),
    ("DELETE", "/api/v1/audiences/sketch", None, "edit"),
    ("POST", "/api/v1/audiences/sketch/publish", None, "edit"),
    ("PUT", "/api/v1/syncs/new", SYNC, "edit"),
    ("GET", "/api/v1/syncs/push/log", None, "edit"),
    ("GET", "/api/v1/syncs/push/dead-letters", None, "edit"),
    ("POST", "/api/v1/syncs/push/retry", None, "edit"),
    ("POST", "/api/v1/syncs/push/pause", None, "edit"),
    ("POST", "/api/v1/syncs/push/resume", None, "edit"),
    ("POST", "/api/v1/syncs/push/resync", None, "edit"),
    ("POST", "/api/v1/parent_models/users/refresh", None, "edit"),
    ("POST", "/api/v1/plan", DOCUMENT, "edit"),
    ("POST", "/api/v1/apply", {"version": 1, "audiences": [{"id": "new", **AUDIENCE}]}, "edit"),
    ("GET", "/api/v1/event_models", None, "edit"),
    ("PUT", "/api/v1/parent_models/new", {"primary_key": "id"}, "admin"),
    ("GET", "/api/v1/sources", None, "admin"),
    ("GET", "/api/v1/destinations/hook", None, "admin"),
    ("PUT", "/api/v1/destinations/new", {"kind": "webhook", "url": "https://example.com/"}, "admin"),
    ("POST", "/api/v1/apply", DOCUMENT, "admin"),
    ("POST", "/api/v1/apply?mode=replace", {"version": 1}, "admin"),
    ("GET", "/api/v1/keys", None, "admin"),
    ("POST", "/api/v1/keys", {"role": "read", "name": "n"}, "admin"),
    ("DELETE", "/api/v1/keys/id-read", None, "admin"),
]
ENOUGH: dict[Role, set[Role]] = {
    "read": {"read", "edit", "admin"}, "edit": {"edit", "admin"}, "admin": {"admin"},
}  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "least"), MATRIX, ids=lambda value: str(value)[:40])
def test_each_path_takes_its_role(method: str, path: str, body: Any, least: Role) -> None:
    async def check(site: Site) -> None:
        assert (await site.call(method, path, None, json=body))[0] == 401
        source = {"Authorization": f"Bearer {WRITE_KEY}"}
        assert (await site.call(method, path, None, json=body, headers=source))[0] == 403
        roles: tuple[Role, ...] = ("ingest", "read", "edit", "admin")
        for role in roles:
            status, answer, _ = await site.call(method, path, role, json=body)
            if role not in ENOUGH[least]:
                assert (status, answer["code"]) == (403, "forbidden"), role
            else:
                assert status in (200, 201), answer
                break

    at_site(check)


def test_a_put_audience_can_be_read_and_looked_up_at_once() -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await site.call("PUT", "/api/v1/audiences/viewers", "edit", json=AUDIENCE)
        assert (status, answer["version"]) == (201, 2)
        _, found, _ = await site.call("GET", "/api/v1/audiences/viewers", "edit")
        assert found == {"id": "viewers", "status": "published", **AUDIENCE}
        _, membership, _ = await site.call("GET", "/api/v1/audiences/viewers/memberships/u1", "read")
        assert membership == {"isMember": False}
        assert (await site.call("PUT", "/api/v1/audiences/viewers", "edit", json=AUDIENCE))[0] == 200

    at_site(check)


def test_a_deleted_audience_is_gone_and_nothing_else_is() -> None:
    async def check(site: Site) -> None:
        assert (await site.call("DELETE", "/api/v1/audiences/sketch", "edit"))[0] == 200
        assert (await site.call("GET", "/api/v1/audiences/sketch", "edit"))[0] == 404
        assert (await site.call("DELETE", "/api/v1/audiences/sketch", "edit"))[0] == 404
        _, left, _ = await site.call("GET", "/api/v1/audiences", "edit")
        assert [row["id"] for row in left["audiences"]] == ["buyers"]
        status, problem, _ = await site.call("DELETE", "/api/v1/audiences/buyers", "edit")
        assert status == 422, "a sync names it"
        assert any("syncs" in row["path"] for row in problem["errors"])

    at_site(check)


def test_publishing_a_draft_makes_it_readable() -> None:
    async def check(site: Site) -> None:
        path = "/api/v1/audiences/sketch/memberships/u1"
        assert (await site.call("GET", path, "read"))[0] == 404
        assert (await site.call("POST", "/api/v1/audiences/sketch/publish", "edit"))[0] == 200
        assert (await site.call("GET", path, "read"))[0] == 200

    at_site(check)


def test_secrets_are_hidden_and_survive_being_sent_back() -> None:
    async def check(site: Site) -> None:
        _, source, _ = await site.call("GET", "/api/v1/sources/web")
        _, hook, _ = await site.call("GET", "/api/v1/destinations/hook")
        assert (source["write_key"], hook["secret"]) == (HIDDEN, HIDDEN)
        assert (await site.call("PUT", "/api/v1/destinations/hook", json={**hook, "name": "Hook"}))[0] == 200
        published = site.controller.state.published
        assert published is not None
        stored = published.definitions.document["destinations"][0]
        assert (stored["secret"], stored["name"]) == (SECRET, "Hook")
        status, problem, _ = await site.call("PUT", "/api/v1/sources/fresh", json={"kind": "http", "write_key": HIDDEN})
        assert (status, problem["errors"][0]["path"]) == (422, "write_key")

    at_site(check)


def test_no_answer_shows_a_secret() -> None:
    async def check(site: Site) -> None:
        for path in ("/api/v1/sources", "/api/v1/destinations", "/api/v1/keys", "/api/v1/status", "/metrics"):
            _, answer, _ = await site.call("GET", path)
            text = json.dumps(answer)
            assert SECRET not in text
            assert WRITE_KEY not in text
            assert not any(key in text for key in site.controller.api_keys.values())

    at_site(check)


def test_faults_of_a_document_come_all_at_once_with_their_paths() -> None:
    async def check(site: Site) -> None:
        audiences = [
            {"id": "a", "parent": "users", "where": {"event": "nothing", "within": "5m"}},
            {"id": "b", "parent": "users", "where": {"event": "track", "within": "5m", "wher": {}}},
        ]
        for path in ("/api/v1/apply", "/api/v1/plan"):
            status, problem, headers = await site.call("POST", path, json={"version": 1, "audiences": audiences})
            assert (status, problem["code"]) == (422, "invalid")
            assert headers["Content-Type"].startswith("application/problem+json")
            assert len(problem["errors"]) >= 2
            assert all(row["path"] and row["message"] for row in problem["errors"])
        assert site.controller.state.revision == 1, "nothing was changed"

    at_site(check)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        ("version: 1\naudiences: [{id: y, parent: users, where: {event: page, within: 1h}}]", "application/yaml", 200),
        ('{"version": 1}', "application/json; charset=utf-8", 200),
        ('{"version": 1}', "", 200),
        ("version: [", "application/yaml", 400),
        ("{", "application/json", 400),
        ("[]", "application/json", 422),
        ("<a/>", "application/xml", 415),
        ('{"version": 1, "sources": [{"id": "s", "kind": "http", "write_key": "${KEY}"}]}', "application/json", 422),
    ],
)
def test_documents_are_json_or_yaml(body: str, content_type: str, status: int) -> None:
    async def check(site: Site) -> None:
        headers = {"Content-Type": content_type} if content_type else {}
        skip = [] if content_type else ["Content-Type"]
        found, answer, _ = await site.call(
            "POST", "/api/v1/apply", data=body.encode(), headers=headers, skip_auto_headers=skip
        )
        assert found == status, answer

    at_site(check)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/api/v1/audiences/a", {"id": "b", **AUDIENCE}, 422),
        ("GET", "/api/v1/syncs/none/log", None, 404),
        ("GET", "/api/v1/syncs/push/log?limit=0", None, 400),
        ("GET", "/api/v1/syncs/push/log?failed=maybe", None, 400),
        ("POST", "/api/v1/apply?mode=both", {}, 400),
        ("POST", "/api/v1/keys", {"role": "owner"}, 422),
        ("POST", "/api/v1/keys", [], 422),
        ("DELETE", "/api/v1/keys/none", None, 404),
        ("DELETE", "/api/v1/keys/id-admin", None, 409),
        ("GET", "/api/v1/nothing", None, 404),
        ("PATCH", "/api/v1/audiences/buyers", {}, 405),
        ("POST", "/api/v1/status", {}, 405),
    ],
)
def test_wrong_requests_are_problems(method: str, path: str, body: Any, status: int) -> None:
    async def check(site: Site) -> None:
        found, problem, headers = await site.call(method, path, json=body)
        assert (found, problem["status"]) == (status, status)
        assert headers["Content-Type"].startswith("application/problem+json")
        assert {"type", "title", "status", "detail"} <= problem.keys()
        assert ("Allow" in headers) == (status == 405)

    at_site(check)


def test_a_zipped_document_is_415() -> None:
    async def check(site: Site) -> None:
        found = await site.call("POST", "/api/v1/apply", data=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
        assert found[0] == 415

    at_site(check)


def test_during_a_publication_a_deletion_waits() -> None:
    async def check(site: Site) -> None:
        await site.controller.change(preparing=("buyers",))
        status, problem, headers = await site.call("DELETE", "/api/v1/audiences/sketch")
        assert (status, "Retry-After" in headers) == (503, True)
        assert "buyers" in problem["detail"]

    at_site(check)


def test_a_new_key_works_at_once_and_is_listed_without_itself() -> None:
    async def check(site: Site) -> None:
        status, made, _ = await site.call("POST", "/api/v1/keys", json={"role": "read", "name": "shop"})
        assert status == 201
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert (await site.call("GET", "/api/v1/status", None, headers=headers))[0] == 200
        _, listed, _ = await site.call("GET", "/api/v1/keys")
        assert {"id": made["id"], "name": "shop", "role": "read", "created_at": 2} in listed["keys"]
        assert (await site.call("DELETE", f"/api/v1/keys/{made['id']}"))[:2] == (200, {"revoked": True})
        assert (await site.call("GET", "/api/v1/status", None, headers=headers))[0] == 401

    at_site(check)


def test_sync_paths_reach_delivery_with_their_parameters() -> None:
    async def check(site: Site) -> None:
        await site.call("GET", "/api/v1/syncs/push/log?failed=1&after=7&limit=3")
        await site.call("GET", "/api/v1/syncs/push/log?user=ann&outcome=dead,retry&kind=token"
                               "&since=2026-11-23T10:00:00Z&until=1800000000000&detail=1")  # fmt: skip
        for query in ("since=yesterday", "until=-", "outcome=lost", "outcome=", "kind=lost", "detail=perhaps"):
            assert (await site.call("GET", f"/api/v1/syncs/push/log?{query}"))[0] == 400
        await site.call("GET", "/api/v1/syncs/push/dead-letters?limit=2")
        await site.call("POST", "/api/v1/syncs/push/dead-letters/retry")
        await site.call("POST", "/api/v1/syncs/push/retry")
        assert (await site.call("POST", "/api/v1/syncs/push/pause"))[:2] == (200, {"paused": True})
        assert (await site.call("POST", "/api/v1/syncs/push/resume"))[:2] == (200, {"paused": False})
        assert (await site.call("POST", "/api/v1/syncs/push/resync"))[1]["resyncing"] == "push"
        assert (await site.call("POST", "/api/v1/syncs/none/resync"))[0] == 404
        assert site.delivery.asked == [
            ("log", "push", LogQuery(failed=True, after=7, limit=3)),
            ("log", "push", LogQuery(user="ann", outcomes=("dead", "retry"), kinds=("token",),
                                     since_ms=1_795_428_000_000, until_ms=1_800_000_000_000, detail=True)),
            ("dead_letters", "push", 2), ("retry", "push"), ("retry", "push"),
            ("suspend", "push", True), ("suspend", "push", False), ("resync", "push"),
        ]  # fmt: skip

    at_site(check)


def test_a_destination_is_tried_out_by_admins_alone() -> None:
    async def check(site: Site) -> None:
        path, body = "/api/v1/destinations/hook/test", {"user": "ann", "verb": "remove", "send": True}
        status, answer, _ = await site.call("POST", path, json=body)
        assert (status, answer["delivered"]) == (200, True)
        assert (await site.call("POST", path, json={"user": "bob", "sync": "push"}))[1]["delivered"] is None
        assert (await site.call("POST", path, "edit", json=body))[0] == 403
        assert (await site.call("POST", "/api/v1/destinations/none/test", json=body))[0] == 404
        for wrong in ({}, {"user": "ann", "verb": "stay"}, {"user": "ann", "more": 1}):
            assert (await site.call("POST", path, json=wrong))[0] == 422
        assert (await site.call("POST", path, data=b"{"))[0] == 400
        assert site.delivery.asked == [
            ("test", "hook", "", "ann", "remove", True), ("test", "hook", "push", "bob", "add", False),
        ]  # fmt: skip

    at_site(check)


def test_a_refresh_reaches_the_trait_loader_for_a_parent_that_is_there() -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await site.call("POST", "/api/v1/parent_models/users/refresh", "edit")
        assert (status, answer) == (200, {"refreshing": "users"})
        assert (await site.call("POST", "/api/v1/parent_models/nobody/refresh"))[0] == 404
        assert site.traits.asked == ["users"]

    at_site(check)


def test_probes_need_no_key_and_ready_means_that_evaluators_answer() -> None:
    async def check(site: Site) -> None:
        assert (await site.call("GET", "/healthz", None))[:2] == (200, {"status": "ok"})
        site.evaluators[0].refusals = [{"error": "not_ready", "message": "recovering"}]
        status, problem, _ = await site.call("GET", "/readyz", None)
        assert (status, problem["code"]) == (503, "not_ready")
        assert "recovering" in problem["detail"]
        site.server._ready = (float("-inf"), [])
        assert (await site.call("GET", "/readyz", None))[:2] == (200, {"status": "ready", "version": 1})

    at_site(check)


def test_metrics_count_requests_by_route_and_events_by_outcome() -> None:
    async def check(site: Site) -> None:
        await site.send([{"type": "track", "user_id": "u1"}, {"type": "track"}])
        await site.call("GET", "/api/v1/audiences/nobody/memberships/u1", "read")
        _, text, _ = await site.call("GET", "/metrics", None)
        assert 'usher_events_total{edge="edge-front",outcome="accepted"} 1.0' in text
        assert 'usher_events_total{edge="edge-front",outcome="no_key"} 1.0' in text
        route = "/api/v1/audiences/{audience_id}/memberships/{user_id}"
        assert f'usher_http_requests_total{{edge="edge-front",method="GET",route="{route}",status="404"}} 1.0' in text
        assert (await site.server.status())["events"] == {"rejected": {"no_key": 1}}

    at_site(check)


def test_metrics_say_how_each_sync_goes() -> None:
    async def check(site: Site) -> None:
        _, text, _ = await site.call("GET", "/metrics", None)
        lines = text.splitlines()
        for line in (
            'usher_sync_backlog{sync="push"} 7.0', 'usher_sync_oldest_unsent_seconds{sync="push"} 1.5',
            'usher_sync_delivered_total{sync="push"} 5.0', 'usher_sync_failed_total{sync="push"} 2.0',
            'usher_sync_retried_total{sync="push"} 3.0', 'usher_sync_state{state="failing",sync="push"} 1.0',
            'usher_sync_requests_total{status="none",sync="push"} 1.0',
            'usher_sync_delivery_seconds_bucket{le="0.5",sync="push"} 3.0',
            'usher_sync_delivery_seconds_bucket{le="+Inf",sync="push"} 5.0',
            'usher_alert_firing{alert="late",subject="sync push"} 1.0',
            'usher_alert_notices_total{channel="ops",outcome="lost"} 1.0',
            'usher_sync_delivery_seconds_count{sync="push"} 5.0', 'usher_sync_delivery_seconds_sum{sync="push"} 4.5',
        ):  # fmt: skip
            assert line in lines, line
        _, own, _ = await site.call("GET", "/metrics?scope=process", None)
        assert "usher_sync_" not in own

    at_site(check)


def test_openapi_and_docs_name_every_route_and_load_nothing() -> None:
    async def check(site: Site) -> None:
        _, document, _ = await site.call("GET", "/openapi.json", None)
        assert document["openapi"] == "3.1.0"
        operations = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
        assert len(operations) == len(set(operations)) == len(site.server._routes)
        status, page, _ = await site.call("GET", "/docs", None)
        assert status == 200
        assert all(path in page for path in document["paths"])
        assert "http://" not in page
        assert "https://" not in page

    at_site(check)

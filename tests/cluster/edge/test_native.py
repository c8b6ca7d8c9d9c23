"""POST /api/v1/events: an account of every event, once what is accepted is durable."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from typing import Any

import pytest

from cluster.edge import bodies, server
from cluster.limits import BODY_BYTES_MAX, EDGE_ROWS_WAITING_MAX, KEY_BYTES_MAX
from cluster.model.partitions import partition_of
from tests.cluster.edge.serving import DOCUMENT, PARTITIONS, WRITE_KEY, Site, at_site, track


def test_one_bad_event_of_500_is_reported_and_499_are_accepted() -> None:
    async def check(site: Site) -> None:
        events: list[Any] = [track(f"u{n}", f"m{n}") for n in range(500)]
        events[123] = {"type": "track", "event": "bought"}
        status, answer, _ = await site.send(events)
        assert status == 200
        assert answer == {"accepted": 499, "duplicates": 0, "rejected": [{"index": 123, "reason": "no_key"}]}
        assert len(site.evaluators[0].keys) == 499

    at_site(check)


@pytest.mark.parametrize("bad", ["a text", 7, None, [1], True])
def test_what_is_no_object_is_invalid_and_keeps_its_index(bad: Any) -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await site.send([track("u1"), bad, track("u2"), {"type": "track"}])
        assert status == 200
        assert answer["accepted"] == 2
        assert answer["rejected"] == [{"index": 1, "reason": "invalid"}, {"index": 3, "reason": "no_key"}]

    at_site(check)


@pytest.mark.parametrize(
    ("user", "key", "reason"),
    [
        ("", None, "no_key"),
        (None, None, "no_key"),
        ({"id": 1}, None, "no_key"),
        (42, "42", None),
        (42.0, "42", None),
        ("🛍️ shopper", "🛍️ shopper", None),
        ("x" * KEY_BYTES_MAX, "x" * KEY_BYTES_MAX, None),
        ("x" * 10_240, None, "invalid"),
    ],
)
def test_user_ids_become_text_or_are_rejected_alone(user: Any, key: str | None, reason: str | None) -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await site.send([track(user), track("fine")])
        assert status == 200
        assert answer["rejected"] == ([{"index": 0, "reason": reason}] if reason else [])
        assert site.evaluators[0].keys == ([key] if key else []) + ["fine"]

    at_site(check)


def test_a_message_id_seen_before_is_a_duplicate() -> None:
    async def check(site: Site) -> None:
        assert (await site.send([track("u1", "m1"), track("u1", "m1")]))[1]["duplicates"] == 1
        assert (await site.send([track("u1", "m1")]))[1] == {"accepted": 0, "duplicates": 1, "rejected": []}

    at_site(check)


def test_an_event_without_a_model_is_rejected_but_logged() -> None:
    async def check(site: Site) -> None:
        _, answer, _ = await site.send([track("u1", type="alias")])
        assert answer["rejected"] == [{"index": 0, "reason": "no_model"}]
        assert len(site.evaluators[0].raw) == 1

    at_site(check)


def test_ndjson_is_read_by_its_content_type() -> None:
    async def check(site: Site) -> None:
        body = "\n".join(json.dumps(track(f"u{n}")) for n in range(3)) + "\n\n{broken\n"
        headers = {"Content-Type": "application/x-ndjson"}
        status, answer, _ = await site.call("POST", "/api/v1/events", "ingest", data=body, headers=headers)
        assert status == 200
        assert answer["accepted"] == 3
        assert [row["reason"] for row in answer["rejected"]] == ["invalid"]

    at_site(check)


def test_gzip_is_undone() -> None:
    async def check(site: Site) -> None:
        body = gzip.compress(json.dumps([track()]).encode())
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        status, answer, _ = await site.call("POST", "/api/v1/events", "ingest", data=body, headers=headers)
        assert (status, answer["accepted"]) == (200, 1)

    at_site(check)


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (gzip.compress(b" " * (BODY_BYTES_MAX + 1), mtime=0), "gzip", 413, "body_too_large"),
        (gzip.compress(b"[]", mtime=0)[:-9], "gzip", 400, "invalid_encoding"),
        (b"no gzip at all", "gzip", 400, "invalid_encoding"),
        (b"[]", "br", 415, "unsupported_encoding"),
        (b"not json", "identity", 400, "invalid_json"),
        (b"7", "identity", 400, "invalid_json"),
        (b"\xff\xfe\x00", "identity", 400, "invalid_json"),
    ],
)
def test_an_unreadable_request_is_a_problem_as_a_whole(body: bytes, encoding: str, status: int, code: str) -> None:
    async def check(site: Site) -> None:
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        found, problem, answer_headers = await site.call("POST", "/api/v1/events", "ingest", data=body, headers=headers)
        assert (found, problem["code"], problem["status"]) == (status, code, status)
        assert answer_headers["Content-Type"].startswith("application/problem+json")
        assert site.evaluators[0].calls == []

    at_site(check)


def test_a_body_over_the_limit_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LINGER_S", 0.05)

    async def check(site: Site) -> None:
        body = io.BytesIO(b" " * (BODY_BYTES_MAX + 1))
        status, problem, _ = await site.call("POST", "/api/v1/events", "ingest", data=body)
        assert (status, problem["code"]) == (413, "body_too_large")

    at_site(check)


def test_a_chunked_body_over_the_limit_is_refused_while_it_is_read() -> None:
    async def check(site: Site) -> None:
        async def chunks() -> Any:
            for _ in range(BODY_BYTES_MAX // 65_536 + 2):
                yield b" " * 65_536

        status, problem, _ = await site.call("POST", "/api/v1/events", "ingest", data=chunks())
        assert (status, problem["code"]) == (413, "body_too_large")

    at_site(check)


def test_an_unknown_content_type_is_415() -> None:
    async def check(site: Site) -> None:
        status, problem, _ = await site.call(
            "POST", "/api/v1/events", "ingest", data=b"<a/>", headers={"Content-Type": "text/xml"}
        )
        assert (status, problem["code"]) == (415, "unsupported_media_type")

    at_site(check)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("Bearer nonsense", 401),
        ("Bearer", 401),
        (f"Bearer {WRITE_KEY}", 200),
        ("Basic d2tfd2ViOg==", 200),
        ("Basic d2tfd2Vi", 200),
        ("Basic %%%", 401),
        ("Digest abc", 401),
    ],
)
def test_a_write_key_or_an_ingest_key_is_needed(authorization: str | None, status: int) -> None:
    async def check(site: Site) -> None:
        headers = {"Authorization": authorization} if authorization else {}
        found, _, answer_headers = await site.call("POST", "/api/v1/events", None, json=[track()], headers=headers)
        assert found == status
        assert ("WWW-Authenticate" in answer_headers) == (status == 401)

    at_site(check)


def test_a_read_key_may_not_send_events() -> None:
    async def check(site: Site) -> None:
        assert (await site.call("POST", "/api/v1/events", "read", json=[track()]))[0] == 403

    at_site(check)


@pytest.mark.parametrize("code", ["overloaded", "not_ready", "storage_full", "unreachable"])
def test_a_refusing_evaluator_makes_503_with_retry_after(code: str) -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": code, "message": "not now", "retry_after_ms": 2_500}]
        status, problem, headers = await site.send([track("u1", "m1")])
        assert (status, problem["code"], headers["Retry-After"]) == (503, code, "3")
        assert (await site.send([track("u1", "m1")]))[1]["accepted"] == 1

    at_site(check)


def test_a_request_over_two_evaluators_is_refused_if_one_refuses() -> None:
    async def check(site: Site) -> None:
        site.evaluators[1].refusals = [{"error": "not_ready", "message": "recovering"}]
        events = [track(f"u{n}", f"m{n}") for n in range(50)]
        assert (await site.send(events))[0] == 503
        kept = len(site.evaluators[0].keys)
        assert 0 < kept < 50
        _, answer, _ = await site.send(events)
        assert answer == {"accepted": 50 - kept, "duplicates": kept, "rejected": []}
        assert len(site.evaluators[1].keys) == 50 - kept

    at_site(check, evaluators=2)


def test_an_evaluator_that_raises_is_unreachable() -> None:
    async def check(site: Site) -> None:
        async def broken(request: Any) -> Any:
            raise ConnectionError

        site.server.batcher._lane(0)._evaluator.append = broken  # type: ignore[method-assign]
        status, problem, _ = await site.send([track()])
        assert (status, problem["code"]) == (503, "unreachable")

    at_site(check)


def test_before_the_first_definitions_events_wait_at_the_sender() -> None:
    async def check(site: Site) -> None:
        status, problem, headers = await site.send([track()])
        assert (status, problem["code"]) == (503, "not_ready")
        assert int(headers["Retry-After"]) >= 1

    at_site(check, document=None)


def test_too_many_rows_waiting_are_refused_with_retry_after() -> None:
    async def check(site: Site) -> None:
        gate = site.evaluators[0].gate = asyncio.Event()
        site.server.batcher._lane(0).rows_waiting = EDGE_ROWS_WAITING_MAX
        status, problem, headers = await site.send([track()])
        assert (status, problem["code"]) == (503, "overloaded")
        assert headers["Retry-After"] == "1"
        site.server.batcher._lane(0).rows_waiting = 0
        gate.set()
        assert (await site.send([track()]))[0] == 200

    at_site(check)


def test_stale_events_are_decoded_again_under_the_newer_definitions() -> None:
    async def check(site: Site) -> None:
        models = [{**model, "foreign_key": "properties.member"} for model in DOCUMENT["event_models"]]
        current = site.controller.state.published
        assert current is not None
        newer = site.controller._candidate({"version": 1, "event_models": models}, "newer", "merge")
        site.evaluators[0].version = newer.version
        sending = asyncio.create_task(site.send([track("u1", properties={"member": "m-7"}), track("u2")]))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0)
        await site.controller.change(published=newer)
        status, answer, _ = await sending
        assert status == 200
        assert answer == {"accepted": 1, "duplicates": 0, "rejected": [{"index": 1, "reason": "no_key"}]}
        assert site.evaluators[0].keys == ["m-7"]
        assert [call["version"] for call in site.evaluators[0].calls] == [current.version, newer.version]

    at_site(check)


def test_many_small_requests_share_calls() -> None:
    async def check(site: Site) -> None:
        gate = site.evaluators[0].gate = asyncio.Event()
        first = asyncio.create_task(site.send([track("first")]))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0)
        others = [asyncio.create_task(site.send([track(f"u{n}", f"m{n}"), {"type": "track"}])) for n in range(40)]
        while site.server.batcher.rows_held < 81:
            await asyncio.sleep(0)
        gate.set()
        answers = await asyncio.gather(first, *others)
        assert [answer["accepted"] for _, answer, _ in answers] == [1] * 41
        assert all(answer["rejected"] == [{"index": 1, "reason": "no_key"}] for _, answer, _ in answers[1:])
        assert len(site.evaluators[0].calls) < 30

    at_site(check)


def test_an_empty_array_is_accepted_without_a_call() -> None:
    async def check(site: Site) -> None:
        assert (await site.send([]))[1] == {"accepted": 0, "duplicates": 0, "rejected": []}
        assert site.evaluators[0].calls == []

    at_site(check)


def test_a_body_that_does_not_come_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_WAIT_MS", 20)
    monkeypatch.setattr(server, "_LINGER_S", 0.05)

    async def check(site: Site) -> None:
        async def slow() -> Any:
            yield b"["
            await asyncio.sleep(0.1)
            yield b"]"

        assert (await site.call("POST", "/api/v1/events", "ingest", data=slow()))[0] == 408

    at_site(check)


def test_bodies_together_are_bounded_and_the_budget_is_given_back() -> None:
    async def check(site: Site) -> None:
        site.server._ingest.budget = bodies.BodyBudget(200)
        status, problem, headers = await site.send([track(properties={"x": "y" * 300})])
        assert (status, problem["code"], headers["Retry-After"]) == (503, "overloaded", "1")
        for _ in range(5):
            assert (await site.send([track()]))[0] == 200

    at_site(check)


def test_while_draining_new_events_are_refused() -> None:
    async def check(site: Site) -> None:
        await site.server.batcher.drain()
        status, problem, headers = await site.send([track()])
        assert (status, problem["code"], headers["Retry-After"]) == (503, "not_ready", "1")

    at_site(check)


def test_drain_answers_what_is_under_way() -> None:
    async def check(site: Site) -> None:
        gate = site.evaluators[0].gate = asyncio.Event()
        sending = asyncio.create_task(site.send([track()]))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0)
        draining = asyncio.create_task(site.server.drain())
        gate.set()
        status, answer, _ = await sending
        await draining
        assert (status, answer["accepted"]) == (200, 1)

    at_site(check)


MOVED = {"error": "moved", "message": "its users move to other evaluators", "retry_after_ms": 20}


def test_events_wait_for_users_who_move_and_go_to_who_has_them_then() -> None:
    async def check(site: Site) -> None:
        old, new = site.evaluators
        users = [f"u{number}" for number in range(40)]
        mine = {user for user in users if partition_of(user, PARTITIONS) < PARTITIONS // 2}
        old.refusals = [MOVED] * 1_000
        sending = asyncio.create_task(site.send([track(user) for user in users]))
        while not old.calls:
            await asyncio.sleep(0)
        await site.controller.change(owner_of_partition=(1,) * PARTITIONS)
        status, answer, _ = await sending
        assert (status, answer["accepted"], answer["rejected"]) == (200, 40, [])
        assert old.keys == []
        assert sorted(new.keys) == sorted(users), "each once, whoever had them before"
        assert 0 < len(mine) < 40

    at_site(check, evaluators=2)


def test_users_who_stay_after_all_are_served_by_who_had_them() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [MOVED, MOVED]
        status, answer, _ = await site.send([track("u1")])
        assert (status, answer["accepted"]) == (200, 1)
        assert site.evaluators[0].keys == ["u1"]

    at_site(check)

"""Requests that carry no records are in the sync log too: what was asked and answered, and no secret of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actors.delivery.asides import aside_exchange, said
from actors.delivery.commits import Commits
from actors.delivery.rows import Attempted, LogRow
from actors.delivery.sync_log import SyncLog
from cluster.runtime.protocols import LogQuery
from destinations.google.settings import GoogleSettings
from destinations.outcomes import Credentials, Finished, Gone, Learned, Permanent, Retry
from destinations.requests import NoResponse, Request, Response
from tests.actors.delivery.asking import delivered_is, eventually, state_is
from tests.actors.delivery.test_actor_kinds import addresses, asked, google
from tests.actors.delivery.world import InProcessController, InProcessEvaluator, started
from tests.destinations.google.keys import private_key
from tests.destinations.google.server import GoogleServer
from tests.destinations.vendor import Says


async def rows_of(actor: Any, **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await actor.sync_log("promo", LogQuery(limit=100, detail=True, **query)))["rows"]
    return rows


def test_tokens_lists_and_results_are_in_the_log_without_what_opens_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("destinations.google.response.POLL_EVERY_MS", 50)
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with GoogleServer(public_key=private_key().public_key(), polls=1) as server:
            server.faults.append(Says(503, {"error": "temporarily_unavailable"}))
            actor = await started(tmp_path, InProcessController(asked("google", google(server))), evaluator, addresses)
            await eventually(lambda: delivered_is(actor, 1))

            async def worked_off() -> bool:
                return any(row["outcome"] == "processed" for row in await rows_of(actor, kinds=("result",)))

            await eventually(worked_off)
            server.tokens.clear()  # they have run out
            evaluator.flip("b")
            await eventually(lambda: delivered_is(actor, 2))
            everything = await rows_of(actor)
            tokens, lists = await rows_of(actor, kinds=("token",)), await rows_of(actor, kinds=("list",))
            results = await rows_of(actor, kinds=("result",))
            again = await rows_of(actor, outcomes=("resend",))
            await actor.drain()

            assert [(row["outcome"], row["status"]) for row in tokens] == [
                ("retry", 503), ("answered", 200), ("answered", 200)
            ]  # fmt: skip
            assert all(row["latency_ms"] >= 0 and row["request"]["body"] == "***" for row in tokens)
            assert "temporarily_unavailable" in tokens[0]["response"]["body"]
            assert tokens[1]["response"]["body"] == "***"
            assert [(row["outcome"], row["request"]["method"]) for row in lists] == [
                ("answered", "GET"), ("answered", "POST")
            ]  # fmt: skip
            assert "usher:promo:" in lists[1]["request"]["body"]
            assert [row["outcome"] for row in results if row["batch_id"] == results[0]["batch_id"]][:2] == [
                "answered", "processed"
            ]  # fmt: skip
            assert all(row["request_id"] and row["response"]["status"] == 200 for row in results)
            assert [(row["kind"], row["status"], row["count"]) for row in again] == [("changes", 401, 1)]
            text = json.dumps(everything)
            secrets = [came.headers["authorization"].removeprefix("Bearer ") for came in server.came
                       if "authorization" in came.headers]  # fmt: skip
            asked_for = [came.body.decode() for came in server.came if came.path == "/token"]
            assertions = [body.rsplit("assertion=", 1)[1] for body in asked_for]
            assert secrets
            assert not [secret for secret in {*secrets, *assertions} if secret in text]
            assert "eyJ" not in text

    asyncio.run(run())


def test_a_credential_that_gives_no_token_is_told_with_the_answer(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with GoogleServer() as server:
            own = {"customer_id": server.account, "base_url": server.url, "token_url": f"{server.url}/token",
                   "accept_customer_match_terms": True, "allow_private": True,
                   "oauth": {"client_id": "77-web.apps", "client_secret": "wr0ng-s3cret-of-ours",
                             "refresh_token": "1//r3fresh-of-somebody"}}  # fmt: skip
            controller = InProcessController(asked("google", GoogleSettings.model_validate(own)))
            actor = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: state_is(actor, "credentials"))
            rows = await rows_of(actor, kinds=("token",), failed=True)
            await actor.drain()

            assert {row["outcome"] for row in rows} == {"credentials"}
            assert "invalid_" in rows[0]["response"]["body"]
            assert "wr0ng" not in json.dumps(rows)
            assert "r3fresh" not in json.dumps(rows)

    asyncio.run(run())


def test_an_answer_that_repeats_an_assertion_or_gives_a_link_is_masked() -> None:
    request = Request("POST", "https://x.example/token?key=k", {"authorization": "Basic c2VjcmV0"},
                      b"grant_type=jwt&assertion=eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", 1)  # fmt: skip
    echo = Response(400, {}, b'{"error": "bad assertion eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln"}', 1)
    shown = aside_exchange("token", Attempted(request, echo, 1.0), ())
    assert shown is not None
    assert "eyJ" not in shown.request + shown.response
    assert "c2VjcmV0" not in shown.request
    assert "key=k" not in shown.request
    away = Response(302, {"location": "https://bucket.example/f.csv?X-Amz-Signature=s1gn"}, b"", 1)
    listed = aside_exchange("list", Attempted(Request("GET", "https://x.example", {}, b"", 1), away, 1.0), ())
    assert listed is not None
    assert "bucket.example/f.csv" in listed.response
    assert "s1gn" not in listed.response
    bearer = Attempted(Request("GET", "https://x.example", {}, b"", 1), Response(200, {}, b"ya29.t0ken", 1), 1.0)
    masked = aside_exchange("list", bearer, ("ya29.t0ken",))
    assert masked is not None
    assert "t0ken" not in masked.response


def test_every_outcome_has_its_word() -> None:
    fine = Attempted(None, Response(202, {}, b"", 1), 1.0)
    down = Attempted(None, NoResponse("timeout", "no answer"), 1.0)
    assert said(None, fine) == said(Finished(), fine) == said(Learned({}), fine) == ("answered", "")
    assert said(Retry("not yet"), fine) == ("answered", "not yet")
    assert said(Retry("no answer"), down) == said(Learned({}, Retry("no answer")), down) == ("retry", "no answer")
    assert said(Credentials("no"), fine) == ("credentials", "no")
    assert said(Gone("away"), fine) == ("disabled", "away")
    assert said(Permanent("never"), fine) == ("refused", "never")


def test_a_log_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "sync_log.db"

    async def run() -> None:
        log = await SyncLog.open(Commits(path, "log"))
        log.append("promo", [LogRow(1, "msg", 1, "delivered", 200, 1, 1.0, "")])
        await log.close()
        with sqlite3.connect(path) as connection:
            connection.execute("ALTER TABLE lines DROP COLUMN kind")
        connection.close()
        again = await SyncLog.open(Commits(path, "log"))
        again.append("promo", [LogRow(2, "", 0, "answered", 200, 1, 1.0, "", kind="token")])
        assert [line.row.kind for line in await again.rows("promo", LogQuery())] == ["changes", "token"]
        assert [line.row.at_ms for line in await again.rows("promo", LogQuery(kinds=("token",)))] == [2]
        await again.close()

    asyncio.run(run())

"""Vendors' lists through the whole of delivery: tokens, steps and questions for results, with kills in between."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.model import Column, Definitions, Destination, Sync
from cluster.runtime.protocols import LogQuery
from destinations.google.settings import GoogleSettings
from destinations.identifiers import sha256_hex
from destinations.iterable.settings import IterableSettings
from tests.actors.delivery.asking import backlog_is, eventually, state_is, sync_of
from tests.actors.delivery.world import AUDIENCE, InProcessController, InProcessEvaluator, definitions, started
from tests.destinations.google.keys import key_file, private_key
from tests.destinations.google.server import GoogleServer
from tests.destinations.iterable.server import IterableServer
from tests.destinations.vendor import Says


async def addresses(parent: str, keys: list[str], columns: list[str]) -> Mapping[str, Sequence[Any]]:
    return {"email": [f"{key}@example.org" for key in keys]}


def asked(kind: str, settings: Any, **sync: Any) -> Definitions:
    base = definitions("https://example.org/hook", columns={"email": Column("email", "string", pii=True)})
    fields = {"identifiers": {"email": "email"}, "deliver": "state", **sync}
    return replace(
        base,
        destinations={"list": Destination("list", kind, settings)},
        syncs={"promo": Sync("promo", AUDIENCE, "list", **fields)},
    )


def google(server: GoogleServer) -> Any:
    return GoogleSettings.model_validate(
        {"customer_id": server.account, "login_customer_id": server.manager, "service_account_key": key_file(),
         "accept_customer_match_terms": True, "base_url": server.url, "token_url": f"{server.url}/token",
         "allow_private": True}
    )  # fmt: skip


def test_a_list_is_made_once_tokens_are_renewed_and_results_are_asked_for(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(300):
            evaluator.flip(f"user{number}")
        async with GoogleServer(public_key=private_key().public_key()) as server:
            controller = InProcessController(asked("google", google(server), batch_size=20))
            first = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: delivered(first, 300))
            for number in range(0, 300, 3):
                evaluator.flip(f"user{number}")
            server.tokens.clear()  # they have run out
            await eventually(lambda: delivered(first, 340))
            await first.abandon()
            second = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: backlog_is(second, 0))
            await eventually(lambda: delivered(second, 400))
            await second.drain()
            server.settle()

            (user_list,) = server.user_lists
            members = evaluator.members_now()
            assert set(server.lists[user_list]) == {sha256_hex(f"{user}@example.org") for user in members}
            assert 2 <= server.tokens_given <= 3

    asyncio.run(run())


def test_the_result_of_an_accepted_request_is_in_the_log_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("destinations.google.response.POLL_EVERY_MS", 300)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with GoogleServer(public_key=private_key().public_key(), polls=0) as server:
            controller = InProcessController(asked("google", google(server)))
            first = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: delivered(first, 1))
            await first.drain()
            second = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: outcomes_are(second, ["delivered", "processed"]))
            await second.drain()

    asyncio.run(run())


async def delivered(actor: Any, count: int) -> bool:
    return bool((await sync_of(actor)).get("delivered") == count)


async def outcomes_are(actor: Any, outcomes: list[str]) -> bool:
    rows = (await actor.sync_log("promo", LogQuery(limit=100))).get("rows", [])
    return [row["outcome"] for row in rows if row["outcome"] != "answered"] == outcomes


def test_a_credential_that_is_refused_stops_the_sync_and_a_new_one_lets_it_go_on(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with IterableServer() as server:
            wrong = {"api_key": "wr0ng-key-of-somebody", "base_url": server.url, "allow_private": True}
            controller = InProcessController(asked("iterable", IterableSettings.model_validate(wrong)))
            actor = await started(tmp_path, controller, evaluator, addresses)
            await eventually(lambda: state_is(actor, "credentials"))
            assert "wr0ng" not in str(await actor.sync_log("promo", LogQuery(limit=10)))
            right = IterableSettings.model_validate({**wrong, "api_key": server.key})
            controller.publish(asked("iterable", right))
            await eventually(lambda: delivered(actor, 1))
            await actor.drain()

    asyncio.run(run())


def test_a_step_that_fails_keeps_batches_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in "abc":
            evaluator.flip(user)
        async with IterableServer() as server:
            server.faults.extend([Says(503, b""), Says(500, b"", after=True)])
            settings = IterableSettings.model_validate(
                {"api_key": server.key, "base_url": server.url, "allow_private": True}
            )
            actor = await started(tmp_path, InProcessController(asked("iterable", settings)), evaluator, addresses)
            await eventually(lambda: delivered(actor, 3))
            await actor.drain()
            assert [len(members) for members in server.lists.values()] == [0, 3]  # somebody else's, and ours

    asyncio.run(run())

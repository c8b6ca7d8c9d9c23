"""The whole of delivery in one process: an evaluator's transitions to requests on loopback, with kills in between."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.delivery.actor import DeliveryActor
from cluster.clock import SystemClock
from cluster.definitions.model import Column
from cluster.limits import SYNC_BATCHES_MAX
from cluster.runtime.protocols import LogQuery
from tests.actors.delivery.asking import (
    backlog_is,
    begun,
    eventually,
    has_logged,
    has_syncs,
    state_is,
    sync_of,
)
from tests.actors.delivery.world import (
    InProcessController,
    InProcessEvaluator,
    Received,
    Receiver,
    Row,
    definitions,
    receiver,
    started,
    status,
)


def test_a_new_sync_sends_the_present_members_and_then_every_change(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b", "c", "b"):
            evaluator.flip(user)
        async with receiver() as endpoint:
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await endpoint.until(lambda: len(endpoint.kinds) == 2)
            evaluator.flip("b")
            evaluator.flip("a")
            await endpoint.until(lambda: len(endpoint.kinds) == 4)
            await actor.drain()

        assert endpoint.kinds == [("a", "entered"), ("c", "entered"), ("b", "entered"), ("a", "exited")]
        assert endpoint.members == set(evaluator.members_now())

    asyncio.run(run())


def test_initial_none_sends_changes_from_now_on(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, sync={"initial": "none"}))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: begun(actor))
            evaluator.flip("b")
            await endpoint.until(lambda: len(endpoint.kinds) == 1)
            await actor.drain()

        assert endpoint.kinds == [("b", "entered")]

    asyncio.run(run())


def test_after_a_kill_the_unanswered_batch_comes_again_with_the_same_id_and_bytes(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            never = asyncio.Event()

            async def hang(request: web.Request, received: Received) -> web.StreamResponse:
                await never.wait()
                return web.Response()

            endpoint.answer = hang
            controller = InProcessController(definitions(endpoint.url))
            first = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            evaluator.flip("b")
            await endpoint.until(lambda: len(endpoint.received) >= 1)
            await first.abandon()
            lost = list(endpoint.received)
            evaluator.flip("a")

            endpoint.answer = None
            second = await started(tmp_path, controller, evaluator)
            await endpoint.until(lambda: len(endpoint.kinds) == 3)
            await second.drain()
            third = await started(tmp_path, controller, evaluator)
            evaluator.flip("c")
            await endpoint.until(lambda: len(endpoint.kinds) == 4)
            await third.drain()

        again = {received.id: received.body for received in endpoint.received[len(lost) :]}
        assert all(again[received.id] == received.body for received in lost)
        assert sorted(endpoint.kinds) == [("a", "entered"), ("a", "exited"), ("b", "entered"), ("c", "entered")]
        assert len(endpoint.received) == len(lost) + len(again)
        never.set()

    asyncio.run(run())


def test_a_paused_audience_holds_and_sends_the_net_when_resumed(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, status="paused"))
            first = await started(tmp_path, controller, evaluator)
            await eventually(lambda: state_is(first, "paused"))
            for user in ("a", "b", "a", "c", "a"):
                evaluator.flip(user)
            await eventually(lambda: backlog_is(first, 3))
            await first.abandon()

            second = await started(tmp_path, controller, evaluator)
            await eventually(lambda: backlog_is(second, 3))
            evaluator.flip("b")
            await eventually(lambda: backlog_is(second, 2))
            assert endpoint.received == []
            controller.publish(definitions(endpoint.url))
            await endpoint.until(lambda: len(endpoint.kinds) == 2)
            evaluator.flip("c")
            evaluator.flip("c")
            await endpoint.until(lambda: len(endpoint.kinds) == 4)
            await second.drain()

        assert sorted(endpoint.kinds[:2]) == [("a", "entered"), ("c", "entered")]
        assert endpoint.kinds[2:] == [("c", "exited"), ("c", "entered")]

    asyncio.run(run())


def test_410_disables_until_the_settings_change_also_over_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            endpoint.answer = status(410)
            controller = InProcessController(definitions(endpoint.url))
            first = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await eventually(lambda: state_is(first, "disabled"))
            await first.drain()
            second = await started(tmp_path, controller, evaluator)
            await eventually(lambda: state_is(second, "disabled"))
            assert len(endpoint.received) == 1

            endpoint.answer = None
            controller.publish(definitions(endpoint.url, timeout="3s"))
            await endpoint.until(lambda: len(endpoint.received) == 2)
            await eventually(lambda: has_logged(second, 2))
            log = await second.sync_log("promo", LogQuery(limit=10))
            await second.drain()

        assert [row["outcome"] for row in log["rows"]] == ["disabled", "delivered"]
        assert endpoint.received[0].id == endpoint.received[1].id

    asyncio.run(run())


def test_401_stops_the_sync_until_somebody_retries(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            endpoint.answer = status(401)
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            evaluator.flip("a")
            await eventually(lambda: state_is(actor, "credentials"))
            endpoint.answer = None
            assert await actor.retry("promo") == {"retried": 0}
            await eventually(lambda: backlog_is(actor, 0))
            assert (await sync_of(actor))["delivered"] == 1
            await actor.drain()

    asyncio.run(run())


def test_a_dead_letter_shows_no_secret_and_comes_again_under_its_id(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:

            async def echo(request: web.Request, received: Received) -> web.StreamResponse:
                return web.Response(status=413, text=str(dict(request.headers)) + received.body.decode())

            endpoint.answer = echo
            controller = InProcessController(definitions(endpoint.url, headers={"x-key": "t0ps3cret"}))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("user_42")
            await eventually(lambda: has_logged(actor, 1))
            letters = await actor.dead_letters("promo", 10)
            failed = await actor.sync_log("promo", LogQuery(failed=True, limit=10))
            endpoint.answer = None
            assert await actor.retry("promo") == {"retried": 1}
            await endpoint.until(lambda: len(endpoint.received) == 2)
            assert (await actor.dead_letters("promo", 10))["rows"] == []
            await actor.drain()

        assert letters["total"] == 1
        (letter,) = letters["rows"]
        assert letter["response"]["status"] == 413
        assert "t0ps3cret" not in str(letter)
        assert "user_42" not in str(letter)
        assert failed["rows"][0]["outcome"] == "dead"
        assert failed["rows"][0]["status"] == 413
        assert endpoint.received[0].body == endpoint.received[1].body
        assert endpoint.received[0].id == endpoint.received[1].id

    asyncio.run(run())


def test_traits_and_identifiers_come_from_columns_and_a_missing_identifier_drops_the_record(tmp_path: Path) -> None:
    async def run() -> None:
        async def traits(parent: str, keys: list[str], columns: list[str]) -> dict[str, list[Any]]:
            rows = {"a": ("a@x.org", 12.0, 1_764_518_400_000), "b": (None, 1.5, None)}
            table = [dict(zip(("email", "ltv", "seen"), rows[key], strict=True)) for key in keys]
            return {column: [row[column] for row in table] for column in columns}

        columns = {"seen": Column("seen", "timestamp")}
        sync = {"identifiers": {"mail": "email", "id": "user_id"}, "traits": ("ltv", "seen")}
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, sync=sync, columns=columns))
            actor = await started(tmp_path, controller, evaluator, traits)
            evaluator.flip("b")
            evaluator.flip("a")
            await endpoint.until(lambda: len(endpoint.kinds) == 1)
            await eventually(lambda: has_logged(actor, 2))
            log = await actor.sync_log("promo", LogQuery(failed=True, limit=10))
            row = await sync_of(actor)
            await actor.drain()

        (change,) = endpoint.received[0].changes
        assert change["identifiers"] == {"mail": "a@x.org", "id": "a"}
        assert change["traits"] == {"ltv": 12, "seen": "2025-11-30T16:00:00.000Z"}
        assert [(entry["outcome"], entry["count"]) for entry in log["rows"]] == [("dropped", 1)]
        assert (row["delivered"], row["failed"]) == (1, 1)

    asyncio.run(run())


def test_a_removed_sync_is_forgotten_and_one_of_the_same_name_begins_anew(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url))
            actor = await started(tmp_path, controller, evaluator)
            await endpoint.until(lambda: len(endpoint.received) == 1)
            controller.publish(definitions(endpoint.url, syncs=()))
            await eventually(lambda: has_syncs(actor, 0))
            assert (await actor.sync_log("promo", LogQuery(limit=1)))["error"] == "not_found"
            controller.publish(definitions(endpoint.url))
            await endpoint.until(lambda: len(endpoint.received) == 2)
            await actor.drain()

        first, second = endpoint.received
        assert first.id != second.id
        assert first.changes == second.changes

    asyncio.run(run())


def test_an_archived_audience_sends_its_exits_and_one_that_uses_its_id_again_its_own_entries(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            evaluator.flip("b")
            await endpoint.until(lambda: len(endpoint.kinds) == 2)
            controller.publish(definitions(endpoint.url, status="archived"))
            evaluator.flip("a")
            evaluator.flip("b")
            await endpoint.until(lambda: len(endpoint.kinds) == 4)
            controller.publish(definitions(endpoint.url))
            evaluator.flip("b")
            await endpoint.until(lambda: len(endpoint.kinds) == 5)
            await actor.drain()

        assert sorted(endpoint.kinds[2:4]) == [("a", "exited"), ("b", "exited")]
        assert endpoint.kinds[4:] == [("b", "entered")]

    asyncio.run(run())


def test_a_new_sync_of_an_archived_audience_begins_with_the_members_of_its_next_life(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for user in ("a", "b", "a", "b"):
            evaluator.flip(user)
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, status="archived"))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: has_syncs(actor, 1))
            evaluator.flip("b")
            controller.publish(definitions(endpoint.url))
            await endpoint.until(lambda: len(endpoint.kinds) == 1)
            await actor.drain()

        assert endpoint.kinds == [("b", "entered")]

    asyncio.run(run())


def test_an_evaluator_that_refuses_is_asked_until_it_answers(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await eventually(lambda: begun(actor))
            evaluator.refuses = True
            evaluator.flip("a")
            await asyncio.sleep(0.05)
            evaluator.refuses = False
            await endpoint.until(lambda: len(endpoint.kinds) == 1)
            await actor.drain()

    asyncio.run(run())


def test_a_sync_waits_for_the_publication_of_its_audience(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip("a")
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, syncs=()))
            actor = await started(tmp_path, controller, evaluator)
            controller.publish(definitions(endpoint.url), preparing=("hide_promo",))
            await eventually(lambda: has_syncs(actor, 1))
            await asyncio.sleep(0.02)
            assert endpoint.received == []
            controller.publish(definitions(endpoint.url))
            await endpoint.until(lambda: len(endpoint.kinds) == 1)
            await actor.drain()

    asyncio.run(run())


def test_many_changes_arrive_in_full_batches_and_in_order(tmp_path: Path) -> None:
    async def run() -> tuple[Receiver, InProcessEvaluator]:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            actor = await started(tmp_path, InProcessController(definitions(endpoint.url)), evaluator)
            await eventually(lambda: begun(actor))
            for number in range(3000):
                evaluator.rows.append(_row(number))
            evaluator.change()
            await endpoint.until(lambda: len(endpoint.kinds) == 3000)
            await actor.drain()
        return endpoint, evaluator

    endpoint, evaluator = asyncio.run(run())
    assert len(endpoint.kinds) == 3000
    assert endpoint.members == set(evaluator.members_now())
    assert max(len(message.changes) for message in endpoint.received) == 100


def _row(number: int) -> Row:
    return Row(f"user_{number % 1000}", "exited" if (number // 1000) % 2 else "entered", 1_764_518_400_000 + number)


def test_a_destination_that_was_down_gets_what_the_backlog_comes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.delivery.intake.SYNC_PENDING_MAX", 40)
    monkeypatch.setattr("actors.delivery.reader.SYNC_READ_ROWS_MAX", 10)
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)
    monkeypatch.setattr("actors.delivery.breaker.BREAKER_FIRST_MS", 20)

    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            endpoint.answer = status(500)
            controller = InProcessController(
                definitions(endpoint.url, sync={"deliver": "state", "batch_size": 1}, syncs=("promo",))
            )
            first = await started(tmp_path, controller, evaluator)
            await eventually(lambda: begun(first))
            for number in range(300):
                evaluator.flip(f"user_{number}")
            await eventually(lambda: backlog_is(first, 300))
            for number in range(300):
                if number != 200:
                    evaluator.flip(f"user_{number}")
            # Those that were in batches are sent, and their exits wait for that; of the others, an entry and an exit
            # come to nothing. How many batches there are by then is a matter of time, up to their bound.
            await eventually(lambda: has_read(first, 599 - 40))
            await first.abandon()
            sent = {user for user, _ in endpoint.kinds}
            endpoint.received.clear()
            endpoint.answer = None
            second = await started(tmp_path, controller, evaluator)
            await eventually(lambda: backlog_is(second, 0))
            await eventually(lambda: has_state(second, "running"))
            await second.drain()

        assert endpoint.members == {"user_200"}
        # And what was in memory, up to its bound, when the exits came: far from all 300.
        assert len({user for user, _ in endpoint.kinds}) <= SYNC_BATCHES_MAX + 40 + 1
        assert sent <= {user for user, _ in endpoint.kinds}

    asyncio.run(run())


async def has_read(actor: DeliveryActor, seq: int) -> bool:
    return int((await actor.read_through(0))["seq"]) >= seq


async def has_state(actor: DeliveryActor, state: str) -> bool:
    return (await sync_of(actor)).get("state") == state


def test_flap_control_sends_what_lasts(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            flaps = {"debounce_ms": 150, "min_stay_ms": 400}
            controller = InProcessController(definitions(endpoint.url, sync=flaps))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: begun(actor))
            now_ms = SystemClock().now_ms()
            for user, times in (("flaps", 6), ("comes", 1), ("goes", 1)):
                for number in range(times):
                    kind = "exited" if number % 2 else "entered"
                    evaluator.change(Row(user, kind, now_ms + number))
            await endpoint.until(lambda: len(endpoint.kinds) == 2)
            evaluator.change(Row("goes", "exited", SystemClock().now_ms()))
            await endpoint.until(lambda: len(endpoint.kinds) == 3)
            assert SystemClock().now_ms() >= now_ms + 400
            await actor.drain()

        assert sorted(endpoint.kinds[:2]) == [("comes", "entered"), ("goes", "entered")]
        assert endpoint.kinds[2] == ("goes", "exited")

    asyncio.run(run())


def test_two_syncs_of_one_destination_share_its_rate_limit(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(60):
            evaluator.flip(f"user_{number}")
        async with receiver() as endpoint:
            asked = definitions(endpoint.url, syncs=("one", "two"), rate_limit="40/s", sync={"batch_size": 1})
            actor = await started(tmp_path, InProcessController(asked), evaluator)
            began_s = asyncio.get_running_loop().time()
            await endpoint.until(lambda: len(endpoint.received) >= 60)
            took_s = asyncio.get_running_loop().time() - began_s
            # Of the first burst whoever started first had the more, on a machine that was busy meanwhile.
            shares = [json.loads(each.body)["sync"] for each in endpoint.received[40:60]]
            await actor.drain()

        assert took_s >= 1.3
        assert abs(shares.count("one") - shares.count("two")) <= 6

    asyncio.run(run())

"""The sync log's file and its lines: what is kept of each attempt, found again, and dropped in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from actors.delivery import sync_log as log_module
from actors.delivery.commits import Commits
from actors.delivery.desk import Desk
from actors.delivery.figures import Figures
from actors.delivery.instructions import Dead, Rest
from actors.delivery.log_lines import OTHER_REASONS, REASONS_MAX, SHOWN_RECORDS_MAX, Lines, shown_records, user_key
from actors.delivery.plans import plan_syncs
from actors.delivery.rows import Attempted, Exchange, LogRow
from actors.delivery.sync_log import SyncLog, shown_line
from cluster.runtime.protocols import LogQuery
from destinations.outcomes import Delivered, Permanent, Retry, Skipped
from destinations.records import Record, Verb
from destinations.registry import KINDS
from destinations.requests import Request, Response
from tests.actors.delivery.asking import eventually, has_logged
from tests.actors.delivery.world import (
    InProcessController,
    InProcessEvaluator,
    Received,
    definitions,
    receiver,
    started,
)

SYNC = "promo"


def log(outcome: str = "delivered", count: int = 1, at_ms: int = 1, users: bytes = b"") -> LogRow:
    return LogRow(at_ms, "msg", count, outcome, 200, 1, 2.5, "", users=users)


def record(user: str, verb: Verb = "add") -> Record:
    return Record("t", "aud", 1, user, {"id": user}, "entered", 1, 0, "event", {}, verb)


def lines(names: bool = False) -> Lines:
    attempted = Attempted(None, Response(207, {}, b"", 1), 12.5, "req-7", ("late", "slow"))
    return Lines("msg", 2, attempted, 99, names=names)


async def counts(kept: SyncLog, **query: object) -> list[int]:
    return [line.row.count for line in await kept.rows(SYNC, LogQuery(**query))]  # type: ignore[arg-type]


def test_every_record_is_in_the_line_of_its_outcome_and_reason() -> None:
    made = lines()
    records = [record("a"), record("b", "remove"), record("c"), record("d"), record("e"), record("f")]
    refused = (Permanent("bad mail"), Permanent("no mail"))
    outcomes = (Delivered(), Delivered(), Skipped("forgotten"), *refused, Retry("busy"))
    made.add_outcomes(records, outcomes, Dead((3, 4), frozenset(), "bad mail"),
                      [Rest("rest", 1, 1, (5,), 2, 0, "retry")], "busy")  # fmt: skip

    found = [(row.batch_id, row.outcome, row.reason, row.count, row.removes) for row in made.rows]
    assert found == [
        ("msg", "delivered", "", 2, 1), ("msg", "skipped", "forgotten", 1, 0), ("msg", "dead", "bad mail", 1, 0),
        ("msg", "dead", "no mail", 1, 0), ("rest", "retry", "busy", 1, 0),
    ]  # fmt: skip
    first = made.rows[0]
    assert (first.status, first.attempt, first.latency_ms) == (207, 2, 12.5)
    assert (first.request_id, first.notes) == ("req-7", "late; slow")
    assert shown_records(first, "") == (
        [{"user_sha256": user_key("a").hex(), "verb": "add"}, {"user_sha256": user_key("b").hex(), "verb": "remove"}], 0
    )  # fmt: skip
    assert shown_records(first, "b")[0] == [{"user_sha256": user_key("b").hex(), "verb": "remove"}]
    assert b"mail" not in first.users


def test_users_are_in_clear_where_the_sync_says_so() -> None:
    made = lines(names=True)
    made.add("delivered", [("Zoë", "add")])
    assert shown_records(made.rows[0], "")[0][0]["user"] == "Zoë"


def test_reasons_without_end_share_one_line_and_records_without_end_are_counted() -> None:
    made = lines()
    made.add_by_reason("dead", [(f"u{n}", "add", f"row {n}") for n in range(100)])
    assert len(made.rows) == REASONS_MAX
    assert (made.rows[-1].reason, made.rows[-1].count) == (OTHER_REASONS, 100 - REASONS_MAX + 1)
    made.add("delivered", [(f"u{n}", "add") for n in range(SHOWN_RECORDS_MAX + 5)])
    shown, left_out = shown_records(made.rows[-1], "")
    assert (len(shown), left_out) == (SHOWN_RECORDS_MAX, 5)


def test_the_log_keeps_the_newest_rows_and_is_read_forwards_or_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "SYNC_LOG_ROWS_MAX", 4)
    monkeypatch.setattr(log_module, "_TRIM_EVERY", 1)

    async def run() -> None:
        kept = await SyncLog.open(Commits(tmp_path / "l.db", "test"))
        for count in range(1, 6):
            kept.append(SYNC, [log("dropped", count)])
        await kept.close()
        kept = await SyncLog.open(Commits(tmp_path / "l.db", "test"))
        newest = await kept.rows(SYNC, LogQuery(limit=2))
        assert [line.row.count for line in newest] == [4, 5]
        assert await counts(kept, after=newest[0].number - 2, limit=2) == [3, 4]
        kept.append(SYNC, [log()])
        await kept.forget("other")  # waits for what was asked before
        assert await counts(kept, failed=True) == [3, 4, 5]
        await kept.forget(SYNC)
        assert await counts(kept) == []
        await kept.close()

    asyncio.run(run())


def test_what_is_too_old_or_too_much_goes_with_its_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_TRIM_EVERY", 1)

    async def run() -> None:
        kept = await SyncLog.open(Commits(tmp_path / "l.db", "test"))
        kept.keep_ms, kept.bytes_max = 1_000, 10_000
        for count in range(1, 31):
            kept.append(SYNC, [log("retry", count, at_ms=count)], Exchange(f"asked {count}", "x" * 880))
        left = await counts(kept)
        assert left[-1] == 30
        assert 8 <= len(left) <= 10, "each row is near 1,000 bytes"
        (oldest, *_) = await kept.rows(SYNC, LogQuery(detail=True))
        assert oldest.exchange is not None
        assert oldest.exchange.request == f"asked {left[0]}"
        await kept.trim(1_028)
        assert await counts(kept) == [28, 29, 30]
        await kept.trim(5_000)
        assert await counts(kept) == []
        await kept.close()

    asyncio.run(run())


@pytest.mark.parametrize("in_clear", [False, True])
def test_bodies_are_redacted_unless_the_sync_says_otherwise_and_secrets_always(tmp_path: Path, in_clear: bool) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:

            async def echo(request: web.Request, received: Received) -> web.StreamResponse:
                text = f"{dict(request.headers)} {received.body.decode()} bob@example.org"
                return web.Response(status=500, text=text, headers={"x-request-id": "req-0042"})

            endpoint.answer = echo
            sync = {"log_pii": in_clear}
            controller = InProcessController(definitions(endpoint.url, sync=sync, headers={"x-key": "t0ps3cret"}))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("user_424242")
            await eventually(lambda: has_logged(actor, 1))
            page = await actor.sync_log("promo", LogQuery(user="user_424242", failed=True, detail=True))
            await actor.drain()

        (row,) = page["rows"][:1]
        assert (row["outcome"], row["status"], row["adds"], row["removes"]) == ("retry", 500, 1, 0)
        assert row["records"][0]["user_sha256"] == user_key("user_424242").hex()
        assert row["request_id"] == "req-0042"
        assert row["request"]["headers"]["webhook-id"] == row["batch_id"]
        assert '"type":"audience.changes"' in row["request"]["body"].replace(" ", "")
        assert "t0ps3cret" not in str(page)
        assert ("user_424242" in row["request"]["body"]) == in_clear
        assert ("user_424242" in row["response"]["body"]) == in_clear
        assert ("bob@example.org" in row["response"]["body"]) == in_clear
        assert ("user_424242" in str(row["records"])) == in_clear

    asyncio.run(run())


def test_a_change_without_an_identifier_is_found_by_its_user(tmp_path: Path) -> None:
    async def run() -> None:
        async def traits(parent: str, keys: list[str], columns: list[str]) -> dict[str, list[Any]]:
            return {"email": [None] * len(keys)}

        evaluator = InProcessEvaluator()
        async with receiver() as endpoint:
            controller = InProcessController(definitions(endpoint.url, sync={"identifiers": {"mail": "email"}}))
            actor = await started(tmp_path, controller, evaluator, traits)
            evaluator.flip("nobody_else")
            evaluator.flip("somebody")
            await eventually(lambda: has_logged(actor, 1))
            page = await actor.sync_log("promo", LogQuery(user="somebody", outcomes=("dropped",), detail=True))
            await actor.drain()

        (row,) = page["rows"]
        assert row["reason"] == "no value for an identifier: mail"
        assert row["records"] == [{"user_sha256": user_key("somebody").hex(), "verb": "add"}]
        assert row["request"] is None

    asyncio.run(run())


def test_rows_are_found_by_user_outcome_and_time(tmp_path: Path) -> None:
    async def run() -> None:
        kept = await SyncLog.open(Commits(tmp_path / "l.db", "test"))
        for count in range(1, 7):
            made = lines()
            made.add("dead" if count % 2 else "retry", [(f"user_{count % 3}", "add")] * count, "it says no")
            kept.append(SYNC, [log("delivered", 100, count), *made.rows], Exchange('"asked"', "null"))
        assert await counts(kept, user="user_1") == [1, 4]
        assert await counts(kept, user="user_1", outcomes=("dead",)) == [1]
        assert await counts(kept, user="nobody") == []
        assert await counts(kept, since_ms=3, until_ms=5, failed=False, outcomes=("delivered",)) == [100, 100]
        assert await counts(kept, failed=True, limit=2) == [5, 6]
        query = LogQuery(user="user_0", detail=True)
        shown = [shown_line(line, query) for line in await kept.rows(SYNC, query)]
        assert [row["request"] for row in shown] == ["asked", "asked"]
        assert {row["user_sha256"] for row in shown[0]["records"]} == {user_key("user_0").hex()}
        assert "request" not in shown_line((await kept.rows(SYNC, LogQuery()))[0], LogQuery())
        await kept.close()

    asyncio.run(run())


def test_bodies_of_what_went_well_are_kept_as_long_as_that_costs_little() -> None:
    plan = plan_syncs(definitions("http://127.0.0.1:9/hook"), (0,), (), KINDS)["promo"]
    desk = Desk(plan, Figures(0))
    request = Request("POST", "http://127.0.0.1:9/hook", {}, b"{}", 1_000)
    attempted = Attempted(request, Response(204, {}, b"", 1), 1.0)

    def kept(size: int, now_ms: int, *, well: bool = True) -> bool:
        records = [record(f"user_{number}") for number in range(size)]
        return desk.exchange(attempted, records, now_ms, well=well) is not None

    assert [kept(1, 1_000 + number) for number in range(12)] == [True] * 10 + [False] * 2
    assert [kept(400, 2_000 + number) for number in range(4)] == [True, True, False, False]
    assert [kept(5_000, 3_000), kept(1, 3_001), kept(5_000, 3_002, well=False)] == [True, False, True]

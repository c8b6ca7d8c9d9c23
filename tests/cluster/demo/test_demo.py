"""The demo's parts: the same customers each time, acts in order, delays that are true, signatures that are checked."""

from __future__ import annotations

import asyncio
import io
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import cluster.demo
from cluster.clock import ManualClock
from cluster.definitions.evaluable import unsupported
from cluster.definitions.parsing import load_paths
from cluster.demo.board import Board, Seen, percentile
from cluster.demo.customers import WORTHY_LTV, make_customers, write_traits
from cluster.demo.followed import HIDE, SHOW, Followed, Memberships
from cluster.demo.run import DEFINITIONS, SHIPPED_COUNT, SHIPPED_TRAITS
from cluster.demo.screen import LiveScreen, PlainScreen, delays_text
from cluster.demo.shop import Receiver, track_body
from cluster.demo.shoppers import ORDERED, Act, Shoppers, ordered
from cluster.demo.summary import print_summary
from destinations.registry import KINDS
from destinations.signing import sign, signing_key
from tests.conftest import START_MS

ROOT = Path(__file__).parents[3]
ENV = {
    "WEB_WRITE_KEY": "k", "WEBHOOK_SECRET": "s", "USERS_PARQUET": "u.parquet",
    "WEBHOOK_URL": "http://127.0.0.1:9/hook",
}  # fmt: skip


def change(transition_id: str = "t1", **more: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(START_MS / 1000).astimezone().isoformat(timespec="milliseconds")
    base = {"audience_id": HIDE, "user_id": "ann", "kind": "entered", "cause": "event", "at": at}
    return {"transition_id": transition_id, **base, **more}


# --- what it is made of ----------------------------------------------------------------------------


def test_the_definitions_are_sound_and_evaluated_by_this_release() -> None:
    definitions = load_paths([DEFINITIONS], ENV, KINDS)
    assert unsupported(definitions) == []
    assert set(definitions.audiences) == {SHOW, HIDE}


def test_the_example_is_what_the_demo_runs() -> None:
    assert (ROOT / "examples" / "definitions.yaml").read_bytes() == DEFINITIONS.read_bytes()
    assert Path(cluster.demo.__file__).parent in DEFINITIONS.parents


def test_customers_are_the_same_in_every_run_and_about_half_are_worthy(tmp_path: Path) -> None:
    customers = make_customers(10_000)
    assert customers == make_customers(10_000)
    assert 0.4 < len(customers.worthy) / 10_000 < 0.6
    write_traits(customers, tmp_path / "users.parquet")
    table = pq.read_table(tmp_path / "users.parquet")
    assert table.num_rows == 10_000
    assert table.column("user_id").to_pylist()[:2] == ["shopper_00001", "shopper_00002"]
    worthy = [row["user_id"] for row in table.to_pylist() if row["ltv"] > WORTHY_LTV]
    assert worthy == customers.worthy


def test_the_shipped_traits_are_those_of_the_customers(tmp_path: Path) -> None:
    write_traits(make_customers(SHIPPED_COUNT), tmp_path / "users.parquet")
    assert pq.read_table(SHIPPED_TRAITS).equals(pq.read_table(tmp_path / "users.parquet"))


def test_acts_come_in_order_at_a_steady_rate_and_some_are_late_orders() -> None:
    shoppers = Shoppers(["a", "b", "c"], Random(1))
    acts = [act for step in range(1, 1201) for act in shoppers.due(step * 0.05)]
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)
    assert 15 < len(acts) / 60 < 45
    late = [act for act in acts if act.age_ms]
    assert late
    assert all(act.event == ORDERED and 0 < 5 * 60_000 - act.age_ms <= 14_000 for act in late)


def test_an_act_is_a_segment_track_call() -> None:
    body = track_body(ordered(0, "ann", 9.5, channel="web", age_ms=1_500), START_MS)
    assert (body["type"], body["userId"], body["event"]) == ("track", "ann", "Order Completed")
    assert body["timestamp"] == "2025-11-30T15:59:58.500Z"
    assert body["sentAt"] == "2025-11-30T16:00:00.000Z"


# --- the board -------------------------------------------------------------------------------------


def test_a_delay_is_counted_from_the_last_post_that_began_before_the_change() -> None:
    board = Board()
    board.sending("ann", START_MS - 500, 1_000.0)
    board.sending("ann", START_MS - 3, 1_497.0)
    board.sending("ann", START_MS + 400, 1_900.0)
    seen = board.received(change(), START_MS + 20, 1_520.0)
    assert seen is not None
    assert seen.delay_ms == 23.0
    assert board.event_delays_ms == [23.0]


def test_a_change_by_time_is_late_against_its_due_time() -> None:
    board = Board()
    seen = board.received(change(cause="time", kind="exited"), START_MS + 31, 5.0)
    assert seen is not None
    assert board.time_delays_ms == [31.0]
    assert (board.tallies[HIDE].entered, board.tallies[HIDE].exited) == (0, 1)


def test_a_change_that_comes_twice_counts_once() -> None:
    board = Board()
    assert board.received(change(), START_MS, 0.0) is not None
    assert board.received(change(), START_MS, 0.0) is None
    assert (board.tallies[HIDE].entered, board.repeated) == (1, 1)


def test_percentiles() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(value) for value in range(101)], 0.99) == 99.0


# --- the receiver ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "age_s", "status"), [("right", 0, 204), ("wrong", 0, 401), ("right", 600, 401)]
)
def test_only_fresh_and_rightly_signed_webhooks_count(secret: str, age_s: int, status: int) -> None:
    body = b'{"type": "audience.changes", "sync": "s", "changes": []}'
    timestamp = START_MS // 1000 - age_s
    headers = {
        "webhook-id": "m1", "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1,bad " + sign(signing_key(secret), "m1", timestamp, body),
    }  # fmt: skip

    async def post() -> tuple[int, Board]:
        board = Board()
        receiver = Receiver("right", board, ManualClock(START_MS), lambda seen: None)
        url = await receiver.start()
        try:
            async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as response:
                return response.status, board
        finally:
            await receiver.stop()

    answered, board = asyncio.run(post())
    assert answered == status
    assert (board.webhooks, board.bad_signatures) == ((1, 0) if status == 204 else (0, 1))


# --- the followed shopper --------------------------------------------------------------------------


class Shop:
    """A perfect Usher for one shopper, whose parts can be made to fail."""

    def __init__(self, *, api_lies: bool = False, silent: bool = False) -> None:
        self.now: Memberships = {SHOW: False, HIDE: False}
        self.api_lies = api_lies
        self.silent = silent
        self.followed = Followed("ann", self.send, self.lookup, lambda line: None, self.pause)

    async def send(self, act: Act) -> bool:
        before = dict(self.now)
        self.now = {SHOW: act.event != ORDERED, HIDE: act.event == ORDERED}
        for audience in (SHOW, HIDE):
            if before[audience] != self.now[audience] and not self.silent:
                kind = "entered" if self.now[audience] else "exited"
                self.followed.on_change(Seen(audience, "ann", kind, "event", START_MS, 12.0))
        return True

    async def lookup(self, user: str) -> Memberships:
        return {SHOW: True, HIDE: False} if self.api_lies else dict(self.now)

    async def pause(self, seconds: float) -> None:
        return None


def test_the_story_is_right_when_webhooks_and_api_agree() -> None:
    story = asyncio.run(Shop().followed.play(1.0))
    assert story.right
    assert (story.before, story.after) == ({SHOW: True, HIDE: False}, {SHOW: False, HIDE: True})


def test_the_story_is_wrong_when_the_api_says_otherwise_after_the_purchase() -> None:
    story = asyncio.run(Shop(api_lies=True).followed.play(1.0))
    assert not story.right
    assert "after the purchase" in story.wrong[0]


def test_the_story_is_wrong_when_no_webhook_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.demo.followed._WEBHOOK_WAIT_S", 0.01)
    story = asyncio.run(Shop(silent=True).followed.play(1.0))
    assert not story.right
    assert any("no webhook" in reason for reason in story.wrong)


# --- the screens -----------------------------------------------------------------------------------


def full_board() -> Board:
    board = Board()
    board.sending("ann", START_MS, 0.0)
    for number in range(30):
        board.received(change(f"t{number}", kind="exited" if number % 2 else "entered"), START_MS + 20, 20.0)
    return board


@pytest.mark.parametrize("width", [80, 140])
def test_the_live_view_fits_the_terminal(width: int) -> None:
    shop = Shop()
    asyncio.run(shop.followed.play(1.0))
    console = Console(width=width, height=40, file=io.StringIO(), force_terminal=True, color_system=None)
    screen = LiveScreen(console, full_board(), shop.followed.story)
    screen.starting("compiling")
    screen.started("http://127.0.0.1:1", 1.0, "Ctrl-C ends it")
    screen.refresh(3.0, 30.0)
    screen.close()
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    shown = "\n".join(lines)
    for part in ("following ann", "BUYS", "+20 ms", "promo_eligible", "p99 20 ms", "Ctrl-C ends it"):
        assert part in shown


def test_the_plain_view_prints_few_lines_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    board = full_board()
    screen = PlainScreen(board)
    for seen in board.latest:
        screen.change(seen)
    screen.line("ann BUYS")
    screen.refresh(6.0, 30.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + 1 + 1
    assert "entered hide_promo" in "".join(lines)


def test_the_summary_says_what_happened_and_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop()
    story = asyncio.run(shop.followed.play(1.0))
    print_summary(full_board(), story, drained=True, keep=False)
    shown = capsys.readouterr().out
    assert "usher demo --keep" in shown
    assert "in promo_eligible, not in hide_promo" in shown
    assert "webhooks and API" in shown
    assert delays_text(Board()) == "no webhook yet"



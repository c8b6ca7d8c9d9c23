"""More evaluators and fewer, while events come: nobody is lost, nothing is made twice, and the next run goes on so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.live.conftest import write_definitions
from tests.live.shoppers import Shoppers, evaluators, files_of, scaled
from tests.live.usher import Receiver, Usher, assert_nothing_sent_twice_under_another_id, eventually, kinds

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]


def test_users_move_to_other_evaluators_while_events_come(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.start()
    usher = Usher(tmp_path / "data", definitions=[str(write_definitions(tmp_path, receiver.url))], evaluators=1)
    shoppers = Shoppers(usher)
    try:
        usher.await_ready()
        code, refused = usher.request("POST", "/api/v1/scale", {"evaluators": 65})
        assert (code, "1 to 64" in refused["detail"]) == (422, True), refused
        usher.track_surely("rich-1", "order_completed", "m-rich-1", channel="app")
        shoppers.start()
        eventually("some have bought", lambda: len(shoppers.taken) > 20)
        assert scaled(usher, 2)["pause_ms"] < 5_000
        eventually("only those at work are left", lambda: evaluators(usher).keys() == {"evaluator-1", "evaluator-2"})
        eventually("its files are gone", lambda: not files_of(usher, "evaluator-0"))
        before = len(shoppers.taken)
        eventually("more have bought", lambda: len(shoppers.taken) > before + 20)
        # A heir that dies on its way changes nothing but the time it takes.
        usher.request("POST", "/api/v1/scale", {"evaluators": 3})
        killed = usher.pid(sorted(evaluators(usher))[-1])
        os.kill(killed, signal.SIGKILL)
        scaled(usher, 3)
        shoppers.stop()
        assert shoppers.wrong == []
        for user in shoppers.taken:
            eventually(f"{user} came and went", lambda user=user: len(kinds(receiver, user, "hide_promo")) == 2)
            assert kinds(receiver, user, "hide_promo") == ["entered", "exited"]
        eventually("rich-1 came", lambda: kinds(receiver, "rich-1", "rich_buyers") == ["entered"])
        assert usher.is_member("rich_buyers", "rich-1") is True
        assert usher.request("GET", "/api/v1/audiences/rich_buyers/memberships/rich-1?detail=1")[1]["since"]
        status = usher.status()
        assert status["events"]["accepted"] == len(shoppers.taken) + 1
        assert_nothing_sent_twice_under_another_id(receiver)
        assert usher.stop() == 0, usher.lines
        again = Usher(usher.data_dir)
        try:
            again.await_ready()
            assert len([state for state in evaluators(again).values() if state == "live"]) == 3
            assert again.is_member("rich_buyers", "rich-1") is True
            assert again.stop() == 0, again.lines
        finally:
            again.close()
    finally:
        shoppers._enough.set()
        usher.close()
        receiver.stop()

"""Several Ray nodes on this machine: evaluators spread, an edge on each, a node lost under load, one added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.brokers import brokers
from tests.live.conftest import write_definitions
from tests.live.nodes import RayNodes
from tests.live.shoppers import Shoppers, scaled
from tests.live.usher import (
    Receiver,
    Usher,
    assert_nothing_sent_twice_under_another_id,
    eventually,
    is_gone,
    kinds,
)

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


def actors(usher: Usher, kind: str) -> list[dict[str, Any]]:
    return [row for row in usher.status()["actors"] if row["kind"] == kind]


def nodes_of_evaluators(usher: Usher) -> dict[str, str]:
    """The nodes of those that work."""
    return {row["name"]: row["node"] for row in actors(usher, "evaluator") if row["state"] == "live"}


def urls(usher: Usher) -> dict[str, str]:
    """Where each node's edge listens."""
    return {row["node"]: row["url"] for row in actors(usher, "edge") if row.get("url")}


def at(usher: Usher, url: str, path: str) -> Any:
    """Ask the edge of another node."""
    home, usher.url = usher.url, url
    try:
        return usher.request("GET", path)
    finally:
        usher.url = home


def test_a_lost_node_loses_nothing_and_a_new_one_takes_its_part(tmp_path: Path) -> None:
    receiver = Receiver()
    receiver.start()
    (tmp_path / "ray").mkdir()
    ray = RayNodes(tmp_path / "ray")
    config = tmp_path / "kafka.properties"
    config.write_text("fetch.wait.max.ms=2\n")
    with brokers() as running:
        for index in range(8):
            running.make_topic(f"nodes.evaluator-{index}")
            running.make_topic(f"nodes.evaluator-{index}.transitions")
        first, lost = ray.add(), ray.add()
        usher = Usher(
            tmp_path / "data", definitions=[str(write_definitions(tmp_path, receiver.url))], evaluators=3,
            address=ray.address, ray=ray.environment, state_uri=str(tmp_path / "state"),
            log=f"kafka://{running.bootstrap}/nodes?config={config}",
        )  # fmt: skip
        shoppers = Shoppers(usher)
        try:
            usher.await_ready()
            home = next(row["node"] for row in actors(usher, "controller"))
            eventually("one is on each node", lambda: set(nodes_of_evaluators(usher).values()) == {home, first, lost})
            eventually("an edge is on each node", lambda: urls(usher).keys() == {home, first, lost})
            usher.track_surely("rich-1", "order_completed", "m-rich-1", channel="app")
            eventually("rich-1 is in", lambda: usher.is_member("rich_buyers", "rich-1"))
            for url in urls(usher).values():
                assert at(usher, url, "/api/v1/audiences/rich_buyers/memberships/rich-1") == (200, {"isMember": True})
                code, seen = at(usher, url, "/api/v1/events/seen")
                assert (code, seen["silent_processes"]) == (200, 0)
                assert [(row["name"], row["count"]) for row in seen["events"]] == [("order_completed", 1)]
            shoppers.start()
            eventually("some have bought", lambda: len(shoppers.taken) > 20)

            ray.kill(lost)
            eventually("all are at work elsewhere", lambda: (
                len(nodes_of_evaluators(usher)) == 3 and lost not in nodes_of_evaluators(usher).values()
            ))  # fmt: skip
            eventually("its edge is forgotten", lambda: urls(usher).keys() == {home, first})
            before = len(shoppers.taken)
            eventually("more have bought", lambda: len(shoppers.taken) > before + 20)
            assert usher.is_member("rich_buyers", "rich-1") is True

            added = ray.add()
            eventually("it has an edge", lambda: added in urls(usher))
            scaled(usher, 4)
            eventually("it has evaluators", lambda: added in nodes_of_evaluators(usher).values())
            before = len(shoppers.taken)
            eventually("more have bought", lambda: len(shoppers.taken) > before + 20)

            zombies = [row["pid"] for row in actors(usher, "evaluator") if row["node"] == first]
            ray.hang(first)
            eventually("all are at work elsewhere", lambda: (
                len(nodes_of_evaluators(usher)) == 4 and first not in nodes_of_evaluators(usher).values()
            ))  # fmt: skip
            before = len(shoppers.taken)
            eventually("more have bought", lambda: len(shoppers.taken) > before + 20)
            ray.wake(first)
            eventually("those that hung have ended", lambda: zombies and all(map(is_gone, zombies)))
            shoppers.stop()
            assert shoppers.wrong == []
            for user in shoppers.taken:
                eventually(f"{user} came and went", lambda user=user: len(kinds(receiver, user, "hide_promo")) == 2)
                assert kinds(receiver, user, "hide_promo") == ["entered", "exited"]
            assert usher.status()["events"]["accepted"] == len(shoppers.taken) + 1
            assert usher.is_member("rich_buyers", "rich-1") is True
            assert_nothing_sent_twice_under_another_id(receiver)
            assert usher.stop() == 0, usher.lines
        finally:
            shoppers._enough.set()
            usher.close()
            receiver.stop()
            ray.close()

"""An edge on each node, evaluators spread, and what a lost node had made anew on the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cluster.checkpoints.settings import CheckpointSettings
from cluster.errors import InputError
from cluster.log.settings import LogSettings
from cluster.runtime.nodes import Node
from cluster.runtime.placement import first_placement
from cluster.runtime.plan import Plan
from cluster.runtime.sites import Sites

PLAN = Plan("/data", 1, "127.0.0.1", 8080, "home", "/sockets", "/", first_placement(8, 3), ingest_edges=1)
SPREAD = replace(PLAN, log=LogSettings("kafka://broker/live"), checkpoints=CheckpointSettings("s3://bucket"))


class Ray:
    """Nodes that come and go, and the processes on them."""

    def __init__(self, *names: str) -> None:
        self.nodes = {name: Node(name, f"10.0.0.{number}") for number, name in enumerate(names)}
        #: By name: the node, and the port that it was given.
        self.made: dict[str, tuple[str, int]] = {}
        self.still_named: set[str] = set()
        #: Nodes that hang.
        self.hung: set[str] = set()

    def start(self, names: Sequence[str], plan: Plan, node_id: str) -> None:
        for name in names:
            if name in self.made or name in self.still_named:
                message = f"{name} is there"
                raise InputError(message)
            self.made[name] = (node_id, plan.port)

    def forget(self, name: str) -> None:
        del self.made[name]

    def answers(self, name: str) -> bool:
        return name in self.made and self.made[name][0] not in self.hung

    def replace(self, name: str, node_id: str | None = None) -> bool:
        if name not in self.made:
            return False
        before, port = self.made[name]
        self.made[name] = (node_id or before, port)
        return True

    def reported(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": node.id, "NodeManagerAddress": node.address, "Alive": True} for node in self.nodes.values()
        ]

    def on(self, node: str) -> set[str]:
        return {name for name, (place, _) in self.made.items() if place == node}


def running(plan: Plan, ray: Ray) -> Sites:
    sites = Sites(plan, ray, ray.reported)
    sites.start_at_home(["controller"])
    sites.start_evaluators(plan.evaluator_names())
    sites.start_edges()
    return sites


def test_every_node_has_an_edge_and_its_part_of_the_evaluators() -> None:
    ray = Ray("home", "a", "b")
    sites = running(SPREAD, ray)
    assert ray.on("home") == {"controller", "evaluator-0", "edge-front", "edge-ingest-0"}
    assert ray.on("a") == {"evaluator-1", "edge-front@a", "edge-ingest-0@a"}
    assert ray.on("b") == {"evaluator-2", "edge-front@b", "edge-ingest-0@b"}
    assert sites.edges[:2] == ["edge-front", "edge-ingest-0"]
    assert sites.follow() == []


def test_evaluators_stay_beside_what_they_keep_in_the_data_dir() -> None:
    for plan in (PLAN, replace(SPREAD, log=LogSettings()), replace(SPREAD, checkpoints=CheckpointSettings())):
        ray = Ray("home", "a")
        running(plan, ray)
        assert {"evaluator-0", "evaluator-1", "evaluator-2"} <= ray.on("home")
        assert ray.on("a") == {"edge-front@a", "edge-ingest-0@a"}


def test_what_was_on_a_lost_node_is_made_anew_on_the_others() -> None:
    ray = Ray("home", "a", "b")
    sites = running(SPREAD, ray)
    del ray.nodes["a"]
    assert sites.follow() == ["node a at 10.0.0.1 is lost", "evaluator-1: made anew"]
    assert ray.on("a") == set()
    assert len(ray.made) == 1 + 3 + 4
    assert sites.edges == ["edge-front", "edge-ingest-0", "edge-front@b", "edge-ingest-0@b"]
    assert sites.follow() == []


def test_one_that_is_not_wanted_any_more_is_not_made_anew() -> None:
    ray = Ray("home", "a")
    sites = running(SPREAD, ray)
    del ray.nodes["a"]
    ray.still_named = {"evaluator-1"}
    sites.follow()
    sites.forget_evaluator("evaluator-1")
    ray.still_named = set()
    assert sites.follow() == []
    assert sites.evaluators == {"evaluator-0", "evaluator-2"}


def test_nothing_is_made_of_a_ray_that_does_not_know_where_we_are() -> None:
    ray = Ray("home", "a")
    sites = running(SPREAD, ray)
    ray.nodes.clear()
    assert sites.follow() == []
    assert len(ray.made) == 1 + 3 + 4


def test_a_name_that_ray_has_not_let_go_yet_is_tried_again() -> None:
    ray = Ray("home", "a")
    sites = running(SPREAD, ray)
    del ray.nodes["a"]
    ray.still_named = {"evaluator-1"}
    assert sites.follow() == ["node a at 10.0.0.1 is lost"]
    assert sites.evaluators == {"evaluator-0", "evaluator-1", "evaluator-2"}, "nobody else makes it meanwhile"
    ray.still_named = set()
    assert sites.follow() == ["evaluator-1: made anew"]
    assert sites.evaluators == {"evaluator-0", "evaluator-1", "evaluator-2"}
    assert ray.on("home") >= {"evaluator-0", "evaluator-1", "evaluator-2"}


def test_a_node_that_joins_gets_an_edge_and_the_next_evaluators() -> None:
    ray = Ray("home")
    sites = running(SPREAD, ray)
    ray.nodes["late"] = Node("late", "10.0.0.9")
    assert sites.follow() == ["edge-front@late: started", "edge-ingest-0@late: started"]
    sites.start_evaluators(["evaluator-3", "evaluator-4"])
    assert {"evaluator-3", "evaluator-4"} <= ray.on("late")
    sites.forget_evaluator("evaluator-0")
    assert sites.evaluators == {"evaluator-1", "evaluator-2", "evaluator-3", "evaluator-4"}


def test_nodes_of_one_machine_do_not_share_a_port() -> None:
    ray = Ray("home", "a")
    ray.nodes["a"] = Node("a", ray.nodes["home"].address)
    running(PLAN, ray)
    assert ray.made["edge-front"][1] == 8080
    assert ray.made["edge-front@a"][1] == 0


def test_a_silent_evaluator_is_replaced_on_its_node_unless_that_hangs() -> None:
    ray = Ray("home", "a", "b")
    sites = running(SPREAD, ray)
    assert sites.replace("evaluator-1")
    assert "evaluator-1" in ray.on("a")
    ray.hung = {"a"}
    assert sites.replace("evaluator-1")
    assert ray.on("a") == {"edge-front@a", "edge-ingest-0@a"}
    assert "evaluator-1" in ray.on("home")
    del ray.nodes["a"]
    assert sites.follow() == ["node a at 10.0.0.1 is lost"], "it is on another already"


def test_whoever_is_bound_to_a_node_is_replaced_there() -> None:
    ray = Ray("home", "a")
    sites = running(SPREAD, ray)
    ray.hung = {"a"}
    assert sites.replace("edge-front@a")
    assert sites.replace("controller")
    assert "edge-front@a" in ray.on("a")
    assert not sites.replace("evaluator-9")
    at_home = running(PLAN, beside := Ray("home", "a"))
    beside.hung = {"home"}
    assert at_home.replace("evaluator-0")
    assert "evaluator-0" in beside.on("home")
    alone = running(SPREAD, only := Ray("home"))
    only.hung = {"home"}
    assert alone.replace("evaluator-0")
    assert "evaluator-0" in only.on("home")

"""The controller's shell over a real file and the real parser; evaluators are small fakes."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.clock import ManualClock
from cluster.definitions.model import Published
from cluster.keys import hash_key
from cluster.runtime import controller as controller_module
from cluster.runtime.controller import ControllerActor
from cluster.runtime.data_dir import DataDir
from cluster.runtime.protocols import EvaluatorInfo, Reply
from cluster.runtime.status_report import Peers
from tests.cluster.runtime.building import machine

NO_WAIT_MS = 0


class Evaluator:
    """Takes publications, or refuses the first few, or never answers."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.taken: list[int] = []
        #: What was asked, in order.
        self.asked: list[tuple[str, int]] = []
        #: Preparations end only while it is set.
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def prepare(self, published: Published) -> Reply:
        self.asked.append(("prepare", published.version))
        if self.refusals:
            self.refusals -= 1
            return {"error": "unreachable", "message": "restarting", "retry_after_ms": 1}
        await self.may_end.wait()
        return {"version": published.version}

    async def publish(self, published: Published) -> Reply:
        self.asked.append(("publish", published.version))
        self.taken.append(published.version)
        return {"clock_ms": 1, "seq": published.version}

    async def status(self) -> Reply:
        return {"pid": 9, "audiences": {}}


def document(*audiences: str, partitions: int = 8, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "settings": {"partitions": partitions},
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": [
            {"id": "bought", "parent": "users", "event": "bought", "foreign_key": "user_id", "timestamp": "timestamp"}
        ],
        "audiences": [
            {"id": name, "parent": "users", "where": {"event": "bought", "within": "5m"}} for name in audiences
        ],
        **more,
    }


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller_module, "PUBLISH_RETRY_MS", 1)
    monkeypatch.setattr(controller_module, "PUBLISH_WAIT_MS", 30)


class Bench:
    """A controller over `tmp_path`; `restart` is what kill -9 and Ray make of it."""

    def __init__(self, path: Path, clock: ManualClock, *evaluators: Evaluator) -> None:
        self.path, self.clock, self.evaluators = path, clock, evaluators or (Evaluator(),)

    async def start(self) -> ControllerActor:
        peers: Any = Peers(dict(enumerate(self.evaluators)), Evaluator(), Evaluator())  # type: ignore[arg-type]
        state = machine(evaluators=len(self.evaluators), settings={"url": "http://x"})
        controller = ControllerActor(state, DataDir(self.path), peers, clock=self.clock)
        await controller.start()
        return controller


def run(
    path: Path, clock: ManualClock, body: Callable[[ControllerActor, Bench], Awaitable[None]], *evaluators: Evaluator
) -> None:
    async def main() -> None:
        bench = Bench(path, clock, *evaluators)
        controller = await bench.start()
        await body(controller, bench)
        await controller.drain()

    asyncio.run(main())


def test_apply_answers_once_every_evaluator_has_taken_it(tmp_path: Path, clock: ManualClock) -> None:
    slow = Evaluator(refusals=3)

    async def body(controller: ControllerActor, bench: Bench) -> None:
        reply = await controller.apply(document("vip"), "d.yaml", "replace")
        assert reply["version"] == 1
        assert {"kind": "audiences", "id": "vip", "change": "added"} in reply["changes"]
        assert "preparing" not in reply
        state = await controller.state_after(-1, NO_WAIT_MS)
        assert state.published is not None
        assert state.published.version == 1

    run(tmp_path, clock, body, Evaluator(), slow)
    assert slow.taken == [1]


def test_apply_answers_preparing_when_an_evaluator_stays_away(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        reply = await controller.apply(document("vip"), "d.yaml", "replace")
        assert reply["preparing"] == ["vip"]
        assert reply["waits_for"] == ["evaluator-1"]
        assert "restarting" in reply["message"]
        state = await controller.state_after(-1, NO_WAIT_MS)
        assert state.published is None
        assert state.preparing == ("vip",)
        bench.evaluators[1].refusals = 0
        while (await controller.state_after(state.revision, 1_000)).published is None:
            pass

    run(tmp_path, clock, body, Evaluator(), Evaluator(refusals=1_000_000))


def test_no_evaluator_switches_before_all_have_prepared(tmp_path: Path, clock: ManualClock) -> None:
    quick, slow = Evaluator(), Evaluator()

    async def body(controller: ControllerActor, bench: Bench) -> None:
        slow.may_end.clear()
        reply = await controller.apply(document("vip"), "d.yaml", "replace")
        assert (reply["preparing"], reply["waits_for"]) == (["vip"], ["evaluator-1"])
        assert quick.asked == slow.asked == [("prepare", 1)]
        slow.may_end.set()
        while (await controller.state_after(-1, NO_WAIT_MS)).published is None:
            await asyncio.sleep(0)
        assert quick.asked == slow.asked == [("prepare", 1), ("publish", 1)]

    run(tmp_path, clock, body, quick, slow)


def test_a_newer_publication_is_prepared_at_once_in_place_of_one_that_takes_long(
    tmp_path: Path, clock: ManualClock
) -> None:
    first, second = Evaluator(), Evaluator()

    async def body(controller: ControllerActor, bench: Bench) -> None:
        first.may_end.clear()
        await controller.apply(document("vip"), "d.yaml", "replace")
        later = asyncio.create_task(controller.apply(document("vip", "new"), "d.yaml", "replace"))
        while first.asked[-1] != ("prepare", 2):
            await asyncio.sleep(0)
        first.may_end.set()
        assert "preparing" not in await later
        for evaluator in (first, second):
            assert evaluator.asked == [("prepare", 1), ("prepare", 2), ("publish", 2)]

    run(tmp_path, clock, body, first, second)


def test_an_evaluator_that_refuses_to_prepare_puts_the_switch_off_for_all(tmp_path: Path, clock: ManualClock) -> None:
    well, ill = Evaluator(), Evaluator(refusals=2)

    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        assert well.asked == [("prepare", 1)] * 3 + [("publish", 1)]

    run(tmp_path, clock, body, well, ill)


def test_an_evaluator_that_starts_during_a_publication_takes_what_is_in_force(
    tmp_path: Path, clock: ManualClock
) -> None:
    slow = Evaluator()

    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        slow.may_end.clear()
        await controller.apply(document("vip", "new"), "d.yaml", "replace")
        starting = await controller.starting_definitions()
        assert starting is not None
        assert starting.version == 1
        slow.may_end.set()

    run(tmp_path, clock, body, slow)


def test_a_faulty_document_changes_nothing_and_names_every_fault(tmp_path: Path, clock: ManualClock) -> None:
    bad = document("vip")
    bad["audiences"][0]["where"] = {"event": "unknown", "within": "5m"}
    bad["syncs"] = [{"id": "s", "audience": "nobody", "destination": "nowhere", "identifiers": {"a": "b"}}]

    async def body(controller: ControllerActor, bench: Bench) -> None:
        before = await controller.state_after(-1, NO_WAIT_MS)
        reply = await controller.apply(bad, "d.yaml", "replace")
        assert reply["error"] == "invalid"
        assert len(reply["faults"]) >= 2
        assert set(reply["faults"][0]) == {"file", "path", "message", "found", "allowed"}
        assert (await controller.state_after(-1, NO_WAIT_MS)).revision == before.revision
        assert (await controller.audit(10))["rows"][0]["action"] == "create_key"

    run(tmp_path, clock, body)


def test_what_this_release_does_not_carry_out_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    later = document("vip")
    later["sources"] = [{"id": "shop", "kind": "file"}]

    async def body(controller: ControllerActor, bench: Bench) -> None:
        reply = await controller.apply(later, "d.yaml", "replace")
        assert reply["error"] == "invalid"
        assert "usher ingest" in reply["faults"][0]["message"]

    run(tmp_path, clock, body)


def test_another_number_of_partitions_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        reply = await controller.apply(document("vip", partitions=16), "d.yaml", "replace")
        assert reply["faults"][0]["path"] == "settings.partitions"

    run(tmp_path, clock, body)


def test_applying_the_same_again_publishes_nothing(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        reply = await controller.apply(document("vip"), "d.yaml", "replace")
        assert reply["version"] == 1
        assert {change["change"] for change in reply["changes"]} == {"unchanged"}
        assert bench.evaluators[0].taken == [1]

    run(tmp_path, clock, body)


def test_merge_keeps_what_the_document_does_not_name(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        extra = {"version": 1, "audiences": document("new")["audiences"]}
        await controller.apply(extra, "d.yaml", "merge")
        state = await controller.state_after(-1, NO_WAIT_MS)
        assert state.published is not None
        assert list(state.published.definitions.audiences) == ["vip", "new"]

    run(tmp_path, clock, body)


def test_plan_tells_the_changes_and_makes_none(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        reply = await controller.plan(document("vip"), "d.yaml", "replace")
        assert {"kind": "audiences", "id": "vip", "change": "added"} in reply["changes"]
        assert (await controller.state_after(-1, NO_WAIT_MS)).published is None
        assert bench.evaluators[0].taken == []

    run(tmp_path, clock, body)


def test_a_long_poll_ends_with_the_change(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        revision = (await controller.state_after(-1, NO_WAIT_MS)).revision
        waiting = asyncio.create_task(controller.state_after(revision, 60_000))
        await asyncio.sleep(0)
        await controller.create_key("read", "ci")
        assert len((await waiting).keys) == 2

    run(tmp_path, clock, body)


def test_everybody_learns_where_an_evaluator_starts_also_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        revision = (await controller.state_after(-1, NO_WAIT_MS)).revision
        waiting = asyncio.create_task(controller.state_after(revision, 60_000))
        await asyncio.sleep(0)
        there = EvaluatorInfo(1, "evaluator-1", "another", "/elsewhere")
        start = await controller.starting_evaluator(1, there)
        assert start.partitions == (4, 5, 6, 7)
        assert (await waiting).evaluators[1] == there
        revision = (await controller.state_after(-1, NO_WAIT_MS)).revision
        await controller.starting_evaluator(1, there)
        assert (await controller.state_after(-1, NO_WAIT_MS)).revision == revision, "nothing is new in that"
        await controller.drain()
        after = await (await bench.start()).state_after(-1, NO_WAIT_MS)
        assert after.evaluators[1] == there
        assert after.evaluators[0].node_id == "node"

    run(tmp_path, clock, body, Evaluator(), Evaluator())


def test_the_launcher_says_which_edges_there_are(tmp_path: Path, clock: ManualClock) -> None:
    class Parts(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            self[name] = Evaluator()
            return self[name]

    async def body(controller: ControllerActor, bench: Bench) -> None:
        controller._peers = replace(controller._peers, edges=Parts(gone=Evaluator()))
        assert await controller.processes(["edge-front", "edge-front@a"]) == {"evaluators": [0]}
        shown = [row["name"] for row in (await controller.status())["actors"] if row["kind"] == "edge"]
        assert shown == ["edge-front", "edge-front@a"]

    run(tmp_path, clock, body)


def test_the_first_start_makes_one_admin_key_shown_once(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        key = await controller.take_first_admin_key()
        assert key is not None
        assert await controller.take_first_admin_key() is None
        file = tmp_path / "admin.key"
        assert file.read_text().strip() == key
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        [record] = (await controller.state_after(-1, NO_WAIT_MS)).keys
        assert (record.role, record.hash_hex) == ("admin", hash_key(key))
        await controller.drain()
        again = await bench.start()
        assert await again.take_first_admin_key() is None
        assert (await again.state_after(-1, NO_WAIT_MS)).keys == (record,)
        assert file.read_text().strip() == key

    run(tmp_path, clock, body)


def test_keys_are_stored_as_hashes_and_a_revoked_one_is_gone(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        made = await controller.create_key("ingest", "shop")
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("controller.db*"))
        assert made["key"].encode() not in stored
        assert hash_key(made["key"]).encode() in stored
        assert await controller.revoke_key(made["id"]) == {"revoked": True}
        assert await controller.revoke_key(made["id"]) == {"revoked": False}
        assert made["id"] not in [key.id for key in (await controller.state_after(-1, NO_WAIT_MS)).keys]

    run(tmp_path, clock, body)


def test_a_restart_has_the_same_definitions_versions_and_keys(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        before = await controller.state_after(-1, NO_WAIT_MS)
        await controller.drain()
        after = await (await bench.start()).state_after(before.revision, NO_WAIT_MS)
        assert after.published == before.published
        assert after.keys == before.keys
        assert after.revision > before.revision

    run(tmp_path, clock, body)


def test_a_restart_in_mid_publication_finishes_it(tmp_path: Path, clock: ManualClock) -> None:
    late = Evaluator(refusals=1_000_000)

    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        await controller.drain()
        late.refusals = 0
        again = await bench.start()
        newest = await again.starting_definitions()
        assert newest is not None
        assert newest.version == 1
        revision = -1
        while (state := await again.state_after(revision, 1_000)).published is None:
            revision = state.revision
        assert late.taken == [1]

    run(tmp_path, clock, body, late)


def test_audit_says_who_applied_what(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace", "ada")
        row = (await controller.audit(1))["rows"][0]
        assert (row["who"], row["action"], row["subject"]) == ("ada", "apply", "version 1")
        assert row["at_ms"] == clock.now_ms()
        assert "audiences vip added" in row["detail"]

    run(tmp_path, clock, body)


def test_status_is_json_and_names_its_parts(tmp_path: Path, clock: ManualClock) -> None:
    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip"), "d.yaml", "replace")
        status = json.loads(json.dumps(await controller.status()))
        assert [row["name"] for row in status["actors"]] == ["controller", "evaluator-0", "delivery", "traits"]
        assert status["audiences"][0]["id"] == "vip"

    run(tmp_path, clock, body)


def test_a_fault_is_where_its_sender_wrote_it_and_an_object_in_force_is_named(
    tmp_path: Path, clock: ManualClock
) -> None:
    odd = {"id": "odd", "parent": "users", "where": {"event": "bought", "since": "yesterday"}}

    async def body(controller: ControllerActor, bench: Bench) -> None:
        await controller.apply(document("vip", "other"), "d.yaml", "replace")
        reply = await controller.apply({"version": 1, "audiences": [odd]}, "PUT", "merge")
        assert [(row["file"], row["path"]) for row in reply["faults"]] == [("PUT", "audiences[0].where.since")]
        moved = {"id": "bought", "parent": "users", "event": "bought", "foreign_key": "user_id", "retention": "1m"}
        reply = await controller.apply({"version": 1, "event_models": [moved]}, "PUT", "merge")
        assert {row["file"] for row in reply["faults"]} == {"<in force>"}
        assert {row["path"].partition("]")[0] for row in reply["faults"]} == {"audiences[id=vip", "audiences[id=other"}

    run(tmp_path, clock, body)

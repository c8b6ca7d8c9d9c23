"""The verdict of live chaos finds what is wrong: each law is broken once, in data that is otherwise sound."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.chaos.clients import Record, Sent
from benchmarks.chaos.logs import Logged, Reference, comparable, sampled
from benchmarks.chaos.story import SYNCS, Shoppers, document, traits
from benchmarks.chaos.strikes import Strikes
from benchmarks.chaos.verdict import id_of, of_clients, of_deliveries, of_logs, of_membership
from benchmarks.machine import began, is_running, process_tree
from benchmarks.receiver import Delivery
from benchmarks.results import Check
from cluster.definitions.parsing import parse_document
from destinations.registry import KINDS
from destinations.times import iso_ms
from tests.conftest import START_MS
from tests.simulation.plans import Plan, make_plan
from tests.simulation.runner import run_plan
from tests.simulation.workload import CONDITIONS
from tests.simulation.world import Run

SECRET = "whsec_" + base64.b64encode(b"a secret that only this test has").decode()


def story() -> Plan:
    """A plan without faults and traits, whose audiences have the names that chaos gives them."""
    plan = make_plan(3, ())
    first = plan.documents[0][1]
    names = {audience: list(CONDITIONS)[place] for place, audience in enumerate(SYNCS.values())}
    audiences = [{"id": name, "parent": "users", "where": CONDITIONS[like]} for name, like in names.items()]
    syncs = [{**sync, "audience": audience} for sync, audience in zip(first["syncs"], SYNCS.values(), strict=False)]
    return plan.without(documents=[(0.0, {**first, "audiences": audiences, "syncs": syncs})], snapshots=[])


@pytest.fixture(scope="module")
def run() -> Run:
    result = run_plan(story())
    assert result.violations == []
    return result.run


@pytest.fixture
def logs(run: Run) -> list[Logged]:
    found = []
    for history in run.truth.histories.values():
        rows = [row for block in history.blocks for row in block.rows().to_pylist()]
        found.append(Logged(list(history.entries), rows))
    return found


@pytest.fixture(scope="module")
def record(run: Run) -> Record:
    rows = [{"timestamp": 0, **row} for request in run.plan.requests for row in request.rows]
    return Record(sent=[Sent(rows, 1, 0.0, 0.0)])


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


# --- clients ---------------------------------------------------------------------------------------------


def test_an_answer_that_never_came_and_a_wrong_one_fail() -> None:
    assert failed(of_clients(Record())) == []
    assert failed(of_clients(Record(given_up=3))) == ["every request was acknowledged at last"]
    assert len(failed(of_clients(Record(faults=["a look-up was wrong"])))) == 1


def test_membership_may_be_what_it_was_before_the_question_or_after_it_and_nothing_else() -> None:
    found = {"ann": {"buyers": True, "thrice": False}}
    buyer = ("buyers", "ann")
    assert of_membership(found, {buyer}, {buyer}).passed
    assert of_membership(found, {buyer}, set()).passed, "it ended in between"
    assert not of_membership(found, set(), set()).passed
    assert not of_membership(found, {buyer, ("thrice", "ann")}, {buyer, ("thrice", "ann")}).passed


# --- logs ------------------------------------------------------------------------------------------------


def judged(run: Run, logs: list[Logged], record: Record, more: int = 0) -> list[str]:
    rows = record.rows
    accepted = len(rows) + sum("gift_to" in row["properties"] for row in rows) + more
    return failed(of_logs(logs, record, accepted, Reference(), run.snapshots, run.until_ms))


def test_sound_logs_pass(run: Run, logs: list[Logged], record: Record) -> None:
    assert judged(run, logs, record) == []
    assert sum(len(logged.transitions) for logged in logs) > 5


def test_a_lost_event_and_one_that_counted_twice_fail(run: Run, logs: list[Logged], record: Record) -> None:
    more = replace(record, sent=[*record.sent, Sent([{**record.rows[0], "properties": {"mark": 999}}], 1, 0.0, 0.0)])
    assert judged(run, logs, more) == ["every acknowledged event is logged"]
    assert judged(run, logs, record, more=1) == ["no event was counted twice, none not at all"]


@pytest.mark.parametrize(
    ("spoil", "faults"),
    [
        (lambda rows: rows[:-1], 1),
        (lambda rows: [{**rows[0], "at": rows[0]["at"] + 1}, *rows[1:]], 1),
        (lambda rows: [*rows, rows[-1]], 2),
    ],
)
def test_a_transition_that_is_missing_off_by_a_ms_or_double_fails(
    run: Run, logs: list[Logged], record: Record, spoil: Callable[[list[Any]], list[Any]], faults: int
) -> None:
    spoilt = [Logged(logged.entries, spoil(list(logged.transitions))) for logged in logs]
    assert len(judged(run, spoilt, record)) == faults


def test_a_sample_is_the_same_everywhere() -> None:
    users = [f"user-{number}" for number in range(1_000)]
    tenth = [user for user in users if sampled(0.1)(user)]
    assert 50 < len(tenth) < 150
    assert tenth == [user for user in users if sampled(0.1)(user)]
    assert all(map(sampled(1.0), users))


# --- deliveries ------------------------------------------------------------------------------------------


def delivery(batch: str, sync: str, changes: list[dict[str, Any]], key: bytes = b"") -> Delivery:
    body = json.dumps({"type": "audience.changes", "sync": sync, "changes": changes}).encode()
    key = key or base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, f"{batch}.1.".encode() + body, hashlib.sha256).digest()).decode()
    head = f"POST / HTTP/1.1\r\nwebhook-id: {batch}\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,{signature}\r\n"
    return Delivery(0, 0.0, head.encode(), body)


def delivered(logs: list[Logged]) -> list[Delivery]:
    """Every change of every sync, each in a request of its own."""
    found = []
    for sync, audience in SYNCS.items():
        for logged in logs:
            for each in logged.transitions:
                if each["audience_id"] == audience:
                    change = {"transition_id": id_of(each), "user_id": each["user_id"], "kind": each["kind"],
                              "at": iso_ms(each["at"]), "n": each["n"]}  # fmt: skip
                    found.append(delivery(f"{sync}-{id_of(each)}", sync, [change]))
    return found


def test_all_that_was_logged_and_some_of_it_again_passes(logs: list[Logged]) -> None:
    sent = delivered(logs)
    assert len(sent) > 10
    assert failed(of_deliveries([*sent, *sent[::3]], SECRET, logs)) == []


def body_of(sent: Delivery) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sent.body)
    return content


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sent: [*sent[:-1], replace(sent[-1], body=sent[-1].body + b" ")], "is signed"),
        (lambda sent: [*sent, delivery("again", body_of(sent[0])["sync"], body_of(sent[0])["changes"])], "in two"),
        (lambda sent: [*sent, delivery(sent[0].header("webhook-id"), "net", [])], "same bytes"),
        (lambda sent: sent[1:], "every change was delivered"),
        (lambda sent: sent[::-1], "in order"),
        (lambda sent: sent[:-1], "has the members"),
    ],
)
def test_what_a_receiver_must_not_get_fails(
    logs: list[Logged], spoil: Callable[[list[Delivery]], list[Delivery]], said: str
) -> None:
    found = failed(of_deliveries(spoil(delivered(logs)), SECRET, logs))
    assert any(said in name for name in found), found


# --- what is sent, and who is struck -----------------------------------------------------------------------


def test_definitions_are_sound_and_no_two_events_happen_at_once() -> None:
    for other in (False, True):
        written = document("users.parquet", "http://127.0.0.1:1/hook", SECRET, other=other)
        assert len(parse_document(written, "chaos.json", KINDS).syncs) == len(SYNCS)
    shoppers = Shoppers(1)
    rows = [row for _ in range(200) for row in shoppers.request()]
    times = [row["timestamp"] for row in rows]
    assert len(set(times)) == len(times)
    assert times == sorted(times)
    assert len({row["message_id"] for row in rows}) == len(rows)
    assert traits(50, Random(1)).num_rows < 50


def test_the_reference_says_who_is_a_member_when() -> None:
    written = document("users.parquet", "http://127.0.0.1:1/hook", SECRET)
    row = {"type": "track", "event": "order", "user_id": "ann", "message_id": "m", "timestamp": START_MS,
           "properties": {"mark": 0, "channel": "web", "amount": 5}}  # fmt: skip
    now, later = Reference().members(written, [row], traits(1, Random(1)), [START_MS, START_MS + 2_000])
    assert {("buyers", "ann"), ("just_bought", "ann")} <= now
    assert ("buyers", "ann") in later
    assert ("just_bought", "ann") not in later


class Struck:
    """A stand-in whose one process is a sleeping child."""

    def __init__(self, data_dir: Path, child: subprocess.Popen[bytes]) -> None:
        self.data_dir = data_dir
        self.child = child
        self.signals: list[int] = []

    async def pid_of(self, prefix: str, choose: Callable[[list[str]], str]) -> tuple[str, int] | None:
        name = choose([f"{prefix or 'evaluator'}-0"])
        return (name, self.child.pid) if is_running(self.child.pid) else None

    def signal(self, pid: int, number: int) -> bool:
        self.signals.append(number)
        self.child.send_signal(number)
        return True

    def go_on(self) -> None:
        self.signals.append(signal.SIGCONT)


def test_a_process_is_killed_as_soon_as_its_log_is_written_to(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        try:
            struck: Any = Struck(tmp_path, child)
            nothing: Any = None
            strikes = Strikes(struck, nothing, nothing, Random(1), lambda text: None, 0.01)

            async def work() -> str:
                act = asyncio.create_task(strikes.acts()["kill evaluator in a commit"]())
                await asyncio.sleep(0.3)
                assert is_running(child.pid)
                (tmp_path / "evaluator-0.db-wal").write_bytes(b"x")
                return await act

            assert asyncio.run(work()) == "evaluator-0"
            assert child.wait(10) == -signal.SIGKILL
        finally:
            child.kill()


def test_a_deck_deals_every_kind_before_any_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    struck: Any = type("Struck", (), {"go_on": lambda self: None})()
    receiver: Any = type("Receiver", (), {"be": lambda self, mood: None})()
    strikes = Strikes(struck, receiver, nothing, Random(1), lambda text: None, 0.000_1)
    kinds = set(strikes.acts())

    async def done() -> str:
        return "somebody"

    def acts() -> dict[str, Any]:
        return dict.fromkeys(kinds, done)

    monkeypatch.setattr(Strikes, "acts", lambda self: acts())
    asyncio.run(strikes.run(time.monotonic() + 0.3))
    dealt = [kind for _, kind, _ in strikes.story]
    assert set(dealt[: len(kinds)]) == kinds


def test_processes_are_told_apart() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        try:
            assert child.pid in process_tree(os.getpid())
            assert is_running(child.pid)
            assert began(child.pid)
        finally:
            child.kill()
    assert not is_running(child.pid)
    assert began(child.pid) == ""


def test_transitions_are_compared_by_all_that_they_say() -> None:
    each = {"at": 1, "audience_id": "a", "user_id": "u", "n": 0, "kind": "entered", "cause": "event",
            "audience_version": 1}  # fmt: skip
    assert comparable(each) != comparable({**each, "cause": "time"})

"""The webhook receiver: requests come apart rightly, signatures are checked as the specification says."""

from __future__ import annotations

import base64
import json
import urllib.request
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from benchmarks.bench_latency import arrival_checks, figures_of, read_arrivals
from benchmarks.load import Sent
from benchmarks.receiver import Delivery, Receiver, is_signed

SECRET = "whsec_" + base64.b64encode(b"only this test has it, truly so").decode()
WINDOW_MS = 2_000
AT_MS = 1_795_428_000_000


def delivery(batch: str, *changes: dict[str, object], arrived_ns: int = 0, wall_ms: float = 0.0) -> Delivery:
    body = json.dumps({"type": "audience.changes", "changes": changes}).encode()
    return Delivery(arrived_ns, wall_ms, f"POST /hook HTTP/1.1\r\nWebhook-Id: {batch}\r\n".encode(), body)


def change(user: int, kind: str, at_ms: int, name: str = "") -> dict[str, object]:
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"transition_id": name or f"{user}-{kind}", "user_id": f"user_{user}", "kind": kind, "at": at}


def both(user: int) -> list[Delivery]:
    return [
        delivery(f"in{user}", change(user, "entered", AT_MS), arrived_ns=9_000_000),
        delivery(f"out{user}", change(user, "exited", AT_MS + WINDOW_MS), wall_ms=AT_MS + WINDOW_MS + 7.5),
    ]


def failed(deliveries: list[Delivery], count: int) -> list[str]:
    return [check.name for check in arrival_checks(read_arrivals(deliveries, count), count, WINDOW_MS)
            if not check.passed]  # fmt: skip


def test_one_entry_and_one_exit_a_customer_pass_and_a_resend_under_the_same_id_counts_once() -> None:
    deliveries = [*both(0), *both(1)]
    assert failed(deliveries, 2) == []
    assert failed([*deliveries, deliveries[0]], 2) == []


@pytest.mark.parametrize(
    ("deliveries", "faults"),
    [
        (both(0)[:1], 2),  # the exit is missing, so it is not a window after the entry either
        ([*both(0), delivery("other", change(0, "entered", AT_MS))], 2),  # again, under another webhook-id
        ([*both(0), delivery("x", change(0, "entered", AT_MS + 1, "more"))], 2),
        ([both(0)[0], delivery("late", change(0, "exited", AT_MS + WINDOW_MS + 1))], 1),
    ],
)
def test_what_is_missing_double_or_off_by_a_ms_fails(deliveries: list[Delivery], faults: int) -> None:
    assert len(failed(deliveries, 1)) == faults


def test_latencies_count_from_when_events_were_due_and_exits_from_their_due_ms() -> None:
    import numpy as np

    sent = Sent(1, due_ns=np.array([4_000_000]), done_ns=np.array([6_000_000]))
    figures, _ = figures_of(sent, read_arrivals(both(0), 1), 0)
    values = {figure.name: figure.value for figure in figures}
    assert values["event to webhook, p50"] == 5.0
    assert values["event to its answer, p50"] == 2.0
    assert values["exit by time after its due ms, worst"] == 7.5


def test_signatures_are_those_of_the_specification() -> None:
    now = datetime.now(UTC)
    body = b'{"a":1}'
    signature = Webhook(SECRET).sign("msg_1", now, body.decode())
    head = (
        f"POST / HTTP/1.1\r\nwebhook-id: msg_1\r\nwebhook-timestamp: {int(now.timestamp())}\r\n"
        f"webhook-signature: v1,AAAA {signature}\r\n"
    ).encode()
    assert is_signed(Delivery(0, 0.0, head, body), SECRET)
    assert not is_signed(Delivery(0, 0.0, head, body + b" "), SECRET)
    assert not is_signed(Delivery(0, 0.0, b"POST / HTTP/1.1\r\n", body), SECRET)


def test_the_process_gives_back_what_it_received() -> None:
    receiver = Receiver()
    try:
        url = receiver.start()
        for number in range(2):
            body = json.dumps({"changes": [{"transition_id": f"{number}"}] * 40_000}).encode()
            request = urllib.request.Request(url, body, {"webhook-id": f"m{number}"})
            with urllib.request.urlopen(request, timeout=10) as response:
                assert response.status == 204
        assert receiver.changes_seen == 80_000
        found = receiver.stop()
    finally:
        receiver.close()
    assert [one.header("webhook-id") for one in found] == ["m0", "m1"]
    assert found[0].monotonic_ns <= found[1].monotonic_ns
    assert len(json.loads(found[1].body)["changes"]) == 40_000

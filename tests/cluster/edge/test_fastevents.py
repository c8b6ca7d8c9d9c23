"""Small event requests answered from their bytes: as by the full way, in pieces, in a row, when refused."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest

from cluster.edge import batching
from cluster.edge.fastconnection import FastConnection
from cluster.limits import BODIES_BYTES_MAX
from tests.cluster.edge.serving import DOCUMENT, WRITE_KEY, Site, at_site
from tests.cluster.edge.test_membership_api import Wire, plain_get
from tests.cluster.edge.test_segment import BASIC

PAGE = "Origin: https://shop.example.com"
EVENT = {"userId": "u1", "event": "bought", "messageId": "m1"}
#: What the answer says of itself, whichever way it went.
SAID = ("content-type", "content-length", "access-control-allow-origin", "access-control-allow-credentials", "vary",
        "retry-after")  # fmt: skip


def post(content: object, *more: str, path: str = "/v1/track", authorization: str | None = BASIC) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: usher", *more, f"Content-Length: {len(body)}"]
    lines += [f"Authorization: {authorization}"] if authorization else []
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


def fast(site: Site) -> bool:
    """Tell whether the one open connection has not been passed on."""
    return len(site.server._connections) == 1


def logged(site: Site) -> list[str]:
    return [json.loads(raw)["messageId"] for raw in site.evaluators[0].raw]


async def both_ways(site: Site, content: object, *more: str, **options: str | None) -> tuple[int, bytes]:
    """Send one request by the fast way and, with a field that only aiohttp reads, by the full one."""
    answers = []
    for extra in ((), ("TE: trailers",)):
        wire = await Wire.open(site)
        status, headers, body = await wire.ask(post(content, *extra, *more, **options))  # type: ignore[arg-type]
        assert fast(site) == (not extra)
        answers.append((status, {name: headers.get(name) for name in SAID}, body))
        await wire.close()
        while site.server._connections:
            await asyncio.sleep(0.001)
    assert answers[0] == answers[1]
    return answers[0][0], answers[0][2]


@pytest.mark.parametrize("path", ["/v1/track", "/v1/t", "/t", "/v1/identify", "/v1/page", "/v1/batch", "/b"])
@pytest.mark.parametrize("more", [(), (PAGE, "Content-Type: text/plain", "Connection: keep-alive")])
def test_the_answer_is_that_of_the_full_way(path: str, more: tuple[str, ...]) -> None:
    async def check(site: Site) -> None:
        batch = "b" in path
        content = {"batch": [{"type": "track", **EVENT}, 7], "writeKey": WRITE_KEY} if batch else EVENT
        assert await both_ways(site, content, *more, path=path) == (200, b'{"success":true}')
        assert logged(site) == ["m1", "m1"]
        assert site.server.metrics.events == {"accepted": 1, "duplicate": 1, **({"invalid": 2} if batch else {})}
        assert site.server.metrics.refusals == {}

    at_site(check)


def test_a_key_in_the_body_is_enough() -> None:
    async def check(site: Site) -> None:
        assert (await both_ways(site, {**EVENT, "writeKey": WRITE_KEY}, authorization=None))[0] == 200
        assert site.evaluators[0].keys == ["u1", "u1"]

    at_site(check)


def test_requests_follow_on_one_connection_beside_look_ups() -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"u1"}}
        wire = await Wire.open(site)
        for number in range(20):
            event = {**EVENT, "messageId": f"m{number}", "properties": {"text": "x" * number * 7}}
            assert (await wire.ask(post(event, PAGE)))[0] == 200
            assert (await wire.ask(plain_get(site, "u1")))[2] == b'{"isMember":true}'
            site.clock.advance(700)
        assert fast(site)
        assert logged(site) == [f"m{number}" for number in range(20)]
        await wire.close()

    at_site(check)


@pytest.mark.parametrize("cut", [10, 60, -40, -1])
def test_a_request_may_come_in_pieces(cut: int) -> None:
    async def check(site: Site) -> None:
        request = post(EVENT, PAGE)
        wire = await Wire.open(site)
        for part in (request[:cut], request[cut:-1], request[-1:]):
            wire._writer.write(part)
            await asyncio.sleep(0.02)
        assert (await wire.answer())[0] == 200
        # A head in pieces is aiohttp's; a body in pieces is not.
        assert fast(site) == (cut < 0)
        assert (await wire.ask(request))[0] == 200
        assert site.server.metrics.events == {"accepted": 1, "duplicate": 1}
        await wire.close()

    at_site(check)


def test_requests_sent_ahead_are_answered_in_turn() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].gate = asyncio.Event()
        wire = await Wire.open(site)
        wire._writer.write(post({**EVENT, "messageId": "first"}))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0.005)
        wire._writer.write(post({**EVENT, "messageId": "second"}) + post(b"no json") + plain_get(site, "u1"))
        await asyncio.sleep(0.02)
        site.evaluators[0].gate.set()
        assert [(await wire.answer())[0] for _ in range(4)] == [200, 200, 400, 200]
        assert logged(site) == ["first", "second"]
        await wire.close()

    at_site(check)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(EVENT, "Transfer-Encoding: chunked"), 400),
        (post(EVENT, "Content-Length: 3"), 400),
        (post(EVENT, "Expect: 100-continue"), 100),
        (post(EVENT, "Content-Encoding: gzip"), 400),
        (post(EVENT, "Connection: close"), 200),
        (post(EVENT, "X-Bad\x00: 1"), 400),
        (post(EVENT, authorization="Basic bm9ib2R5Og=="), 401),
        (post(EVENT, authorization="Basic ?"), 401),
        (post(EVENT, authorization=None), 401),
        (post({**EVENT, "writeKey": "another"}), 401),
        (post(b"[1"), 400),
        (post(b""), 400),
        (post(EVENT, path="/v1/none"), 404),
        (post(EVENT, path=f"/v1/track?writeKey={WRITE_KEY}", authorization=None), 200),
        (post({**EVENT, "properties": {"text": "x" * 70_000}}), 200),
    ],
    ids=["chunked", "two-lengths", "expect", "encoded", "close", "control", "unknown-key", "no-base64", "no-key",
         "two-keys", "no-json", "no-body", "no-path", "query", "large"],
)  # fmt: skip
def test_what_is_special_or_wrong_is_left_to_the_full_way(request_bytes: bytes, status: int) -> None:
    async def check(site: Site) -> None:
        wire = await Wire.open(site)
        wire._writer.write(request_bytes)
        assert int((await wire._reader.readline()).split()[1]) == status
        assert not fast(site)
        await wire.close()

    at_site(check)


def test_a_refusing_evaluator_makes_503_that_pages_can_read() -> None:
    async def check(site: Site) -> None:
        refusal = {"error": "overloaded", "message": "full", "retry_after_ms": 1_000}
        site.evaluators[0].refusals = [refusal, refusal]
        status, body = await both_ways(site, EVENT, PAGE)
        assert (status, json.loads(body)["code"]) == (503, "overloaded")
        assert site.server.metrics.refusals == {"overloaded": 2}
        assert site.server.batcher.rows_held == 0

    at_site(check)


def test_a_stopping_edge_refuses_and_keeps_no_bytes() -> None:
    async def check(site: Site) -> None:
        site.server.batcher._closed = True
        assert (await both_ways(site, EVENT, PAGE))[0] == 503
        assert site.server._ingest.budget._left_bytes == BODIES_BYTES_MAX

    at_site(check)


def test_a_key_that_is_gone_is_refused_on_the_same_connection() -> None:
    async def check(site: Site) -> None:
        wire = await Wire.open(site)
        assert (await wire.ask(post(EVENT)))[0] == 200
        changed = copy.deepcopy(DOCUMENT)
        changed["sources"][0]["write_key"] = "wk_other"
        await site.controller.apply(changed, "usher.yaml", "replace")
        await site.server.watcher.sync()
        assert (await wire.ask(post(EVENT)))[0] == 401
        await wire.close()

    at_site(check)


def test_a_drain_waits_for_the_answer_on_its_way() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].gate = asyncio.Event()
        wire = await Wire.open(site)
        wire._writer.write(post(EVENT))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0.005)
        drained = asyncio.create_task(site.server.drain())
        await asyncio.sleep(0.05)
        assert not drained.done()
        site.evaluators[0].gate.set()
        assert (await wire.answer())[0] == 200
        await drained
        assert await wire._reader.read() == b""
        await wire.close()

    at_site(check)


def test_whoever_goes_away_leaves_no_bytes_taken() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].gate = asyncio.Event()
        begun, waiting = await Wire.open(site), await Wire.open(site)
        begun._writer.write(post(EVENT)[:-5])
        waiting._writer.write(post({**EVENT, "messageId": "m2"}))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        assert site.server._ingest.budget._left_bytes < BODIES_BYTES_MAX
        await begun.close()
        await waiting.close()
        site.evaluators[0].gate.set()
        while site.server.batcher.rows_held or site.server._connections:
            await asyncio.sleep(0.005)
        assert site.server._ingest.budget._left_bytes == BODIES_BYTES_MAX
        # The events were whole: they are taken though nobody waits for the answer.
        assert site.server.metrics.events == {"accepted": 1}

    at_site(check)


def test_a_body_that_stalls_goes_to_who_knows_how_long_it_may_take() -> None:
    async def check(site: Site) -> None:
        wire = await Wire.open(site)
        request = post(EVENT)
        wire._writer.write(request[:-5])
        while not [one for one in site.server._connections if one._part is not None]:
            await asyncio.sleep(0.005)
        connection: FastConnection = next(iter(site.server._connections))
        connection.sweep(100.0, 75.0)
        assert fast(site)
        connection.sweep(115.0, 75.0)
        assert not fast(site)
        wire._writer.write(request[-5:])
        assert (await wire.answer())[0] == 200
        assert site.server._ingest.budget._left_bytes == BODIES_BYTES_MAX
        await wire.close()

    at_site(check)


def test_a_client_that_sends_on_and_on_is_cut_off() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].gate = asyncio.Event()
        wire = await Wire.open(site)
        wire._writer.write(post(EVENT))
        while not site.evaluators[0].calls:
            await asyncio.sleep(0.005)
        wire._writer.write(b"x" * 4_000_000)
        while site.server._connections:
            await asyncio.sleep(0.005)
        site.evaluators[0].gate.set()
        await asyncio.sleep(0.02)
        wire._writer.transport.abort()

    at_site(check)


async def asked_together(site: Site, wires: list[Wire], number: int) -> list[int]:
    """Send one event on each connection; gives how many rows each call to the evaluator had until all were answered."""
    before = len(site.evaluators[0].calls)
    for index, wire in enumerate(wires):
        wire._writer.write(post({**EVENT, "messageId": f"m{number}-{index}"}))
    assert {(await wire.answer())[0] for wire in wires} == {200}
    return [call["rows"] for call in site.evaluators[0].calls[before:]]


def test_senders_that_were_answered_together_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(site: Site) -> None:
        many = batching._MANY_REQUESTS
        wires = [await Wire.open(site) for _ in range(many + 1)]
        # While the first call is under way all others gather.
        site.evaluators[0].gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.3, site.evaluators[0].gate.set)
        monkeypatch.setattr(batching, "BATCH_LINGER_MS", 60_000)
        first = await asked_together(site, wires, 1)
        assert sum(first) == many + 1
        while site.server.batcher._together < many:  # a slow machine dealt them out otherwise
            await asked_together(site, wires, 100)
        monkeypatch.setattr(batching, "_GATHER_MS", 60_000)
        # As many as before: without the wait, which would be a minute.
        together = site.server.batcher._together
        assert await asked_together(site, wires[:together], 2) == [together]
        # Fewer: after the wait, and from then on at once.
        monkeypatch.setattr(batching, "_GATHER_MS", 10)
        assert await asked_together(site, wires[:3], 3) == [3]
        assert site.server.batcher._together == 0
        for wire in wires:
            await wire.close()

    at_site(check)

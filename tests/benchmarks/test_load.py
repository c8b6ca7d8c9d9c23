"""The generators, against a loopback server: what they count, and that a stall is charged in full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks.load import Load, Sent, closed_loop, open_loop

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
Answer = Callable[[int], Awaitable[bytes]]


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


@asynccontextmanager
async def server(give: Answer) -> AsyncIterator[int]:
    """Answer the n-th request with `give(n)`."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                number, count = count, count + 1
                writer.write(await give(number))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def run(give: Answer, work: Callable[[int], Sent]) -> Sent:
    """Run a generator in a thread (its own loop) against a server in this one."""

    async def both() -> Sent:
        async with server(give) as port:
            return await asyncio.to_thread(work, port)

    return asyncio.run(both())


async def at_once(number: int) -> bytes:
    return answer(b"%d" % number)


def test_an_open_loop_sends_its_rate_and_times_every_request() -> None:
    sent = run(at_once, lambda port: open_loop(Load("127.0.0.1", port, (GET,), 4), 1_000, 0.1, keep_every=10))
    assert (sent.sends, sent.statuses, sent.all_ok) == (100, {200: 100}, True)
    assert (sent.latencies_ms() > 0).all()
    assert sorted(sent.bodies) == list(range(0, 100, 10))
    assert (sent.due_ns[-1] - sent.due_ns[0]) / 1e6 == pytest.approx(99, abs=1)


def test_a_stall_is_charged_for_everything_that_was_due_meanwhile() -> None:
    async def stalls_once(number: int) -> bytes:
        if number == 20:
            await asyncio.sleep(0.1)
        return answer(b"")

    sent = run(stalls_once, lambda port: open_loop(Load("127.0.0.1", port, (GET,), 1), 500, 0.2))
    assert sent.all_ok
    waited = sent.latencies_ms() > 10
    assert waited.sum() > 30, "a closed loop would have seen one slow answer"


def test_a_closed_loop_counts_every_answer_by_status() -> None:
    async def refuses_some(number: int) -> bytes:
        return answer(b"", b"503 Busy") if number % 2 else answer(b"{}")

    sent = run(refuses_some, lambda port: closed_loop(Load("127.0.0.1", port, (GET,), 2), 0.5))
    assert sum(sent.statuses.values()) == sent.sends > 2
    assert set(sent.statuses) == {200, 503}
    assert not sent.all_ok


def test_a_lost_connection_shows() -> None:
    async def hangs_up(number: int) -> bytes:
        if number == 5:
            raise ConnectionError
        return answer(b"")

    sent = run(hangs_up, lambda port: open_loop(Load("127.0.0.1", port, (GET,), 1), 500, 0.1))
    assert not sent.all_ok
    assert sent.statuses[0] >= 1


def test_an_answer_in_pieces_and_one_without_a_body_are_whole() -> None:
    async def one_of_each(number: int) -> bytes:
        return b"HTTP/1.1 204 No Content\r\n\r\n" if number % 2 else answer(b"x" * 300_000)

    sent = run(
        one_of_each, lambda port: open_loop(Load("127.0.0.1", port, (GET,), 1), 200, 0.05, keep_every=1)
    )
    assert sent.statuses == {200: 5, 204: 5}
    assert {len(body) for body in sent.bodies.values()} == {0, 300_000}


def test_numbered_requests_get_one_number_a_send() -> None:
    load = Load("h", 1, (b"A ############", b"B ############"), 1, numbers=True, first_number=10)
    assert [load.request(index) for index in range(3)] == [b"A 000000000010", b"B 000000000011", b"A 000000000012"]

"""Requests against servers on loopback that behave badly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from actors.delivery.transport import HttpTransport
from cluster.clock import SystemClock
from cluster.limits import RESPONSE_BYTES_MAX
from destinations.outcomes import Gone, Retry
from destinations.requests import Answer, NoResponse, Request, Response
from destinations.webhook.response import judge_answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def request_to(url: str, timeout_ms: int = 2000, allow_private: bool = True) -> Request:
    return Request("POST", url, {"content-type": "application/json"}, b'{"a":1}', timeout_ms, allow_private)


class OneAddress(AbstractResolver):
    """Says that every name lives at these addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        return None


def sent_to(handler: Handler, timeout_ms: int = 2000, times: int = 1, path: str = "/hook") -> list[Answer]:
    async def run() -> list[Answer]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.05)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        transport = HttpTransport(SystemClock())
        try:
            request = request_to(f"http://{host}:{port}{path}", timeout_ms)
            return [await transport.send(request) for _ in range(times)]
        finally:
            await transport.close()
            await runner.cleanup()

    return asyncio.run(run())


def sent(request: Request, resolver: AbstractResolver | None = None) -> Answer:
    async def run() -> Answer:
        transport = HttpTransport(SystemClock(), resolver)
        try:
            return await transport.send(request)
        finally:
            await transport.close()

    return asyncio.run(run())


def test_the_exact_bytes_and_headers_arrive_and_the_answer_comes_back() -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.method, request.path, dict(request.headers), await request.read()))
        return web.Response(status=202, text="ok", headers={"X-Thing": "1"})

    (answer,) = sent_to(handler)

    assert isinstance(answer, Response)
    assert (answer.status, answer.body, answer.headers["x-thing"]) == (202, b"ok", "1")
    method, path, headers, body = seen[0]
    assert (method, path, body) == ("POST", "/hook", b'{"a":1}')
    assert headers["Content-Type"] == "application/json"
    assert "Cookie" not in headers


@pytest.mark.parametrize("status", [500, 410, 404, 204])
def test_every_status_is_an_answer(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=status)

    (answer,) = sent_to(handler)

    assert isinstance(answer, Response)
    assert answer.status == status
    if status == 410:
        assert isinstance(judge_answer(answer), Gone)


def test_a_redirect_is_an_answer_and_never_followed() -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"location": "/elsewhere"})

    (answer,) = sent_to(handler)

    assert isinstance(answer, Response)
    assert answer.status == 302
    assert paths == ["/hook"]


def test_retry_after_reaches_the_judge() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": "17"})

    (answer,) = sent_to(handler)

    assert judge_answer(answer) == Retry("status 503", 17_000)


def test_a_server_that_hangs_is_left_after_the_timeout() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    assert sent_to(handler, timeout_ms=50) == [NoResponse("timeout", "no answer within 50 ms")]


def test_an_answer_that_trickles_is_left_after_the_timeout() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    assert sent_to(handler, timeout_ms=50) == [NoResponse("timeout", "no answer within 50 ms")]


def test_a_server_slow_to_accept_is_left_after_the_timeout() -> None:
    # A listening socket that nobody accepts from: the kernel completes connections only up to its backlog.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        answer = sent(request_to(f"http://127.0.0.1:{port}/", timeout_ms=50))
        for filler in fillers:
            filler.close()

    assert answer == NoResponse("timeout", "no answer within 50 ms")


def test_a_long_answer_is_read_to_the_bound_alone() -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=b"x" * (RESPONSE_BYTES_MAX * 3))

    first, second = sent_to(handler, times=2)

    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert len(first.body) == len(second.body) == RESPONSE_BYTES_MAX


def test_a_connection_that_was_closed_while_idle_is_made_anew_without_a_failed_attempt() -> None:
    async def run() -> list[Answer]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Promises to keep the connection and closes it all the same after one answer.
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(7)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            rest = await reader.read(1)
            assert rest is not None
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = HttpTransport(SystemClock())
        answers = [await transport.send(request_to(f"http://127.0.0.1:{port}/")) for _ in range(2)]
        await transport.close()
        server.close()
        await server.wait_closed()
        return answers

    assert [answer.status for answer in asyncio.run(run()) if isinstance(answer, Response)] == [200, 200]


def test_who_may_not_send_waits_and_sends_nothing() -> None:
    async def run() -> tuple[int, Answer]:
        came = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal came
            came += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        owns = False
        transport = HttpTransport(SystemClock(), may_send=lambda: owns)
        sending = asyncio.create_task(transport.send(request_to(f"http://127.0.0.1:{port}/")))
        await asyncio.sleep(0.3)
        came_before, owns = came, True
        answer = await sending
        await transport.close()
        server.close()
        await server.wait_closed()
        return came_before, answer

    came_before, answer = asyncio.run(run())
    assert came_before == 0
    assert isinstance(answer, Response)


def test_nobody_listening_is_no_answer() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    answer = sent(request_to(f"http://127.0.0.1:{port}/"))

    assert isinstance(answer, NoResponse)
    assert answer.code == "connect"


def test_what_is_not_http_is_no_answer() -> None:
    async def run() -> Answer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        transport = HttpTransport(SystemClock())
        answer = await transport.send(request_to(f"http://127.0.0.1:{port}/"))
        await transport.close()
        server.close()
        await server.wait_closed()
        return answer

    assert isinstance(asyncio.run(run()), NoResponse)


@pytest.mark.parametrize("url", [
    "https://127.0.0.1/", "https://10.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://2130706433/",
    "https://0x7f.1/", "https://169.254.169.254/latest/meta-data", "https://localhost/", "http://example.com/",
    "https://example.com\\@127.0.0.1/",
])  # fmt: skip
def test_an_inside_address_in_the_url_is_never_connected_to(url: str) -> None:
    answer = sent(request_to(url, allow_private=False))

    assert isinstance(answer, NoResponse)
    assert answer.code == "refused_address"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1"])
def test_a_name_that_resolves_inside_is_never_connected_to(address: str) -> None:
    answer = sent(request_to("https://hooks.example.com/", allow_private=False), OneAddress("93.184.216.34", address))

    assert isinstance(answer, NoResponse)
    assert answer.code == "refused_address"
    assert "hooks.example.com resolves to" in answer.message


def test_allow_private_never_reaches_the_metadata_address() -> None:
    answer = sent(request_to("http://metadata.example.com/"), OneAddress("169.254.169.254"))

    assert isinstance(answer, NoResponse)
    assert answer.code == "refused_address"

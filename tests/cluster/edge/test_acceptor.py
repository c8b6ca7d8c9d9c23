"""The front door: what is classified how, who serves it, what happens when the other process is away."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from cluster.edge import acceptor
from cluster.edge.acceptor import HandoverReceiver, IngestLink, classify, listen
from cluster.edge.server import EdgeServer
from cluster.errors import InputError, PortInUse
from tests.cluster.edge.serving import WRITE_KEY, EvaluatorHandle, FakeReader, Site, site, track

INGEST = [
    b"POST /v1/track HTTP/1.1\r\n", b"POST /v1/batch HTTP/1.1", b"POST /api/v1/events HTTP/1.1",
    b"OPTIONS /v1/t HTTP/1.1",
    b"POST /api/v1/events?x=1 HTTP/1.1", b"POST /b HTTP/1.1", b"POST /beacon/v1/batch?writeKey=K HTTP/1.1",
    b"GET /v1/projects/K/settings HTTP/1.1",
]  # fmt: skip
FRONT = [
    b"GET /api/v1/audiences/a/memberships/u HTTP/1.1", b"GET /api/v1/event_models HTTP/1.1",
    b"POST /api/v1/apply HTTP/1.1", b"GET /healthz HTTP/1.1", b"GET / HTTP/1.1", b"PUT /api/v1/events_of HTTP/1.1",
    b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HEAD /b HTTP/1.1",
]  # fmt: skip


@pytest.mark.parametrize("head", INGEST)
def test_event_requests_are_for_ingest(head: bytes) -> None:
    assert classify(head) == "ingest"


@pytest.mark.parametrize("head", FRONT)
def test_everything_else_is_for_the_front(head: bytes) -> None:
    assert classify(head) == "front"


@pytest.mark.parametrize("head", INGEST + FRONT)
def test_a_beginning_never_says_otherwise_than_the_whole(head: bytes) -> None:
    assert {classify(head[:size]) for size in range(len(head))} <= {None, classify(head)}


def test_a_taken_port_is_a_clear_error_with_a_next_step() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=f"{port} is in use.*--port"):
            listen("127.0.0.1", port)


def test_what_is_no_address_here_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="--host"):
        listen("203.0.113.1", 0)
    with pytest.raises(InputError, match="--host"):
        listen("no.such.host.invalid", 0)


def test_a_socket_path_that_fits_no_system_is_refused() -> None:
    with pytest.raises(InputError, match="too long"):
        HandoverReceiver("/tmp/" + "x" * 120, lambda connection: None, None)  # type: ignore[arg-type]


async def ingest_server(front: Site, path: str) -> EdgeServer:
    """An ingest edge in the same process, behind the same controller and evaluators."""
    handles = [EvaluatorHandle(fake) for fake in front.evaluators]
    server = EdgeServer(
        "ingest", "127.0.0.1", 0, front.controller, handles.__getitem__, front.delivery, front.traits,  # type: ignore[arg-type]
        front.clock, lambda folder: FakeReader(), handover_paths=(path,), name="edge-ingest-0",
        edge=front.controller.others.__getitem__,
    )  # fmt: skip
    await server.start()
    return server


def accepted(server: EdgeServer) -> int:
    return server.metrics.events.get("accepted", 0)


def test_event_connections_are_handed_over_and_reads_are_not(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        async with site(handover_paths=(path,)) as here:
            ingest = await ingest_server(here, path)
            for number in range(3):
                assert (await here.send([track("u1", f"m{number}")], headers={"Connection": "close"}))[0] == 200
            assert (accepted(ingest), accepted(here.server)) == (3, 0)
            assert (await here.call("GET", "/api/v1/audiences/buyers/memberships/u1", "read"))[0] == 200
            assert here.server._fast_reads.answered == 1
            assert ingest._fast_reads.answered == 0
            await ingest.drain()

    asyncio.run(run())


def test_every_process_serves_every_path_on_a_connection_it_has(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        async with site(handover_paths=(path,)) as here:
            ingest = await ingest_server(here, path)
            reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            key = here.controller.api_keys["admin"]
            head = f"Host: u\r\nAuthorization: Bearer {key}\r\n"
            writer.write(f"POST /v1/m HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n{{}}".encode())
            writer.write(f"GET /api/v1/audiences HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            answer = await reader.read()
            assert answer.count(b"HTTP/1.1 200 OK") == 2
            writer.close()
            await writer.wait_closed()
            await ingest.drain()

    asyncio.run(run())


def test_while_no_ingest_process_is_up_the_front_takes_events_itself(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        async with AsyncExitStack() as stack:
            here = await stack.enter_async_context(site(handover_paths=(path,)))
            assert (await here.send([track()]))[0] == 200
            ingest = await ingest_server(here, path)
            await asyncio.sleep(acceptor._LINK_RETRY_S)
            here.http = await stack.enter_async_context(aiohttp.ClientSession())
            assert (await here.send([track()]))[0] == 200
            assert (accepted(here.server), accepted(ingest)) == (1, 1)
            await ingest.drain()
            here.http = await stack.enter_async_context(aiohttp.ClientSession())
            assert (await here.send([track()]))[0] == 200
            assert (accepted(here.server), accepted(ingest)) == (2, 1)

    asyncio.run(run())


def test_a_request_line_in_pieces_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        async with site(handover_paths=(path,)) as here:
            ingest = await ingest_server(here, path)
            reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            rest = b"v1/m HTTP/1.1\r\nHost: u\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            for piece in (b"PO", b"ST /", rest):
                writer.write(piece)
                await asyncio.sleep(0.02)
            assert b'{"success":true}' in await reader.read()
            assert here.server._acceptor is not None
            assert here.server._acceptor._waiting == {}
            writer.close()
            await writer.wait_closed()
            await ingest.drain()

    asyncio.run(run())


def test_a_silent_connection_is_served_here_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "PEEK_WAIT_MS", 30)

    async def run() -> None:
        async with site(handover_paths=(str(tmp_path / "away.sock"),)) as here:
            assert here.server._acceptor is not None
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            ours.setblocking(False)
            here.server._acceptor._look(theirs)
            assert len(here.server._acceptor._waiting) == 1
            await asyncio.sleep(0.06)
            assert here.server._acceptor._waiting == {}
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(ours, b"GET /healthz HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n")
            assert (await loop.sock_recv(ours, 1_000)).startswith(b"HTTP/1.1 200")
            ours.close()

    asyncio.run(run())


def test_more_silent_connections_than_may_wait_are_served_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PEEK_CONNECTIONS_MAX", 2)

    async def run() -> None:
        async with site(handover_paths=(str(tmp_path / "away.sock"),)) as here:
            assert here.server._acceptor is not None
            pairs = [socket.socketpair() for _ in range(4)]
            for _, theirs in pairs:
                theirs.setblocking(False)
                here.server._acceptor._look(theirs)
            assert len(here.server._acceptor._waiting) == 2
            assert len(here.server._handshakes) == 2
            for ours, _ in pairs:
                ours.close()
            await asyncio.sleep(0.02)

    asyncio.run(run())


def test_metrics_at_the_front_hold_those_of_every_process(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        async with site(handover_paths=(path,)) as here:
            ingest = await ingest_server(here, path)
            await here.send([track()], headers={"Connection": "close"})
            _, text, _ = await here.call("GET", "/metrics", None)
            assert 'usher_events_total{edge="edge-ingest-0",outcome="accepted"} 1.0' in text
            assert text.count("# TYPE usher_http_requests_total counter") == 1
            assert 'usher_membership_reads_total{edge="edge-front"} 0.0' in text
            assert 'usher_membership_reads_total{edge="edge-ingest-0"} 0.0' in text
            await ingest.drain()

    asyncio.run(run())


CHILD = """
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1])
listener.listen()
print("up", flush=True)
link, _ = listener.accept()
_, descriptors, _, _ = socket.recv_fds(link, 1, 1)
connection = socket.socket(fileno=descriptors[0])
request = b""
while b"\\r\\n\\r\\n" not in request:
    request += connection.recv(65536)
connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nchild")
"""


def test_a_connection_crosses_to_another_process_with_its_bytes_unread(tmp_path: Path) -> None:
    async def run() -> None:
        path = str(tmp_path / "i.sock")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-S", "-c", CHILD, path, stdout=asyncio.subprocess.PIPE
        )
        assert child.stdout is not None
        assert await child.stdout.readline() == b"up\n"
        async with site(handover_paths=(path,)) as here:
            status, answer, _ = await here.call("POST", f"/v1/batch?writeKey={WRITE_KEY}", None, data=b"{}")
            assert (status, answer) == (200, "child")
        assert await child.wait() == 0

    asyncio.run(run())


def test_a_link_forgets_a_process_that_died_and_finds_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "i.sock"
    now = [0.0]
    link = IngestLink(str(path), lambda: now[0])
    ours, theirs = socket.socketpair()
    assert not link.send(theirs)
    for _ in range(2):
        path.unlink(missing_ok=True)
        now[0] += 1.0
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen()
            assert link.send(theirs)
            accepted_link, _ = listener.accept()
            _, descriptors, _, _ = socket.recv_fds(accepted_link, 1, 1)
            os.close(descriptors[0])
            accepted_link.close()
        assert not link.send(theirs)
        assert not link.send(theirs)
    link.close()
    ours.close()
    theirs.close()

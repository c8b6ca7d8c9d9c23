"""What no Usher answers, but a network does: closed connections, redirects, a proxy's page, nonsense."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cluster.client import Client, ServerFailed, ServerUnavailable, TooBusy
from tests.cluster.client.hosting import Awaited

Answer = Callable[[BaseHTTPRequestHandler], None]
MEMBER = b'{"isMember": true}'


@contextmanager
def answering(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Serve GET with `answer`; gives the URL and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Tests print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def say(status: int, body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@pytest.fixture(params=[Client, Awaited.client], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_a_connection_closed_while_idle_is_made_anew(kind: Any) -> None:
    def answer_and_close(handler: BaseHTTPRequestHandler) -> None:
        say(200, MEMBER)(handler)
        handler.close_connection = True  # without saying so: the client keeps it for the next request

    with answering(answer_and_close) as (url, asked), kind(url, "k") as usher:
        assert [usher.is_member("a", "u") for _ in range(5)] == [True] * 5
    assert len(asked) == 5


def test_a_redirect_is_not_followed(kind: Any) -> None:
    with answering(say(302, b"", Location="/elsewhere")) as (url, asked), kind(url, "k") as usher:
        with pytest.raises(ServerFailed):
            usher.is_member("a", "u")
        assert len(asked) == 1


def test_a_proxys_page_is_shown_as_text(kind: Any) -> None:
    page = b"<html><h1>502 Bad Gateway</h1></html>"
    refused = pytest.raises(ServerFailed, match="Bad Gateway")
    with answering(say(502, page)) as (url, _), kind(url, "k") as usher, refused:
        usher.is_member("a", "u")


def test_too_many_requests_without_a_body_is_too_busy(kind: Any) -> None:
    with answering(say(429, b"", Retry_After="3")) as (url, _), kind(url, "k") as usher:
        with pytest.raises(TooBusy) as caught:
            usher.is_member("a", "u")
        assert caught.value.retry_after_s == 3.0


@pytest.mark.parametrize("body", [b"", b"hello", b"[1]", b'{"isMember": "yes"}', b"\xff"])
def test_an_answer_that_is_none_says_what_to_look_at(kind: Any, body: bytes) -> None:
    refused = pytest.raises(ServerFailed, match="Is this address an Usher")
    with answering(say(200, body)) as (url, _), kind(url, "k") as usher, refused:
        usher.is_member("a", "u")


def test_a_server_that_hangs_is_unavailable_after_the_timeout(kind: Any) -> None:
    over = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        over.wait(5)
        handler.close_connection = True

    with answering(hang) as (url, _), kind(url, "k", timeout_s=0.05) as usher:
        with pytest.raises(ServerUnavailable):
            usher.is_member("a", "u")
        over.set()

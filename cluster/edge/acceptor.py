"""The front door: accepts every connection and looks, without reading, at what its first request wants.

Ingest connections go to an ingest edge process by passing the socket itself over a unix socket (SCM_RIGHTS), so that
reads never wait behind decoding. Everything else, and ingest too while no ingest process is up, is served here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from cluster.errors import InputError, PortInUse
from cluster.limits import PEEK_CONNECTIONS_MAX, PEEK_WAIT_MS

_log = logging.getLogger("usher.edge")

#: Bytes looked at: the longest method, and of the path what tells /api/v1/events from /api/v1/event_models.
_PEEK_BYTES: Final = 64
_PATH_BYTES: Final = len(b"/api/v1/events?")
_METHOD_BYTES: Final = len(b"OPTIONS ")
#: Pause before a partly arrived request line is looked at again.
_PEEK_AGAIN_S: Final = 0.01
#: Connections taken in one turn of the event loop, so that a storm of them does not starve requests.
_ACCEPTS_A_TURN: Final = 64
_BACKLOG: Final = 2_048
#: Unix socket paths must fit sockaddr_un on every system.
_UNIX_PATH_BYTES_MAX: Final = 100
#: Pause after accept failed for want of file descriptors.
_ACCEPT_PAUSE_S: Final = 0.1
#: Pause before an ingest process that was away is tried again.
_LINK_RETRY_S: Final = 0.2

_INGEST_PREFIXES: Final = (b"/v1/", b"/beacon/", b"/pixel/", b"/sourceConfig", b"/com.snowplow")
_INGEST_ROOTS: Final = frozenset(
    b"/" + name for name in b"track page screen identify group alias batch t p s i g a b m".split()
)

Side = Literal["ingest", "front"]


def classify(head: bytes) -> Side | None:
    """Say which process a connection belongs to, from its first bytes; None: too few to tell."""
    method, space, rest = head.partition(b" ")
    if not space:
        return None if len(head) < _METHOD_BYTES else "front"
    path, end, _ = rest.partition(b" ")
    if not end and len(rest) < _PATH_BYTES:
        return None
    path = path.partition(b"?")[0]
    if path.startswith(_INGEST_PREFIXES) or path == b"/api/v1/events":
        return "ingest"
    return "ingest" if path in _INGEST_ROOTS and method != b"HEAD" else "front"


def listen(host: str, port: int) -> socket.socket:
    """Bind and listen, non-blocking. Raises PortInUse where the address is taken, InputError where it is no address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        message = f"{host}:{port} is not an address of this machine: {error}."
        raise InputError(message, next_step="Give another --host.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            message = f"{host}:{port} is in use by another program."
            raise PortInUse(message, next_step="Stop it, or choose another --port.") from error
        message = f"Cannot listen on {host}:{port}: {error.strerror}."
        raise InputError(message, next_step="Give another --host or --port.") from error
    listener.setblocking(False)
    if hasattr(socket, "TCP_DEFER_ACCEPT"):
        # The kernel tells us of a connection when its first bytes are there: most are classified without a wait.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, max(1, PEEK_WAIT_MS // 1000))
    return listener


def url_of(host: str, port: int) -> str:
    """Give the address of who listens there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class IngestLink:
    """The way to one ingest process: connects when needed, forgets a connection that breaks."""

    def __init__(self, path: str, now_s: Callable[[], float]) -> None:
        self._path = path
        self._now_s = now_s
        self._socket: socket.socket | None = None
        self._retry_at_s = 0.0

    def send(self, connection: socket.socket) -> bool:
        """Pass a connection on; false where the process is away or takes no more. Never blocks."""
        link = self._connected()
        if link is None:
            return False
        try:
            socket.send_fds(link, [b"c"], [connection.fileno()])
        except BlockingIOError:
            return False
        except OSError:
            self.close()
            return False
        return True

    def _connected(self) -> socket.socket | None:
        if self._socket is not None or self._now_s() < self._retry_at_s:
            return self._socket
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        link.setblocking(False)
        try:
            link.connect(self._path)
        except OSError:
            link.close()
            self._retry_at_s = self._now_s() + _LINK_RETRY_S
            return None
        self._socket = link
        return link

    def close(self) -> None:
        """Drop the connection; the next send makes a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Acceptor:
    """Accepts on a listening socket. `serve(socket)` takes what this process serves itself."""

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket], None],
        links: list[IngestLink],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._links = links
        self._loop = loop
        self._turn = 0
        #: Connections whose first bytes are awaited, each with its deadline timer.
        self._waiting: dict[socket.socket, asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Accept from now on."""
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; connections that have sent nothing yet are closed."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in list(self._waiting):
            self._forget(connection)
            connection.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(error)
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._look(connection)

    def _pause(self, error: OSError) -> None:
        """Out of descriptors: stop asking for a moment, else the loop spins on a socket that stays ready."""
        _log.error("Cannot accept connections: %s.", error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._loop.call_later(_ACCEPT_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._listener.fileno() >= 0:
            self.start()

    def _look(self, connection: socket.socket) -> None:
        if not self._links:
            self._serve(connection)
            return
        side = self._side(connection)
        if side is None:
            self._wait(connection)
            return
        self._forget(connection)
        self._dispatch(connection, side)

    def _side(self, connection: socket.socket) -> Side | None:
        try:
            head = connection.recv(_PEEK_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return "front"  # reset already: whoever serves it finds out
        return classify(head) if head else "front"

    def _wait(self, connection: socket.socket) -> None:
        """Await more bytes. A timer looks again, not a reader: a reader would fire for the bytes that are there."""
        if connection in self._waiting:
            self._loop.remove_reader(connection.fileno())
            self._loop.call_later(_PEEK_AGAIN_S, self._look_again, connection)
        elif len(self._waiting) >= PEEK_CONNECTIONS_MAX:
            self._serve(connection)
        else:
            timer = self._loop.call_later(PEEK_WAIT_MS / 1000, self._give_up, connection)
            self._waiting[connection] = timer
            self._loop.add_reader(connection.fileno(), self._look, connection)

    def _look_again(self, connection: socket.socket) -> None:
        if connection in self._waiting:
            self._look(connection)

    def _give_up(self, connection: socket.socket) -> None:
        """Serve a silent connection here: browsers open some ahead of need, and every process can serve every path."""
        self._forget(connection)
        self._serve(connection)

    def _forget(self, connection: socket.socket) -> None:
        timer = self._waiting.pop(connection, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_reader(connection.fileno())

    def _dispatch(self, connection: socket.socket, side: Side) -> None:
        if side == "ingest" and self._handed_over(connection):
            connection.close()  # our copy; the other process has its own
        else:
            self._serve(connection)

    def _handed_over(self, connection: socket.socket) -> bool:
        for _ in self._links:
            self._turn = (self._turn + 1) % len(self._links)
            if self._links[self._turn].send(connection):
                return True
        return False


class HandoverReceiver:
    """An ingest process's end: takes sockets that the front passes on, and serves them."""

    def __init__(self, path: str, serve: Callable[[socket.socket], None], loop: asyncio.AbstractEventLoop) -> None:
        if len(os.fsencode(path)) > _UNIX_PATH_BYTES_MAX:
            message = f"{path} is too long for a unix socket (at most {_UNIX_PATH_BYTES_MAX} bytes)."
            raise InputError(message, next_step="Choose a shorter folder for run-time files.")
        self._path = Path(path)
        self._serve = serve
        self._loop = loop
        self._links: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def start(self) -> None:
        """Listen; a socket file left by a killed process is replaced."""
        self._path.unlink(missing_ok=True)
        # Only this user may pass us connections.
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(16)
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Take no more connections."""
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for link in list(self._links):
            self._drop(link)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        try:
            link, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        link.setblocking(False)
        self._links.add(link)
        self._loop.add_reader(link.fileno(), self._receive, link)

    def _receive(self, link: socket.socket) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                data, descriptors, _, _ = socket.recv_fds(link, 1, 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data, descriptors = b"", []
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                self._serve(connection)
            if not data:
                self._drop(link)
                return

    def _drop(self, link: socket.socket) -> None:
        self._loop.remove_reader(link.fileno())
        self._links.discard(link)
        link.close()

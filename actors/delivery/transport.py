"""Requests over the network: a Request in, an Answer out. No redirects, no cookies, no proxies, nothing logged.

Every address is checked against destinations/ssrf.py when the connection is made, and the connection goes to the
address that was checked: a name that resolves differently a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import BinaryIO, Final, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from cluster.clock import Clock
from destinations.requests import Answer, NoResponse, Request, Response
from destinations.ssrf import refused_address, refused_host, refused_url

#: Connections kept over all destinations; a sync has few requests at a time.
_CONNECTIONS_MAX: Final = 256
_CHUNK_BYTES: Final = 16 * 1024
_SAVED_CHUNK_BYTES: Final = 1024 * 1024
#: What has an answer that is saved: a listing, or that there is nobody to list.
_SAVED: Final = frozenset({200, 204})
#: Pause before it is looked again whether a request may go.
_HELD_S: Final = 0.05


class _TooLargeError(Exception):
    """More came than is taken."""


class _DiskError(Exception):
    """The disk refused what came: no fault of the network's."""

    def __init__(self, cause: OSError) -> None:
        super().__init__()
        self.cause = cause


_Read: TypeAlias = Callable[[aiohttp.ClientResponse], Awaitable[bytes]]


class RefusedAddressError(OSError):
    """DNS gave an address that destinations must not have."""


class CheckedResolver(AbstractResolver):
    """Resolves by `inner` and refuses the whole answer where one address is refused."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        self._inner = inner
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Give the addresses, all of them allowed. Raises RefusedAddressError."""
        results = await self._inner.resolve(host, port, family)
        for result in results:
            reason = refused_address(result["host"], allow_private=self._allow_private)
            if reason:
                message = f"{host} resolves to a {reason}"
                raise RefusedAddressError(message)
        return results

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


class HttpTransport:
    """Performs requests of every destination. Make it inside the event loop; `close` it there.

    No request goes while `may_send` says no: a process that was stopped must not tell what is long out of date.
    """

    def __init__(
        self, clock: Clock, resolver: AbstractResolver | None = None, *, may_send: Callable[[], bool] = lambda: True
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._may_send = may_send
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(self, request: Request) -> Answer:
        """Perform one attempt. Never raises for what a network or a server can do."""
        return await self._perform(request, lambda response: _read_at_most(response, request.answer_bytes_max))

    async def save(self, request: Request, file: BinaryIO, bytes_max: int) -> Answer:
        """Perform one attempt; what a 200 has is written to a file, which is emptied first, and is no body then.

        Raises OSError where the disk refuses. A larger answer than `bytes_max` counts as none (`protocol`).
        """

        async def read(response: aiohttp.ClientResponse) -> bytes:
            if response.status not in _SAVED:
                return await _read_at_most(response, request.answer_bytes_max)
            await asyncio.to_thread(_empty, file)
            room = bytes_max
            async for chunk in response.content.iter_chunked(_SAVED_CHUNK_BYTES):
                room -= len(chunk)
                if room < 0:
                    response.close()
                    raise _TooLargeError
                await asyncio.to_thread(_write, file, chunk)
            return b""

        return await self._perform(request, read)

    async def _perform(self, request: Request, read: _Read) -> Answer:
        reason = _refused(request)
        if reason:
            return NoResponse("refused_address", reason)
        try:
            return await self._send_once(request, read)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            # An idle connection that the other side had closed already: the message id makes trying again safe.
            return await self._try(request, read)

    async def close(self) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _try(self, request: Request, read: _Read) -> Answer:
        try:
            return await self._send_once(request, read)
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            return NoResponse("connect", "the server closed the connection without an answer")

    async def _send_once(self, request: Request, read: _Read) -> Answer:
        while not self._may_send():
            await asyncio.sleep(_HELD_S)
        session = self._session(request.allow_private)
        timeout = aiohttp.ClientTimeout(total=request.timeout_ms / 1000)
        try:
            async with session.request(
                request.method,
                URL(request.url),
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                body = await read(response)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Response(response.status, headers, body, self._clock.now_ms())
        except (aiohttp.ServerDisconnectedError, ConnectionResetError):
            raise
        except TimeoutError:
            return NoResponse("timeout", f"no answer within {request.timeout_ms} ms")
        except _TooLargeError:
            return NoResponse("protocol", "the answer is larger than is taken")
        except _DiskError as error:
            raise error.cause from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _no_response(error)

    def _session(self, allow_private: bool) -> aiohttp.ClientSession:
        """One session for all destinations, and one apart for those that may reach private addresses."""
        session = self._sessions.get(allow_private)
        if session is None:
            inner = self._resolver or aiohttp.ThreadedResolver()
            connector = aiohttp.TCPConnector(
                resolver=CheckedResolver(inner, allow_private=allow_private), limit=_CONNECTIONS_MAX
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("Accept-Encoding",),
            )
            self._sessions[allow_private] = session
        return session


def _refused(request: Request) -> str | None:
    """Check the URL as the settings did, and the host as the HTTP client reads it, should the two ever differ."""
    reason = refused_url(request.url, allow_private=request.allow_private)
    try:
        host = URL(request.url).raw_host or ""
    except ValueError:
        return "not a URL"
    return reason or refused_host(host, allow_private=request.allow_private)


async def _read_at_most(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """Read the start of a body; a longer one costs the connection, not the memory."""
    parts: list[bytes] = []
    room = bytes_max
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        parts.append(chunk[:room])
        room -= len(parts[-1])
        if room <= 0:
            response.close()
            break
    return b"".join(parts)


def _empty(file: BinaryIO) -> None:
    try:
        file.seek(0)
        file.truncate()
    except OSError as error:
        raise _DiskError(error) from error


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _DiskError(error) from error


def _no_response(error: Exception) -> NoResponse:
    """Say what went wrong without repeating what was sent."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        cause = error.os_error
        if isinstance(cause, RefusedAddressError):
            return NoResponse("refused_address", str(cause))
        return NoResponse("dns", f"the name of {error.host} cannot be resolved")
    if isinstance(error, RefusedAddressError):
        return NoResponse("refused_address", str(error))
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return NoResponse("tls", f"no trusted TLS connection ({type(error).__name__})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NoResponse("connect", f"no connection to {error.host}:{error.port} ({error.os_error.strerror})")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientResponseError):
        return NoResponse("protocol", f"the answer is not HTTP that can be read ({type(error).__name__})")
    return NoResponse("connect", type(error).__name__)



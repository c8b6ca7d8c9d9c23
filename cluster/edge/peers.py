"""Asking another edge process over HTTP, through a socket pair passed to it like an accepted connection."""

from __future__ import annotations

import asyncio
import logging
import socket

from cluster.edge.acceptor import IngestLink

_log = logging.getLogger("usher.edge")
_ANSWER_BYTES_MAX = 4 * 1024 * 1024


async def fetch_from(link: IngestLink, target: str, wait_s: float) -> bytes | None:
    """Give the body of a 200 answer to GET `target`; None where that process is away or slow."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        sent = link.send(theirs)
        theirs.close()  # else our own copy keeps the end of the answer from showing
        if not sent:
            return None
        async with asyncio.timeout(wait_s):
            return await _get(ours, target)
    except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
        _log.info("An ingest process gave no answer to %s: %s", target, error)
        return None
    finally:
        ours.close()


async def _get(connection: socket.socket, target: str) -> bytes | None:
    loop = asyncio.get_running_loop()
    request = f"GET {target} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"
    await loop.sock_sendall(connection, request.encode())
    received = bytearray()
    while part := await loop.sock_recv(connection, 65_536):
        received += part
        if len(received) > _ANSWER_BYTES_MAX:
            return None
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return body if head.startswith(b"HTTP/1.1 200 ") else None

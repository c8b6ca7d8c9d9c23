"""Whether a request came from this machine."""

from __future__ import annotations

import ipaddress
import socket

from aiohttp import web


def is_local(request: web.Request) -> bool:
    """Say whether a request came over loopback, or from a process of ours over a unix socket."""
    transport = request.transport
    if transport is None:
        return False
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return True
    try:
        return ipaddress.ip_address(request.remote or "").is_loopback
    except ValueError:
        return False

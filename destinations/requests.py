"""Requests and responses as values: what a destination builds and judges, what the transport performs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Headers, body and the whole URL are kept out of repr.

    `allow_private` lets the transport connect to loopback and private addresses.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_ms: int
    allow_private: bool = False

    @property
    def shown_url(self) -> str:
        """The URL as logs may show it: no user, no password, no query, no fragment."""
        return shown_url(self.url)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: header names in lower case, at most RESPONSE_BYTES_MAX of its body, received at UTC ms."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    received_ms: int


@dataclass(frozen=True, slots=True)
class NoResponse:
    """Nothing came back that counts as an answer. Whether the destination took the records is unknown.

    `message` is for people and free of bodies, headers and secrets.
    """

    code: Literal["timeout", "dns", "refused_address", "connect", "tls", "protocol"]
    message: str


Answer: TypeAlias = Response | NoResponse


def shown_url(url: str) -> str:
    """Cut what may be secret out of a URL: user, password, query, fragment. Never raises."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "<unreadable URL>"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"

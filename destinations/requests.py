"""Requests and responses as values: what a destination builds and judges, what the transport performs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

from cluster.limits import RESPONSE_BYTES_MAX

#: What is read of an answer that need not be read whole.
ANSWER_BYTES_MAX: Final = RESPONSE_BYTES_MAX
#: What is read of an answer that names records one by one, or lists.
LONG_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. Headers, body and the whole URL are kept out of repr.

    `allow_private` lets the transport connect to loopback and private addresses. Of an answer's body no more than
    `answer_bytes_max` is read.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout_ms: int
    allow_private: bool = False
    answer_bytes_max: int = ANSWER_BYTES_MAX

    @property
    def shown_url(self) -> str:
        """The URL as logs may show it: no user, no password, no query, no fragment."""
        return shown_url(self.url)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: header names in lower case, as much of its body as the request allowed, received at UTC ms."""

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

"""Heads of requests, read strictly, and answers, written whole: what the fast paths share. Pure.

A head that is in any way special is not read here: aiohttp reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search
#: Fields that change what a request is or how its body is to be read.
_SPECIAL: Final = frozenset((b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"content-encoding"))
#: Fields that may come once: which of two counts is nothing to decide here.
_SINGLE: Final = frozenset((b"host", b"authorization", b"connection", b"content-length", b"origin"))
_HEAD_BYTES_MAX: Final = 4_096


def plain_fields(head: bytes) -> dict[bytes, bytes] | None:
    """Give the fields of a head that asks for nothing special, names in lower case; None: another reader must look.

    `head` is what follows the request line. Plain: complete and alone, every line a well-formed field, one Host, the
    body neither encoded nor chunked, no upgrade, kept alive.
    """
    if len(head) > _HEAD_BYTES_MAX or not head.endswith(b"\r\n\r\n"):
        return None
    fields: dict[bytes, bytes] = {}
    for line in head[:-4].split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon or _NAME(name) is None or _CONTROL(value):
            return None
        name = name.lower()
        if name in _SPECIAL or (name in fields and name in _SINGLE):
            return None
        fields[name] = value.strip(b" \t")
    if b"host" not in fields or fields.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    return fields


def plain_authorization(head: bytes) -> str | None:
    """Give the Authorization value of a plain head without a body and of no browser's page; None for every other."""
    fields = plain_fields(head)
    if fields is None or b"content-length" in fields or b"origin" in fields:
        return None
    authorization = fields.get(b"authorization")
    return authorization.decode("latin-1") if authorization else None


def answer_bytes(
    status: int, content_type: str, body: bytes, second: int, extra: Mapping[str, str] | None = None
) -> bytes:
    """Write an answer with its head; `second` is the time it says, in seconds since 1970."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in (extra or {}).items())
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n{fields}Date: {formatdate(second, usegmt=True)}\r\nServer: usher\r\n\r\n"
    )
    # Latin-1: what a client said of itself (Origin) goes back as the bytes it came in.
    return head.encode("latin-1") + body

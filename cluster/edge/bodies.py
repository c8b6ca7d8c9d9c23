"""Request bodies: read with a limit of size, of time, and of bytes held by all requests together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.web_exceptions import HTTPException

from cluster.edge import problems
from cluster.limits import BODIES_BYTES_MAX, BODY_BYTES_MAX, BODY_WAIT_MS, DOCUMENT_BYTES_MAX


class BodyBudget:
    """Bytes of bodies that this process holds at once: many large uploads together must not take all memory."""

    def __init__(self, limit_bytes: int = BODIES_BYTES_MAX) -> None:
        self._left_bytes = limit_bytes

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """Account for one request, from its first byte until the block ends."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.give_back(share.taken_bytes)

    def take(self, count: int) -> bool:
        """Take bytes out of the budget; false where there are too few."""
        if count > self._left_bytes:
            return False
        self._left_bytes -= count
        return True

    def give_back(self, count: int) -> None:
        """Put bytes that were taken back into it."""
        self._left_bytes += count


class BodyShare:
    """What one request holds of the budget."""

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.taken_bytes = 0

    def grow(self, count: int) -> None:
        """Hold more; raises Problem 503 where all requests together hold too much."""
        if not self._budget.take(count):
            message = "Too many request bodies are being read at once. Try again."
            raise problems.unavailable(message, "overloaded")
        self.taken_bytes += count


async def read_body(request: web.Request, share: BodyShare, limit_bytes: int = BODY_BYTES_MAX) -> bytes:
    """Read a body as it was sent, not unzipped, declared size first; raises Problem 408, 413 or 503."""
    declared = request.content_length
    if declared is not None and declared > limit_bytes:
        raise too_large(limit_bytes)
    parts: list[bytes] = []
    size = 0

    def take(part: bytes) -> None:
        nonlocal size
        size += len(part)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        share.grow(len(part))
        parts.append(part)

    try:
        if request.content.is_eof():
            take(request.content.read_nowait())  # it came with its head, as small ones do: nothing to wait for
        else:
            async with asyncio.timeout(BODY_WAIT_MS / 1000):
                async for part in request.content.iter_any():
                    take(part)
    except TimeoutError as error:
        raise problems.Problem(408, "timeout", f"The body did not arrive within {BODY_WAIT_MS // 1000} s.") from error
    except web.RequestPayloadError as error:
        raise problems.bad_request(f"The body cannot be read: {error}.", "invalid_body") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_document(request: web.Request) -> bytes:
    """Read the body of an administration or look-up request, which is small and not zipped."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        message = "This path reads no Content-Encoding; send the body as it is."
        raise problems.Problem(415, "unsupported_media_type", message)
    with BodyBudget(DOCUMENT_BYTES_MAX).share() as share:
        return await read_body(request, share, DOCUMENT_BYTES_MAX)


def too_large(limit_bytes: int) -> problems.Problem:
    """413, with the limit."""
    message = f"The body is over the limit of {limit_bytes:,} bytes (after unzipping). Send smaller batches."
    return problems.Problem(413, "body_too_large", message)


def problem_of_http(error: HTTPException, method: str) -> problems.Problem:
    """Give the problem for what aiohttp raises itself: no such path, no such method, ..."""
    if error.status == 405:
        allow = error.headers.get("Allow", "")
        detail = f"The method {method} is not allowed here; allowed: {allow}."
        return problems.Problem(405, "method_not_allowed", detail, headers={"Allow": allow})
    if error.status == 404:
        return problems.not_found("There is nothing at this path. GET /openapi.json lists what there is.")
    return problems.Problem(error.status, "http_error", error.reason)

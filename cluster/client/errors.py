"""What the client raises: one class per thing the caller can do about it, each with the server's problem document.

    UsherError
     └── UsherApiError             every answer that is no success, and no answer at all
          ├── BadRequest           400, 408, 413, 415, 422 ...: the request itself
          │    └── InvalidDefinitions  422 with `faults`: every fault of the document, nothing was changed
          ├── Unauthorized         401: no key, or none that the server knows
          ├── Forbidden            403: the key's role may not do this
          ├── NotFound             404: no such audience, sync, key ...
          ├── TooBusy              429, 503: nothing was changed, try again after `retry_after_s`
          ├── ServerFailed         other 5xx, or an answer that cannot be read: a fault of the server
          └── ServerUnavailable    no answer: not running, not reachable, or too slow

All but ServerUnavailable mean that the server answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from cluster.errors import Fault, UsherError

_RETRY_AFTER_DEFAULT_S: Final = 1.0
_DETAIL_LENGTH_MAX: Final = 500


class UsherApiError(UsherError):
    """A request that did not succeed.

    `status` is the HTTP status (0: no answer), `code` the problem's short code, `problem` the whole problem document,
    `request` the method and path, never with a key.
    """

    def __init__(
        self, message: str, *, request: str, status: int = 0, problem: Mapping[str, Any] | None = None,
        next_step: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, next_step=next_step)
        self.request = request
        self.status = status
        self.problem = dict(problem or {})
        self.code = str(self.problem.get("code", ""))


class BadRequest(UsherApiError):
    """The request is not as it should be."""


class InvalidDefinitions(BadRequest):
    """The definitions were refused whole; `faults` has every fault."""

    def __init__(
        self, message: str, *, request: str, status: int = 0, problem: Mapping[str, Any] | None = None,
        next_step: str = "",
    ) -> None:  # fmt: skip
        super().__init__(message, request=request, status=status, problem=problem, next_step=next_step)
        self.faults = faults_of(self.problem)

    def __str__(self) -> str:
        """Give the message and every fault on a line of its own."""
        return "\n".join([super().__str__(), *(f"  {fault}" for fault in self.faults)])


class Unauthorized(UsherApiError):
    """No key, or none that the server knows."""


class Forbidden(UsherApiError):
    """The key is known, but its role may not do this."""


class NotFound(UsherApiError):
    """There is no such thing."""


class TooBusy(UsherApiError):
    """Nothing was changed; the same call may succeed after `retry_after_s`."""

    retry_after_s: float = _RETRY_AFTER_DEFAULT_S


class ServerFailed(UsherApiError):
    """A fault of the server."""


class ServerUnavailable(UsherApiError):
    """No answer came; whether the request was carried out is not known."""


_BY_STATUS: Final[dict[int, type[UsherApiError]]] = {
    401: Unauthorized, 403: Forbidden, 404: NotFound, 429: TooBusy, 503: TooBusy,
}  # fmt: skip


def error_of(request: str, status: int, headers: Mapping[str, str], body: bytes) -> UsherApiError:
    """Turn an answer that is no success into its error; any body will do."""
    problem = _problem(body)
    detail = str(problem.get("detail") or problem.get("message") or _excerpt(body) or f"HTTP status {status}")
    kind = _kind(status, problem)
    error = kind(detail, request=request, status=status, problem=problem, next_step=_next_step(kind, detail))
    if isinstance(error, TooBusy):
        error.retry_after_s = _retry_after_s(headers)
    return error


def unavailable(url: str, request: str, reason: str) -> ServerUnavailable:
    """Give the error for a request without an answer."""
    step = "Is it running? `usher up` starts it; USHER_URL or --url say where it is."
    return ServerUnavailable(f"No answer from {url}: {reason}.", request=request, next_step=step)


def unreadable(request: str, status: int, reason: str) -> ServerFailed:
    """Give the error for a success whose body is not what it should be."""
    step = "Is this address an Usher, and of this client's release?"
    return ServerFailed(f"The answer to {request} cannot be read: {reason}.", request=request, status=status,
                        next_step=step)  # fmt: skip


def faults_of(problem: Mapping[str, Any]) -> list[Fault]:
    """Read the rows of a problem's `errors`; what has no path or message is left out."""
    rows = problem.get("errors")
    return [
        Fault(
            file=str(row.get("file", "<document>")),
            path=str(row["path"]),
            message=str(row["message"]),
            found=str(row.get("found", "")),
            allowed=str(row.get("allowed", "")),
        )
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict) and "path" in row and "message" in row
    ]


def _kind(status: int, problem: Mapping[str, Any]) -> type[UsherApiError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return InvalidDefinitions if faults_of(problem) else BadRequest
    return ServerFailed


def _next_step(kind: type[UsherApiError], detail: str) -> str:
    if kind is Unauthorized and "USHER_API_KEY" not in detail:
        return "Set USHER_API_KEY, or give api_key=…; the first admin key is in DATA_DIR/admin.key."
    return ""


def _problem(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}  # a proxy's page, for instance: its text is shown instead
    return document if isinstance(document, dict) else {}


def _excerpt(body: bytes) -> str:
    return " ".join(body[:_DETAIL_LENGTH_MAX].decode("utf-8", "replace").split())


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(text) if text.isascii() and text.isdecimal() else _RETRY_AFTER_DEFAULT_S

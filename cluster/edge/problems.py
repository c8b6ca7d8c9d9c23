"""Errors as HTTP answers: RFC 9457 problem documents, and the shape that event SDKs can read.

A handler raises `Problem`; `problem_of` turns every other error of `cluster.errors` into one. What the SDK paths
answer instead is `sdk_body`: two of their clients retry a 400 ten times unless the JSON has `code` and `message`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from cluster.errors import (
    DefinitionError,
    Fault,
    InputError,
    InternalError,
    NotReady,
    Overloaded,
    Refused,
    StorageFull,
    UsherError,
    WireError,
)
from cluster.limits import RETRY_AFTER_MS

CONTENT_TYPE: Final = "application/problem+json"

_encode = msgspec.json.Encoder().encode

#: Codes of refusals as values (cluster/runtime/protocols.py) that a later try may cure.
_RETRYABLE: Final = frozenset({"overloaded", "not_ready", "storage_full", "unreachable", "stale", "moved"})

_REFUSALS: Final[dict[type[Refused], str]] = {
    Overloaded: "overloaded", NotReady: "not_ready", StorageFull: "storage_full",
}  # fmt: skip


class Problem(Exception):
    """What went wrong, as it is told. `code` is short and stable; `detail` is prose and ends with the next step."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: tuple[Mapping[str, Any], ...] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Give the problem document as JSON."""
        document: dict[str, Any] = {
            "type": f"urn:usher:problem:{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            document["errors"] = list(self.errors)
        return _encode(document)

    def sdk_body(self) -> bytes:
        """Give the body that Segment-style clients understand."""
        return _encode({"success": False, "code": self.code, "message": self.detail})


def unauthorized(detail: str) -> Problem:
    """401: no key, or none that we know."""
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="usher"'})


def forbidden(detail: str) -> Problem:
    """403: the key is known, but may not do this."""
    return Problem(403, "forbidden", detail)


def not_found(detail: str) -> Problem:
    """404: no such thing."""
    return Problem(404, "not_found", detail)


def bad_request(detail: str, code: str = "bad_request") -> Problem:
    """400: the request itself cannot be read."""
    return Problem(400, code, detail)


def unprocessable(detail: str, errors: list[Mapping[str, Any]] | None = None) -> Problem:
    """422: readable, but not acceptable; `errors` rows are `{"path", "message"}` and more."""
    return Problem(422, "invalid", detail, tuple(errors or ()))


def unavailable(detail: str, code: str = "not_ready", retry_after_ms: int = RETRY_AFTER_MS) -> Problem:
    """503 with Retry-After in whole seconds, at least one."""
    seconds = max(1, math.ceil(retry_after_ms / 1000))
    return Problem(503, code, detail, headers={"Retry-After": str(seconds)})


def fault_row(fault: Fault | Mapping[str, Any]) -> dict[str, Any]:
    """Give one fault as a row of `errors`; `found` and `allowed` only where they say something."""
    row = dict(fault) if isinstance(fault, Mapping) else {
        "file": fault.file, "path": fault.path, "message": fault.message,
        "found": fault.found, "allowed": fault.allowed,
    }
    return {key: value for key, value in row.items() if value != "" or key in ("path", "message")}


def of_faults(faults: list[Any]) -> Problem:
    """422 for a definitions document, with every fault."""
    rows: list[Mapping[str, Any]] = [fault_row(fault) for fault in faults]
    count = f"{len(rows)} fault" + ("s" if len(rows) != 1 else "")
    return unprocessable(f"The definitions have {count}; `errors` lists them. Nothing was changed.", rows)


def of_reply(reply: Mapping[str, Any]) -> Problem | None:
    """Give the problem that a reply's `error` stands for, None where the reply is no refusal."""
    code = reply.get("error")
    if code is None:
        return None
    message = str(reply.get("message") or f"The request was refused: {code}.")
    if code == "invalid":
        faults = list(reply.get("faults") or [])
        return of_faults(faults) if faults else unprocessable(message)
    if code == "not_found":
        return not_found(message)
    if code in _RETRYABLE:
        return unavailable(message, code, int(reply.get("retry_after_ms") or RETRY_AFTER_MS))
    return Problem(500, str(code), message)


def of_error(error: Exception, error_id: str) -> Problem:
    """Give the problem for any error; what is not ours to explain shows its id alone, never a traceback."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, WireError):
        headers = {"WWW-Authenticate": 'Bearer realm="usher"'} if error.status == 401 else None
        return Problem(error.status, error.code, str(error), headers=headers)
    if isinstance(error, DefinitionError):
        return of_faults(list(error.faults))
    if isinstance(error, Refused):
        code = next((code for kind, code in _REFUSALS.items() if isinstance(error, kind)), "not_ready")
        return unavailable(str(error), code, error.retry_after_ms)
    if isinstance(error, InputError):
        return bad_request(str(error))
    if isinstance(error, UsherError) and not isinstance(error, InternalError):
        return Problem(500, "error", str(error))
    detail = f"An error of Usher itself. Its log has more under the id {error_id}; please report it."
    return Problem(500, "internal_error", detail)

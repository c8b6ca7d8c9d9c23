"""Segment's tracking API: 200 for nearly everything, and what is wrong is dropped where nobody sees it."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

from tests.destinations.vendor import Came, Says, Vendor

CALL_BYTES_MAX = 32 * 1024
BATCH_BYTES_MAX = 500 * 1024
CALLS_MAX = 2_500
TYPES = {"identify", "track", "page", "screen", "group", "alias"}


class SegmentServer(Vendor):
    """One source. `kept` is what it kept, each message id once; `dropped` why it did not keep the others."""

    key = "wr1te-s3cret"

    def __init__(self, *, requests_max: int = 0) -> None:
        super().__init__()
        self.kept: dict[str, dict[str, Any]] = {}
        self.dropped: list[str] = []
        self.requests_max = requests_max
        self.left = requests_max

    def answer(self, came: Came) -> Says:
        if (came.method, came.path) != ("POST", "/v1/batch"):
            return Says(404, {"success": False})
        if self.requests_max:
            self.left -= 1
            if self.left < 0:
                self.left = self.requests_max  # the wait is over when the caller comes back
                return Says(429, {"success": False}, {"Retry-After": "3", "X-RateLimit-Reset": "3"})
        if len(came.body) > BATCH_BYTES_MAX:
            return Says(400, {"success": False, "message": "Exceeded payload limit"})
        try:
            body = json.loads(came.body)
        except ValueError:
            return Says(400, {"success": False, "message": "malformed JSON"})
        calls = body.get("batch")
        if not isinstance(calls, list) or not calls:
            return Says(400, {"success": False, "message": "no batch"})
        wanted = "Basic " + base64.b64encode(f"{self.key}:".encode()).decode()
        if came.headers.get("authorization") != wanted:
            self.dropped.append("wrong write key")
        elif len(calls) > CALLS_MAX:
            self.dropped.append("too many calls")
        elif not _is_time(body.get("sentAt")):
            self.dropped.append("no sentAt")
        else:
            for call in calls:
                self._keep(call)
        return Says(200, {"success": True})

    def members(self, key: str) -> set[str]:
        """Who is in, by identify calls in the order of their own time."""
        state: dict[str, bool] = {}
        for call in sorted(self.kept.values(), key=lambda call: call["timestamp"]):
            if call["type"] == "identify" and key in call["traits"]:
                state[call["userId"]] = call["traits"][key]
        return {user for user, inside in state.items() if inside}

    def _keep(self, call: dict[str, Any]) -> None:
        fault = _fault(call)
        if fault:
            self.dropped.append(fault)
        else:
            self.kept.setdefault(call["messageId"], call)


def _fault(call: dict[str, Any]) -> str:
    if call.get("type") not in TYPES:
        return "unknown type"
    if not (call.get("userId") or call.get("anonymousId")):
        return "no id"
    if call["type"] == "track" and not call.get("event"):
        return "no event"
    if not isinstance(call.get("messageId"), str) or len(call["messageId"]) >= 100:
        return "bad message id"
    if not _is_time(call.get("timestamp")):
        return "bad timestamp"
    return "too large" if len(json.dumps(call).encode()) > CALL_BYTES_MAX else ""


def _is_time(value: object) -> bool:
    try:
        return datetime.fromisoformat(str(value)).tzinfo is not None
    except ValueError:
        return False

"""Syncs over HTTP: their logs, their dead letters, and what people have them do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from cluster.edge import problems
from cluster.edge.admin_api import answered, present
from cluster.edge.membership_api import flag, whole_number
from cluster.edge.routes import Route
from cluster.edge.state import StateWatcher
from cluster.limits import SYNC_ROWS_DEFAULT, SYNC_ROWS_MAX
from cluster.model.values import coerce_timestamp
from cluster.runtime.protocols import SYNC_KINDS, SYNC_OUTCOMES, Delivery, LogQuery

_AFTER_MAX: Final = 2**63 - 1
_BASE: Final = "/api/v1/syncs/{id}"


class SyncApi:
    """The handlers; delivery does what they ask."""

    def __init__(self, watcher: StateWatcher, delivery: Delivery) -> None:
        self._watcher = watcher
        self._delivery = delivery

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        limit = {"limit": f"rows, 1 to {SYNC_ROWS_MAX:,}"}
        log_query = {
            **limit, "failed": "1: failures alone", "after": "`next` of the page before", "user": "a user's id",
            "outcome": f"one or more, joined by commas: {', '.join(SYNC_OUTCOMES)}",
            "kind": f"one or more, joined by commas: {', '.join(SYNC_KINDS)}",
            "since": "rows from this time on, RFC 3339 or ms", "until": "rows before this time",
            "detail": "1: with each record, the request and the response; at most 100 rows",
        }  # fmt: skip
        return [
            Route("GET", _BASE + "/log", self.sync_log, "What was sent and what came back", "edit", "syncs", log_query),
            Route("GET", _BASE + "/dead-letters", self.dead_letters, "What could not be delivered", "edit", "syncs",
                  limit),
            Route("POST", _BASE + "/dead-letters/retry", self.retry, "Send the dead letters again", "edit", "syncs"),
            Route("POST", _BASE + "/retry", self.retry, "Send the dead letters again", "edit", "syncs"),
            Route("POST", _BASE + "/pause", self.pause, "Send nothing until resumed; everything is kept", "edit",
                  "syncs", answer='{"paused": true}'),
            Route("POST", _BASE + "/resume", self.resume, "Go on sending", "edit", "syncs",
                  answer='{"paused": false}'),
            Route("POST", _BASE + "/resync", self.resync, "Send every member again, remove strays", "edit", "syncs",
                  answer='{"resyncing": "promo", "began_at": "2026-11-23T10:00:00.000Z", "strays": ""}'),
        ]  # fmt: skip

    async def sync_log(self, request: web.Request) -> web.StreamResponse:
        """A page of a sync's log."""
        sync, query = self._sync(request), request.query
        asked = LogQuery(
            failed=flag(query, "failed"),
            after=whole_number(query, "after", 0, 0, _AFTER_MAX),
            limit=whole_number(query, "limit", SYNC_ROWS_DEFAULT, 1, SYNC_ROWS_MAX),
            user=query.get("user", ""),
            outcomes=_words(query, "outcome", SYNC_OUTCOMES),
            kinds=_words(query, "kind", SYNC_KINDS),
            since_ms=_time(query, "since"),
            until_ms=_time(query, "until"),
            detail=flag(query, "detail"),
        )
        return answered(await self._delivery.sync_log(sync, asked))

    async def dead_letters(self, request: web.Request) -> web.StreamResponse:
        """A sync's dead letters."""
        limit = whole_number(request.query, "limit", SYNC_ROWS_DEFAULT, 1, SYNC_ROWS_MAX)
        return answered(await self._delivery.dead_letters(self._sync(request), limit))

    async def retry(self, request: web.Request) -> web.StreamResponse:
        """Queue a sync's dead letters again."""
        return answered(await self._delivery.retry(self._sync(request)))

    async def pause(self, request: web.Request) -> web.StreamResponse:
        """Hold a sync."""
        return answered(await self._delivery.suspend(self._sync(request), True))

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Let a sync go on."""
        return answered(await self._delivery.suspend(self._sync(request), False))

    async def resync(self, request: web.Request) -> web.StreamResponse:
        """Begin a resync; `GET /api/v1/status` says `resyncing` until it is over."""
        return answered(await self._delivery.resync(self._sync(request)))

    def _sync(self, request: web.Request) -> str:
        sync_id = request.match_info["id"]
        present(self._watcher.current, "syncs", sync_id)
        return sync_id


def _words(query: Mapping[str, str], name: str, known: Sequence[str]) -> tuple[str, ...]:
    text = query.get(name)
    if text is None:
        return ()
    words = tuple(text.split(","))
    if not all(word in known for word in words):
        allowed = ", ".join(known)
        raise problems.bad_request(f"The parameter {name} is {text!r}; allowed, joined by commas: {allowed}.")
    return words


def _time(query: Mapping[str, str], name: str) -> int | None:
    """Read a time, UTC ms; raises Problem 400 for what is none."""
    text = query.get(name)
    if text is None:
        return None
    at_ms = coerce_timestamp(int(text) if text.isascii() and text.isdecimal() and len(text) <= 15 else text)
    if at_ms is None:
        raise problems.bad_request(
            f"The parameter {name} is {text!r}; allowed: RFC 3339 (2026-11-23T10:00:00Z) or ms since 1970."
        )
    return at_ms

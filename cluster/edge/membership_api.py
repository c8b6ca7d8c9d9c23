"""Membership over HTTP: one user, many pairs, all of a user's audiences, all of an audience's members."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from cluster.edge import problems
from cluster.edge.bodies import read_document
from cluster.edge.reading import AS_OF, AWAY, Known, Memberships, usable_key
from cluster.edge.routes import Route, json_response
from cluster.edge.state import EdgeState
from cluster.limits import LOOKUP_PAIRS_MAX, MEMBERS_PAGE_DEFAULT, MEMBERS_PAGE_MAX

_TRUE: Final = b'{"isMember":true}'
_FALSE: Final = b'{"isMember":false}'
_NO_STORE: Final = {"Cache-Control": "no-store"}
_FLAGS: Final = {"1": True, "true": True, "0": False, "false": False}


class Pairs(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/memberships."""

    users: list[str]
    audiences: list[str]


_pairs = msgspec.json.Decoder(Pairs)


class MembershipApi:
    """The handlers. `state` gives the present state; nothing here keeps it over an await."""

    def __init__(self, state: Callable[[], EdgeState], memberships: Memberships) -> None:
        self._state = state
        self._memberships = memberships

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        tag = "membership"
        return [
            Route("GET", "/api/v1/audiences/{audience_id}/memberships/{user_id}", self.one, tag=tag, role="read",
                  summary="Whether a user is in an audience now, to the millisecond",
                  query={"detail": "1: also `as_of`, `since`, `changes_at` (UTC ms) and `version`"},
                  answer='{"isMember": true}'),
            Route("POST", "/api/v1/memberships", self.many, tag=tag, role="read",
                  summary=f"Every pair of users and audiences in one call, to {LOOKUP_PAIRS_MAX:,} pairs",
                  body='{"users": ["u1"], "audiences": ["a1"]}',
                  answer='{"memberships": [{"user": "u1", "audience": "a1", "isMember": true}]}'),
            Route("GET", "/api/v1/users/{user_id}/memberships", self.of_user, tag=tag, role="read",
                  summary="Every audience that a user is in", answer='{"user": "u1", "audiences": ["a1"]}'),
            Route("GET", "/api/v1/audiences/{audience_id}/members", self.members, tag=tag, role="read",
                  summary="The members of an audience, page by page",
                  query={"limit": f"1 to {MEMBERS_PAGE_MAX:,}", "cursor": "`cursor` of the page before"},
                  answer='{"members": ["u1"], "cursor": null, "as_of": 0}'),
        ]  # fmt: skip

    async def one(self, request: web.Request) -> web.StreamResponse:
        """One user in one audience; the usual form of it is answered by `fastpath` before it gets here."""
        audience_id, user = request.match_info["audience_id"], request.match_info["user_id"]
        parent = readable_parent(self._state(), audience_id)
        if flag(request.query, "detail"):
            return json_response(await self._detail(parent, user, audience_id), headers=_NO_STORE)
        known = await self._memberships.is_member(parent, user, audience_id) if usable_key(user) else Known(False)
        body = _TRUE if known.is_member else _FALSE
        headers = _NO_STORE if known.as_of_ms is None else {**_NO_STORE, AS_OF: str(known.as_of_ms)}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _detail(self, parent: str, user: str, audience_id: str) -> dict[str, Any]:
        version = self._state().audience_versions.get(audience_id, 0)
        if not usable_key(user):
            return {"isMember": False, "as_of": None, "since": None, "changes_at": None, "version": version}
        owner = self._memberships.owner(user)
        try:
            reply = await self._memberships.ask(owner, parent, [user], [audience_id], detail=True)
        except problems.Problem as problem:
            known = self._memberships.last_known(parent, user, audience_id) if problem.code in AWAY else None
            if known is None:
                raise
            unknown = {"since": None, "changes_at": None, "version": version}
            return {"isMember": known.is_member, "as_of": known.as_of_ms, **unknown}
        details = reply["details"][0][0]
        return {
            "isMember": bool(reply["members"][0][0]),
            "as_of": reply["as_of"],
            "since": details.get("since"),
            "changes_at": details.get("changes_at"),
            "version": details.get("version", version),
        }

    async def many(self, request: web.Request) -> web.StreamResponse:
        """Users times audiences; an unknown audience refuses the whole call, an unknown user is in none."""
        try:
            pairs = _pairs.decode(await read_document(request))
        except msgspec.ValidationError as error:
            raise problems.unprocessable(f"The body is not as it should be: {error}.") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise problems.bad_request(f"The body is not JSON: {error}.", "invalid_json") from error
        count = len(pairs.users) * len(pairs.audiences)
        if count > LOOKUP_PAIRS_MAX:
            message = f"{count:,} pairs were asked for; at most {LOOKUP_PAIRS_MAX:,} are allowed. Ask in several calls."
            raise problems.unprocessable(message)
        rows, as_of_ms = await self._rows(pairs)
        return json_response({"memberships": rows, **_stale(as_of_ms)}, headers=_NO_STORE)

    async def _rows(self, pairs: Pairs) -> tuple[list[dict[str, Any]], int | None]:
        state = self._state()
        by_parent: dict[str, list[str]] = {}
        for audience_id in dict.fromkeys(pairs.audiences):
            by_parent.setdefault(readable_parent(state, audience_id), []).append(audience_id)
        users = [user for user in dict.fromkeys(pairs.users) if usable_key(user)]
        members: dict[tuple[str, str], bool] = {}
        oldest_ms: int | None = None
        for parent, audiences in by_parent.items():
            matrix, as_of_ms = await self._memberships.matrix(parent, users, audiences)
            oldest_ms = _older(oldest_ms, as_of_ms)
            members.update(
                ((user, audience), member)
                for user, row in zip(users, matrix, strict=True)
                for audience, member in zip(audiences, row, strict=True)
            )
        rows = [
            {"user": user, "audience": audience, "isMember": members.get((user, audience), False)}
            for user in pairs.users
            for audience in pairs.audiences
        ]
        return rows, oldest_ms

    async def of_user(self, request: web.Request) -> web.StreamResponse:
        """All audiences of all parents that have this key."""
        state, user = self._state(), request.match_info["user_id"]
        by_parent: dict[str, list[str]] = {}
        for audience in state.audiences.values():
            by_parent.setdefault(audience.parent, []).append(audience.id)
        found: list[str] = []
        oldest_ms: int | None = None
        for parent, audiences in by_parent.items() if usable_key(user) else ():
            [row], as_of_ms = await self._memberships.matrix(parent, [user], audiences)
            oldest_ms = _older(oldest_ms, as_of_ms)
            found.extend(audience for audience, member in zip(audiences, row, strict=True) if member)
        return json_response({"user": user, "audiences": sorted(found), **_stale(oldest_ms)}, headers=_NO_STORE)

    async def members(self, request: web.Request) -> web.StreamResponse:
        """One page, evaluator after evaluator; the cursor names the evaluator and its own cursor."""
        audience_id = request.match_info["audience_id"]
        readable_parent(self._state(), audience_id)
        limit = whole_number(request.query, "limit", MEMBERS_PAGE_DEFAULT, 1, MEMBERS_PAGE_MAX)
        position, inner = read_cursor(request.query.get("cursor"))
        page = await self._page(audience_id, position, inner, limit)
        return json_response(page, headers=_NO_STORE)

    async def _page(self, audience_id: str, position: int, inner: str | None, limit: int) -> dict[str, Any]:
        indices = sorted({*self._state().owner_of_partition})
        members: list[str] = []
        as_of: int | None = None
        while position < len(indices):
            reply = await self._memberships.page(indices[position], audience_id, inner, limit - len(members))
            members.extend(reply["members"])
            as_of = reply["as_of"] if as_of is None else min(as_of, reply["as_of"])
            inner = reply["cursor"]
            if inner is None:
                position += 1
            if len(members) >= limit:
                break
            await asyncio.sleep(0)
        cursor = write_cursor(position, inner) if position < len(indices) else None
        return {"members": members, "cursor": cursor, "as_of": as_of}


def readable_parent(state: EdgeState, audience_id: str) -> str:
    """Give the parent of an audience that can be read; raises Problem 404, for drafts and archived ones too."""
    parent = state.parent_of(audience_id)
    if parent is None:
        raise problems.not_found(f"There is no published audience {audience_id!r}. GET /api/v1/audiences lists them.")
    return parent


def flag(query: Mapping[str, str], name: str) -> bool:
    """Read an on/off parameter: 1, true, 0 or false; absent is off."""
    text = query.get(name)
    if text is None:
        return False
    if text not in _FLAGS:
        raise problems.bad_request(f"The parameter {name} is {text!r}; allowed: 1, true, 0, false.")
    return _FLAGS[text]


def _older(known_ms: int | None, other_ms: int | None) -> int | None:
    """Give the older of two times of which None is now."""
    return other_ms if known_ms is None else known_ms if other_ms is None else min(known_ms, other_ms)


def _stale(as_of_ms: int | None) -> dict[str, int]:
    return {} if as_of_ms is None else {"as_of": as_of_ms}


def whole_number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Read a bounded whole number; raises Problem 400 for anything else."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and least <= int(text) <= most):
        raise problems.bad_request(f"The parameter {name} is {text!r}; allowed: {least} to {most}.")
    return int(text)


def write_cursor(position: int, inner: str | None) -> str:
    """Make the opaque cursor of the next page."""
    content = msgspec.json.encode([position, inner])
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def read_cursor(text: str | None) -> tuple[int, str | None]:
    """Undo `write_cursor`; raises Problem 400 for what it did not write."""
    if not text:
        return 0, None
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        position, inner = msgspec.json.decode(content, type=tuple[int, str | None])
    except (binascii.Error, ValueError) as error:
        raise problems.bad_request("The cursor is not one that a page gave.") from error
    if position < 0:
        raise problems.bad_request("The cursor is not one that a page gave.")
    return position, inner

"""Administration over HTTP: definitions, keys, status. Every change goes through the controller."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from aiohttp import web

from cluster.definitions.document import SECTIONS
from cluster.edge import documents, problems
from cluster.edge.bodies import read_document
from cluster.edge.routes import GRANT, Route, json_response
from cluster.edge.state import EdgeState, StateWatcher
from cluster.keys import ROLES, allows
from cluster.limits import STALE_WAIT_MS
from cluster.runtime.protocols import Controller, Delivery, Reply, Role, Traits

_MODES: Final = ("merge", "replace")
#: Sections that hold credentials or say where they go.
_ADMIN_SECTIONS: Final = frozenset({"sources", "destinations", "alert_channels"})


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/keys."""

    role: Role
    name: str = ""


class Trial(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/destinations/{id}/test."""

    user: str
    sync: str = ""
    verb: Literal["add", "remove"] = "add"
    send: bool = False


class Scale(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /api/v1/scale."""

    evaluators: int


_new_key = msgspec.json.Decoder(NewKey)
_trial = msgspec.json.Decoder(Trial)
_scale = msgspec.json.Decoder(Scale)


class AdminApi:
    """The handlers. One change at a time: a deletion is a read and a replacement, which must not cross another."""

    def __init__(self, watcher: StateWatcher, controller: Controller, delivery: Delivery, traits: Traits) -> None:
        self._watcher = watcher
        self._controller = controller
        self._delivery = delivery
        self._traits = traits
        self._changing = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Give the table of these paths."""
        status = Route("GET", "/api/v1/status", self.status, "Nodes, actors, lag, audiences, syncs", role="read")
        scale = Route("POST", "/api/v1/scale", self.scale, "Hand all users over to so many evaluators",
                      role="admin", body='{"evaluators": 2}',
                      answer='{"evaluators": 2, "partitions": 64, "pause_ms": 120}')
        groups = (self._document_routes(), self._object_routes(), self._key_routes())
        return [*(route for group in groups for route in group), status, scale]

    def _document_routes(self) -> list[Route]:
        mode = {"mode": "merge (default): by id; replace: the document is the whole truth"}
        body = "a definitions document, JSON or YAML"
        answer = '{"version": 3, "changes": [{"kind": "audience", "id": "a1", "change": "added"}]}'
        return [
            Route("POST", "/api/v1/apply", self.apply, "Check a document and make it so, all or nothing",
                  role="edit", tag="definitions", query=mode, body=body, answer=answer),
            Route("POST", "/api/v1/plan", self.plan, "Say what applying a document would change",
                  role="edit", tag="definitions", query=mode, body=body, answer=answer),
        ]  # fmt: skip

    def _object_routes(self) -> list[Route]:
        routes: list[Route] = []
        for section in SECTIONS:
            reader: Role = "admin" if section in _ADMIN_SECTIONS else "edit"
            writer: Role = "edit" if section in documents.EDITABLE else "admin"
            one, path = section.removesuffix("s").replace("_", " "), f"/api/v1/{section}"
            routes += [
                Route("GET", path, self._lister(section), f"All {section.replace('_', ' ')}", reader, "definitions"),
                Route("GET", path + "/{id}", self._getter(section), f"One {one}", reader, "definitions"),
                Route("PUT", path + "/{id}", self._putter(section), f"Add or replace a {one}", writer, "definitions",
                      body=f"a {one}, as in a definitions document"),
                Route("DELETE", path + "/{id}", self._deleter(section), f"Remove a {one}", writer, "definitions"),
            ]  # fmt: skip
        publish = Route("POST", "/api/v1/audiences/{id}/publish", self.publish, "Publish an audience", "edit",
                        "definitions")  # fmt: skip
        refresh = Route("POST", "/api/v1/parent_models/{id}/refresh", self.refresh, "Read a trait source now", "edit",
                        "definitions", answer='{"refreshing": "users"}')  # fmt: skip
        test = Route("POST", "/api/v1/destinations/{id}/test", self.test_destination,
                     "Show the requests that a user makes; with `send`, make them", "admin", "definitions",
                     body='{"user": "user_42", "sync": "", "verb": "add", "send": false}')  # fmt: skip
        notice = Route("POST", "/api/v1/alert_channels/{id}/test", self.test_channel,
                       "Send the channel a notice that means nothing", "admin", "definitions",
                       answer='{"channel": "ops", "sent": true, "failure": ""}')  # fmt: skip
        return [*routes, publish, refresh, test, notice]

    def _key_routes(self) -> list[Route]:
        return [
            Route("GET", "/api/v1/keys", self.keys, "All API keys, without the keys themselves", "admin", "keys"),
            Route("POST", "/api/v1/keys", self.create_key, "Make a key; it is shown this once", "admin", "keys",
                  body='{"role": "read", "name": "shop"}',
                  answer='{"id": "k1", "name": "shop", "role": "read", "key": "ush_…"}'),
            Route("DELETE", "/api/v1/keys/{id}", self.revoke_key, "Revoke a key", "admin", "keys"),
        ]  # fmt: skip

    # --- documents -------------------------------------------------------------------------------

    async def apply(self, request: web.Request) -> web.StreamResponse:
        """Publish; an edit key may bring audiences and syncs by merge alone."""
        document, mode = await self._document(request)
        self._check_reach(request, document, mode)
        async with self._changing:
            return await self._applied(document, f"POST {request.path}", mode)

    async def scale(self, request: web.Request) -> web.StreamResponse:
        """Hand users over; answers when it is done, after some seconds that it is under way: asking again waits on."""
        try:
            wanted = _scale.decode(await read_document(request))
        except msgspec.ValidationError as error:
            row = {"path": "evaluators", "message": str(error), "allowed": "a whole number, at most one a partition"}
            raise problems.unprocessable("The body is not as it should be.", [row]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise problems.bad_request(f"The body is not JSON: {error}.", "invalid_json") from error
        return answered(await self._controller.scale(wanted.evaluators))

    async def plan(self, request: web.Request) -> web.StreamResponse:
        """As apply, but changes nothing: open to edit keys whatever it names."""
        document, mode = await self._document(request)
        return answered(await self._controller.plan(document, f"POST {request.path}", mode))

    async def _document(self, request: web.Request) -> tuple[dict[str, Any], str]:
        mode = request.query.get("mode", "merge")
        if mode not in _MODES:
            raise problems.bad_request(f"The mode is {mode!r}; allowed: {', '.join(_MODES)}.")
        document = documents.read_body(await read_document(request), request_type(request))
        return documents.restore_document(document, stored(self._watcher.current)), mode

    def _check_reach(self, request: web.Request, document: Mapping[str, Any], mode: str) -> None:
        if allows(request[GRANT].role, "admin"):
            return
        beyond = documents.sections_beyond(document, documents.EDITABLE)
        if beyond or mode == "replace":
            what = f"the sections {', '.join(beyond)}" if beyond else "mode=replace"
            raise problems.forbidden(f"A key with the role edit changes audiences and syncs; {what} takes admin.")

    async def _applied(self, document: Mapping[str, Any], what: str, mode: str, status: int = 200) -> web.Response:
        reply = await self._controller.apply(document, what, mode)
        response = answered(reply, status)
        # Whoever made the change sees it at once, here; other edges follow in some ms.
        await self._watcher.refresh(int(reply.get("version", 0)), STALE_WAIT_MS if "preparing" not in reply else 0)
        return response

    # --- objects ---------------------------------------------------------------------------------

    def _lister(self, section: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            state = self._watcher.current
            rows = [shown(state, section, item) for item in documents.items(stored(state), section)]
            return json_response({section: rows})

        return handle

    def _getter(self, section: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            state = self._watcher.current
            return json_response(shown(state, section, present(state, section, request.match_info["id"])))

        return handle

    def _putter(self, section: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            object_id = request.match_info["id"]
            body = documents.read_body(await read_document(request), request_type(request))
            if body.setdefault("id", object_id) != object_id:
                row = {"path": "id", "message": "differs from the path", "found": str(body["id"]), "allowed": object_id}
                raise problems.unprocessable("The id in the body and in the path differ.", [row])
            async with self._changing:
                before = documents.find(stored(self._watcher.current), section, object_id)
                item = documents.restore_secrets(body, before)
                document = {"version": 1, section: [item]}
                return await self._applied(document, f"PUT {request.path}", "merge", 200 if before else 201)

        return handle

    def _deleter(self, section: str) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            async with self._changing:
                await self._settled()
                state = self._watcher.current
                present(state, section, request.match_info["id"])
                document = documents.without(stored(state), section, request.match_info["id"])
                return await self._applied(document, f"DELETE {request.path}", "replace")

        return handle

    async def publish(self, request: web.Request) -> web.StreamResponse:
        """Set an audience's status to published, from draft, paused or archived."""
        async with self._changing:
            await self._settled()
            item = present(self._watcher.current, "audiences", request.match_info["id"])
            document = {"version": 1, "audiences": [{**item, "status": "published"}]}
            return await self._applied(document, f"POST {request.path}", "merge")

    async def refresh(self, request: web.Request) -> web.StreamResponse:
        """Have a parent model's trait source read now; `GET /api/v1/status` tells how that ended."""
        parent = request.match_info["id"]
        present(self._watcher.current, "parent_models", parent)
        return answered(await self._traits.refresh(parent))

    async def test_destination(self, request: web.Request) -> web.StreamResponse:
        """Try a destination out on one user."""
        destination = request.match_info["id"]
        present(self._watcher.current, "destinations", destination)
        try:
            wanted = _trial.decode(await read_document(request))
        except msgspec.ValidationError as error:
            row = {"path": "", "message": str(error), "allowed": "user, sync, verb: add or remove, send: true or false"}
            raise problems.unprocessable("The body is not as it should be.", [row]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise problems.bad_request(f"The body is not JSON: {error}.", "invalid_json") from error
        return answered(
            await self._delivery.test_destination(
                destination, wanted.sync, wanted.user, wanted.verb, wanted.send
            )
        )

    async def test_channel(self, request: web.Request) -> web.StreamResponse:
        """Try an alert channel out."""
        channel = request.match_info["id"]
        present(self._watcher.current, "alert_channels", channel)
        return answered(await self._delivery.test_channel(channel))

    async def _settled(self) -> None:
        """See to it that what is stored is what this edge knows; raises Problem 503 during a publication."""
        await self._watcher.sync()
        if self._watcher.current.preparing:
            names = ", ".join(self._watcher.current.preparing)
            raise problems.unavailable(f"A publication is under way ({names}). Try again when it is in force.")

    # --- keys and status -------------------------------------------------------------------------

    async def keys(self, request: web.Request) -> web.StreamResponse:
        """List keys: what they may do, never what they are."""
        rows = [
            {"id": key.id, "name": key.name, "role": key.role, "created_at": key.created_at_ms}
            for key in self._watcher.current.records
        ]
        return json_response({"keys": rows})

    async def create_key(self, request: web.Request) -> web.StreamResponse:
        """Make a key."""
        try:
            wanted = _new_key.decode(await read_document(request))
        except msgspec.ValidationError as error:
            row = {"path": "role", "message": str(error), "allowed": ", ".join(ROLES)}
            raise problems.unprocessable("The body is not as it should be.", [row]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise problems.bad_request(f"The body is not JSON: {error}.", "invalid_json") from error
        reply = await self._controller.create_key(wanted.role, wanted.name)
        await self._watcher.sync()
        return answered(reply, 201)

    async def revoke_key(self, request: web.Request) -> web.StreamResponse:
        """Shut a key out, but never the last admin key."""
        key_id = request.match_info["id"]
        async with self._changing:
            await self._watcher.sync()
            roles = {key.id: key.role for key in self._watcher.current.records}
            if roles.get(key_id) == "admin" and list(roles.values()).count("admin") == 1:
                message = "This is the last admin key. Make another one first: usher keys create --role admin."
                raise problems.Problem(409, "last_admin_key", message)
            reply = await self._controller.revoke_key(key_id)
            await self._watcher.sync()
        if not reply.get("revoked") and "error" not in reply:
            raise problems.not_found(f"There is no key with the id {key_id!r}. GET /api/v1/keys lists them.")
        return answered(reply)

    async def status(self, request: web.Request) -> web.StreamResponse:
        """Everything in one look."""
        return answered(await self._controller.status())


def answered(reply: Reply, status: int = 200) -> web.Response:
    """Answer a reply; raises the Problem that its error stands for."""
    problem = problems.of_reply(reply)
    if problem is not None:
        raise problem
    return json_response(reply, status)


def stored(state: EdgeState) -> Mapping[str, Any]:
    """Give the document in force."""
    return state.definitions.document if state.definitions else {}


def present(state: EdgeState, section: str, object_id: str) -> dict[str, Any]:
    """Give a stored object; raises Problem 404."""
    item = documents.find(stored(state), section, object_id)
    if item is None:
        raise problems.not_found(f"There is no {object_id!r} in {section}. GET /api/v1/{section} lists what there is.")
    return item


def shown(state: EdgeState, section: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Give an object as GET shows it: secrets hidden, an audience with its status."""
    hidden = documents.hide_secrets(section, item)
    if section == "audiences":
        hidden.setdefault("status", "published")
    return hidden


def request_type(request: web.Request) -> str:
    """Give the media type that the client sent; empty where it sent none."""
    return request.headers.get("Content-Type", "").partition(";")[0].strip().lower()

"""Iterable's lists: what they take, what they refuse and how they say so."""

from __future__ import annotations

import re
from typing import Any

import jsonschema

from tests.destinations.iterable import schema
from tests.destinations.vendor import Came, Says, Vendor

ADDRESS = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


class IterableServer(Vendor):
    """One project. `lists` holds each list's members, `users` everybody that the project has."""

    key = "it3r-s3cret"

    def __init__(self, *, project: str = "email", requests_max: int = 0, subscribers_max: int = 1_000) -> None:
        super().__init__()
        self.project = project
        self.shown: dict[int, dict[str, Any]] = {}
        self.lists: dict[int, set[str]] = {}
        self.users: set[str] = set()
        self.fields: dict[str, dict[str, Any]] = {}
        self.forgotten: set[str] = set()
        self.left_channel: set[str] = set()
        self.subscribers_max = subscribers_max
        self.requests_max = requests_max
        self.left = requests_max
        #: Addresses of profiles that have an id too, by id.
        self.addresses: dict[str, str] = {}
        #: Listings that may be asked for before a minute is over.
        self.listings_left = 5
        self.make("Newsletter", "made by hand")

    def answer(self, came: Came) -> Says:
        if came.headers.get("api-key") != self.key:
            return error(401, "BadApiKey", "Invalid API key")
        if self.requests_max:
            self.left -= 1
            if self.left < 0:
                self.left = self.requests_max  # the second is over when the caller comes back
                return error(429, "RateLimitExceeded", "Rate limit exceeded")
        if (came.method, came.path) == ("GET", "/api/lists"):
            return Says(200, {"lists": list(self.shown.values())})
        if (came.method, came.path) == ("GET", "/api/lists/getUsers"):
            return self._list(came)
        calls = {
            "/api/lists": (schema.CREATE, self._create),
            "/api/lists/subscribe": (schema.SUBSCRIBE, self._subscribe),
            "/api/lists/unsubscribe": (schema.UNSUBSCRIBE, self._unsubscribe),
        }
        if came.method != "POST" or came.path not in calls:
            return error(404, "NotFound", "no such path")
        shape, call = calls[came.path]
        try:
            jsonschema.validate(came.json, shape)
        except jsonschema.ValidationError as fault:
            return error(400, "BadParams", fault.message)
        return call(came.json)

    def make(self, name: str, description: str) -> int:
        id_ = 937_227 + len(self.shown)
        self.shown[id_] = {"id": id_, "name": name, "description": description, "createdAt": 1_611_000_000_000,
                           "listType": "Standard"}  # fmt: skip
        self.lists[id_] = set()
        return id_

    def _list(self, came: Came) -> Says:
        """Plain text, a name a line; a profile with both names is listed by one of them."""
        if set(came.query) - {"listId", "preferUserId"} or not came.query.get("listId", "").isdigit():
            return error(400, "BadParams", "listId")
        if came.query.get("preferUserId", "false") not in ("true", "false"):
            return error(400, "BadParams", "preferUserId")
        if int(came.query["listId"]) not in self.lists:
            return error(404, "NotFound", "list not found")
        self.listings_left -= 1
        if self.listings_left < 0:
            return error(429, "RateLimitExceeded", "5 requests/minute, per project")
        by_id = came.query.get("preferUserId") == "true"
        ids = {address: id_ for id_, address in self.addresses.items()}
        names = ids if by_id else self.addresses
        members = [names.get(name, name) for name in sorted(self.lists[int(came.query["listId"])])]
        return Says(200, "".join(f"{name}\n" for name in members).encode(), {"content-type": "text/plain"})

    def _create(self, body: dict[str, Any]) -> Says:
        return Says(200, {"listId": self.make(body["name"], body.get("description", ""))})

    def _subscribe(self, body: dict[str, Any]) -> Says:
        refusal = self._refusal(body)
        if refusal is not None:
            return refusal
        failed: dict[str, list[str]] = {}
        only_existing = body.get("updateExistingUsersOnly", False) and self.project != "email"
        done = 0
        for one in body["subscribers"]:
            (key, value), kind = self._named(one)
            if not self._well_formed(key, value):
                failed.setdefault(f"invalid{kind}", []).append(value)
            elif value in self.forgotten:
                failed.setdefault(f"forgotten{kind}", []).append(value)
            elif value not in self.users and only_existing:
                failed.setdefault(f"notFound{kind}", []).append(value)
            else:
                done += 1
                self.users.add(value)
                self.fields[value] = {**self.fields.get(value, {}), **one.get("dataFields", {})}
                self.lists[body["listId"]].add(value)
        return self._updated(done, failed)

    def _unsubscribe(self, body: dict[str, Any]) -> Says:
        refusal = self._refusal(body)
        if refusal is not None:
            return refusal
        failed: dict[str, list[str]] = {}
        done = 0
        for one in body["subscribers"]:
            (_, value), kind = self._named(one)
            if value not in self.users:
                failed.setdefault(f"notFound{kind}", []).append(value)
                continue
            done += 1
            self.lists[body["listId"]].discard(value)
            if body.get("channelUnsubscribe", False):
                self.left_channel.add(value)
        return self._updated(done, failed)

    def _refusal(self, body: dict[str, Any]) -> Says | None:
        if body["listId"] not in self.lists:
            return error(404, "NotFound", "list not found")
        if len(body["subscribers"]) > self.subscribers_max:
            return error(400, "BatchTooLarge", "too many subscribers")
        wanted = {"email": {"email"}, "user_id": {"userId"}, "hybrid": {"email", "userId"}}[self.project]
        if any(self._named(one)[0][0] not in wanted for one in body["subscribers"]):
            return error(400, "RequestFieldsTypesMismatched", "wrong identifier for this project")
        return None

    def _named(self, one: dict[str, Any]) -> tuple[tuple[str, str], str]:
        if "email" in one:
            return ("email", one["email"].lower()), "Emails"
        return ("userId", one["userId"]), "UserIds"

    def _well_formed(self, key: str, value: str) -> bool:
        return bool(ADDRESS.fullmatch(value)) if key == "email" else bool(value) and value.isascii()

    def _updated(self, done: int, failed: dict[str, list[str]]) -> Says:
        count = sum(map(len, failed.values()))
        body = {"successCount": done, "failCount": count, "invalidEmails": failed.get("invalidEmails", []),
                "invalidUserIds": failed.get("invalidUserIds", []), "createdFields": [], "filteredOutFields": [],
                "failedUpdates": failed}  # fmt: skip
        jsonschema.validate(body, schema.UPDATE_RESPONSE)
        return Says(200, body)


def error(status: int, code: str, message: str) -> Says:
    body = {"msg": message, "code": code, "params": None}
    jsonschema.validate(body, schema.ERROR)
    return Says(status, body)

"""Braze's `/users/track`: what it takes, what it refuses, and what it says of single objects."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from tests.destinations.vendor import Came, Says, Vendor

ARRAYS = ("attributes", "events", "purchases")
IDENTIFIERS = ("external_id", "braze_id", "user_alias", "email", "phone")
OBJECTS_MAX = 75
BYTES_MAX = 4_000_000


class BrazeServer(Vendor):
    """One workspace. `profiles` holds each profile's attributes by how it is named."""

    key = "br4ze-s3cret"

    def __init__(self, *, requests_max: int = 0) -> None:
        super().__init__()
        self.profiles: dict[tuple[str, str], dict[str, Any]] = {}
        self.events: list[tuple[tuple[str, str], dict[str, Any]]] = []
        self.blocked: set[str] = set()
        self.requests_max = requests_max
        self.left = requests_max

    def answer(self, came: Came) -> Says:
        if came.path != "/users/track" or came.method != "POST":
            return Says(404, {"message": "Not Found"})
        if came.headers.get("authorization") != f"Bearer {self.key}":
            return Says(401, {"message": "Invalid API key"})
        if self.requests_max:
            self.left -= 1
            if self.left < 0:
                self.left = self.requests_max  # the window is over when the caller comes back
                return Says(429, {"message": "You have reached the rate limit"}, self._limits(0))
        if len(came.body) > BYTES_MAX:
            return Says(413, {"message": "Payload too large"})
        body = came.json
        if not isinstance(body, dict) or set(body) - set(ARRAYS):
            return Says(400, {"message": "Invalid request body"})
        objects = [(array, index, entry) for array in ARRAYS for index, entry in enumerate(body.get(array, []))]
        if not objects or len(objects) > OBJECTS_MAX:
            return Says(400, {"message": f"You must provide between 1 and {OBJECTS_MAX} objects"})
        errors = [
            {"type": fault, "input_array": array, "index": index}
            for array, index, entry in objects
            if (fault := self._take(array, entry))
        ]
        counts = {f"{array}_processed": len(body[array]) for array in ARRAYS if array in body}
        return Says(
            201, {"message": "success", **counts, **({"errors": errors} if errors else {})}, self._limits(self.left)
        )

    def members(self, attribute: str) -> set[str]:
        """Who has the attribute true."""
        return {name for (_, name), shown in self.profiles.items() if shown.get(attribute) is True}

    def _limits(self, left: int) -> dict[str, str]:
        if not self.requests_max:
            return {}
        return {"X-RateLimit-Limit": str(self.requests_max), "X-RateLimit-Remaining": str(max(0, left)),
                "X-RateLimit-Reset": "4102444800"}  # fmt: skip

    def _take(self, array: str, entry: dict[str, Any]) -> str:
        """Apply an object; give why it is not taken."""
        named = [name for name in IDENTIFIERS if name in entry]
        if len(named) != 1:
            return "'external_id' or 'braze_id' or 'user_alias' or 'email' or 'phone' is required"
        value = entry[named[0]]
        if named[0] == "external_id" and len(str(value).encode()) > 987:
            return "'external_id' must have fewer than 988 bytes"
        if named[0] == "user_alias" and set(value) != {"alias_name", "alias_label"}:
            return "'user_alias' is invalid"
        if named[0] == "phone" and not re.fullmatch(r"\+[1-9][0-9]{6,14}", value):
            return "'phone' is invalid"
        key = (named[0], value["alias_name"] if named[0] == "user_alias" else str(value))
        if key[1] in self.blocked:
            return "the user is on the blocklist"
        if key not in self.profiles:
            if entry.get("_update_existing_only", False):
                return ""
            self.profiles[key] = {}
        if array == "events":
            if not entry.get("name") or datetime.fromisoformat(entry["time"]).tzinfo is None:
                return "'name' and 'time' are required"
            self.events.append((key, entry))
            return ""
        for name, given in entry.items():
            if name not in IDENTIFIERS and not name.startswith("_"):
                self._set(self.profiles[key], name, given)
        return ""

    def _set(self, profile: dict[str, Any], name: str, given: Any) -> None:
        if given is None:
            profile.pop(name, None)
        elif isinstance(given, dict):
            held = profile.setdefault(name, [])
            for value in given.get("add", []):
                if value not in held:
                    held.append(value)
            for value in given.get("remove", []):
                if value in held:
                    held.remove(value)
        else:
            profile[name] = given

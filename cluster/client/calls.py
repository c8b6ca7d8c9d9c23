"""Every call of the client as a value: what to send and how to read the answer. Both clients carry these out."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from cluster.client.errors import error_of, unreadable
from cluster.client.models import (
    ApiKey,
    Applied,
    Document,
    Membership,
    MembersPage,
    Pairs,
    Resyncing,
    Retried,
    Scaled,
    Sent,
    Status,
    SyncLog,
    UserMemberships,
)
from cluster.conditions import Condition
from cluster.errors import InputError

T = TypeVar("T")
M = TypeVar("M", bound=msgspec.Struct)

Mode: TypeAlias = Literal["merge", "replace"]
Role: TypeAlias = Literal["ingest", "read", "edit", "admin"]
#: RFC 3339 text, UTC ms, or a datetime (UTC where it has no zone).
Time: TypeAlias = datetime | str | int | None

URL_DEFAULT: Final = "http://127.0.0.1:8080"
#: Sections of a document that have paths of their own.
SECTIONS: Final = ("sources", "parent_models", "event_models", "audiences", "destinations", "syncs")

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. `read` turns a success's body into the result and may raise msgspec's errors."""

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str | int] = field(default_factory=dict)
    #: JSON to send; None: no body.
    content: Any = None
    #: The same, written already.
    written: bytes | None = None

    @property
    def target(self) -> str:
        """The path with its query, percent-encoded."""
        return f"{self.path}?{urlencode(self.query)}" if self.query else self.path

    @property
    def body(self) -> bytes | None:
        """The body as sent."""
        return self.written if self.content is None else _encode(self.content)

    @property
    def title(self) -> str:
        """Method and path, for messages."""
        return f"{self.method} {self.path}"

    def result(self, status: int, headers: Mapping[str, str], body: bytes) -> T:
        """Give the result, or raise the error that the answer stands for."""
        if not 200 <= status < 300:
            raise error_of(self.title, status, headers, body)
        try:
            return self.read(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise unreadable(self.title, status, str(error)) from error


def base_url(url: str) -> str:
    """Check a server's URL and give it without a slash at its end; raises InputError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        message = f"{url!r} is not a server's URL; allowed: http://HOST:PORT or https://HOST[:PORT][/PREFIX]."
        raise InputError(message)
    return url.rstrip("/")


def headers(api_key: str | None) -> dict[str, str]:
    """Give the headers of every request; raises InputError for a key that no header can hold."""
    common = {"Accept": "application/json", "User-Agent": "usher-python", "Content-Type": "application/json"}
    if not api_key:
        return common
    if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        message = "The API key holds a space, a line break or another character that no key has."
        raise InputError(message, next_step="Copy it again from `usher keys create`, without what is around it.")
    return {**common, "Authorization": f"Bearer {api_key}"}


# --- membership ------------------------------------------------------------------------------------


def membership(audience: str, user: str, *, detail: bool) -> Call[Membership]:
    """One user in one audience."""
    path = f"/api/v1/audiences/{segment(audience)}/memberships/{segment(user)}"
    return Call("GET", path, _model(Membership), {"detail": 1} if detail else {})


def memberships(users: Sequence[str], audiences: Sequence[str]) -> Call[Pairs]:
    """Every pair."""
    return Call("POST", "/api/v1/memberships", _model(Pairs), content={"users": users, "audiences": audiences})


def user_memberships(user: str) -> Call[UserMemberships]:
    """All audiences of a user."""
    return Call("GET", f"/api/v1/users/{segment(user)}/memberships", _model(UserMemberships))


def members_page(audience: str, cursor: str | None, limit: int) -> Call[MembersPage]:
    """One page of members."""
    query: dict[str, str | int] = {"limit": limit, **({"cursor": cursor} if cursor else {})}
    return Call("GET", f"/api/v1/audiences/{segment(audience)}/members", _model(MembersPage), query)


# --- definitions -----------------------------------------------------------------------------------


def get_object(section: str, object_id: str) -> Call[Document]:
    """One definition object."""
    return Call("GET", f"/api/v1/{section}/{segment(object_id)}", _model_of(Document))


def list_objects(section: str) -> Call[list[Document]]:
    """All objects of a section."""

    def read(body: bytes) -> list[Document]:
        return msgspec.json.decode(body, type=dict[str, list[Document]])[section]

    return Call("GET", f"/api/v1/{section}", read)


def put_object(section: str, document: Mapping[str, Any]) -> Call[Applied]:
    """Add or replace one object."""
    object_id = document.get("id")
    if not isinstance(object_id, str) or not object_id:
        message = f"An object of {section} needs an id; found {object_id!r}."
        raise InputError(message)
    content = {key: plain(value) for key, value in document.items()}
    return Call("PUT", f"/api/v1/{section}/{segment(object_id)}", _model(Applied), content=content)


def delete_object(section: str, object_id: str) -> Call[Applied]:
    """Remove one object."""
    return Call("DELETE", f"/api/v1/{section}/{segment(object_id)}", _model(Applied))


def audience_document(
    audience: str, parent: str, where: Condition | Mapping[str, Any], name: str, description: str, status: str
) -> Document:
    """Give an audience as semantics.md §1 writes it."""
    labels = {"name": name, "description": description}
    given = {key: text for key, text in labels.items() if text}
    return {"id": audience, **given, "parent": parent, "where": plain(where), "status": status}


def apply(document: Mapping[str, Any], mode: Mode, *, plan: bool) -> Call[Applied]:
    """Publish a whole document, or say what that would change."""
    path = "/api/v1/plan" if plan else "/api/v1/apply"
    return Call("POST", path, _model(Applied), {"mode": mode}, content=plain(document))


# --- events ----------------------------------------------------------------------------------------


def send_events(events: Iterable[Mapping[str, Any]]) -> Call[Sent]:
    """Native events (semantics.md §1)."""
    return Call("POST", "/api/v1/events", _model(Sent), content=[dict(event) for event in events])


def send_written(events: bytes) -> Call[Sent]:
    """Native events that are a JSON array already."""
    return Call("POST", "/api/v1/events", _model(Sent), written=events)


def track_event(user: str, event: str, properties: Mapping[str, Any] | None, extra: Mapping[str, Any]) -> Document:
    """Give one track event; its message id makes sending it again harmless."""
    return {
        "type": "track", "event": event, "user_id": user, "message_id": str(uuid.uuid4()),
        "properties": dict(properties or {}), **{key: value for key, value in extra.items() if value is not None},
    }  # fmt: skip


# --- keys, syncs, status ---------------------------------------------------------------------------


def create_key(role: Role, name: str) -> Call[ApiKey]:
    """Make a key."""
    return Call("POST", "/api/v1/keys", _model(ApiKey), content={"role": role, "name": name})


def list_keys() -> Call[list[ApiKey]]:
    """All keys, without their text."""

    def read(body: bytes) -> list[ApiKey]:
        return msgspec.json.decode(body, type=dict[str, list[ApiKey]])["keys"]

    return Call("GET", "/api/v1/keys", read)


def revoke_key(key_id: str) -> Call[None]:
    """Shut a key out."""
    return Call("DELETE", f"/api/v1/keys/{segment(key_id)}", lambda body: None)


def scale(evaluators: int) -> Call[Scaled]:
    """Hand all users over to so many evaluators."""
    return Call("POST", "/api/v1/scale", _model(Scaled), content={"evaluators": evaluators})


def sync_log(
    sync: str, *, failed: bool, after: int, limit: int, user: str, outcomes: Sequence[str], kinds: Sequence[str],
    since: Time, until: Time, detail: bool,
) -> Call[SyncLog]:  # fmt: skip
    """Rows of a sync's log."""
    given: dict[str, str | int] = {
        "failed": int(failed), "user": user, "outcome": ",".join(outcomes), "kind": ",".join(kinds),
        "since": _time(since), "until": _time(until), "detail": int(detail),
    }  # fmt: skip
    query: dict[str, str | int] = {"after": after, "limit": limit, **{key: one for key, one in given.items() if one}}
    return Call("GET", f"/api/v1/syncs/{segment(sync)}/log", _model(SyncLog), query)


def dead_letters(sync: str, limit: int) -> Call[list[Document]]:
    """What could not be delivered."""
    path = f"/api/v1/syncs/{segment(sync)}/dead-letters"
    return Call("GET", path, lambda body: msgspec.json.decode(body, type=SyncLog).rows, {"limit": limit})


def retry(sync: str) -> Call[Retried]:
    """Send the dead letters again."""
    return Call("POST", f"/api/v1/syncs/{segment(sync)}/retry", _model(Retried))


def pause(sync: str, *, paused: bool) -> Call[None]:
    """Hold a sync, or let it go on."""
    return Call("POST", f"/api/v1/syncs/{segment(sync)}/{'pause' if paused else 'resume'}", lambda body: None)


def resync(sync: str) -> Call[Resyncing]:
    """Send every member again."""
    return Call("POST", f"/api/v1/syncs/{segment(sync)}/resync", _model(Resyncing))


def test_destination(destination: str, user: str, *, sync: str, exit_: bool, send: bool) -> Call[Document]:
    """Try a destination out on one user."""
    content = {"user": user, "sync": sync, "verb": "remove" if exit_ else "add", "send": send}

    def read(body: bytes) -> Document:
        return msgspec.json.decode(body, type=dict[str, Any])

    return Call("POST", f"/api/v1/destinations/{segment(destination)}/test", read, content=content)


def test_channel(channel: str) -> Call[Document]:
    """Try an alert channel out."""

    def read(body: bytes) -> Document:
        return msgspec.json.decode(body, type=dict[str, Any])

    return Call("POST", f"/api/v1/alert_channels/{segment(channel)}/test", read)


def seen_events() -> Call[Document]:
    """What arrived, by name."""
    return Call("GET", "/api/v1/events/seen", lambda body: msgspec.json.decode(body, type=Document))


def refresh(parent: str) -> Call[None]:
    """Have a parent model's trait source read now."""
    return Call("POST", f"/api/v1/parent_models/{segment(parent)}/refresh", lambda body: None)


def status() -> Call[Status]:
    """The running system."""

    def read(body: bytes) -> Status:
        document = msgspec.json.decode(body, type=Document)
        return msgspec.structs.replace(msgspec.convert(document, Status), document=document)

    return Call("GET", "/api/v1/status", read)


# --- pieces ----------------------------------------------------------------------------------------


def segment(text: str) -> str:
    """Percent-encode one path segment whole, also `.` and `..`, which clients and proxies would resolve."""
    if not isinstance(text, str) or not text:
        message = f"An id is text and not empty; found {text!r}."
        raise InputError(message)
    return quote(text, safe="").replace(".", "%2E") if text in (".", "..") else quote(text, safe="")


def plain(value: Any) -> Any:
    """Give JSON for a value that may hold conditions."""
    if isinstance(value, Condition):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _time(time: Time) -> str:
    if isinstance(time, datetime):
        return time.isoformat()
    return "" if time is None else str(time)


def _model(kind: type[M]) -> Callable[[bytes], M]:
    return lambda body: msgspec.json.decode(body, type=kind)


def _model_of(kind: Any) -> Callable[[bytes], Any]:
    return lambda body: msgspec.json.decode(body, type=kind)



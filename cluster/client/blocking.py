"""The client for ordinary code: blocking, thread-safe, on urllib3's connection pool."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import urllib3

from cluster.client import calls as calls
from cluster.client.calls import SECTIONS, URL_DEFAULT, Call, Mode, Role, Time
from cluster.client.documents import Documents, whole_document
from cluster.client.errors import unavailable
from cluster.client.models import (
    ApiKey,
    Applied,
    Document,
    Membership,
    Resyncing,
    Retried,
    Scaled,
    Sent,
    Status,
    SyncLog,
)
from cluster.conditions import Condition
from cluster.limits import MEMBERS_PAGE_MAX, SYNC_ROWS_DEFAULT

T = TypeVar("T")

#: Connections kept for later use; more may be open at once.
CONNECTIONS_MAX: Final = 16

class Transport:
    """Carries calls out over kept connections; any number of threads may use it at once."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._url = url
        self._headers = headers
        timeout = urllib3.Timeout(connect=min(timeout_s, 10.0), read=timeout_s)
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=CONNECTIONS_MAX, timeout=timeout, retries=False)

    def run(self, call: Call[T]) -> T:
        """Send one request and give its result; raises UsherApiError. Never follows redirects: a key stays here."""
        response = self._answer(call)
        return call.result(response.status, response.headers, response.data)

    def _answer(self, call: Call[T], *, again: bool = True) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request(
                call.method, self._url + call.target, body=call.body, headers=self._headers, redirect=False
            )
        except urllib3.exceptions.ProtocolError as error:
            # A kept connection may be closed by the server just as it is used again: reading is harmless to repeat.
            if again and call.method == "GET":
                return self._answer(call, again=False)
            raise unavailable(self._url, call.title, _reason(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise unavailable(self._url, call.title, _reason(error)) from error

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error.__context__
    text = str(cause or error)
    return text.rpartition("] ")[2] if isinstance(cause, OSError) else text



class Objects:
    """One section of the definitions: objects in the shapes of semantics.md §1."""

    def __init__(self, transport: Transport, section: str) -> None:
        self._transport = transport
        self._section = section

    def get(self, object_id: str) -> Document:
        """Give one object, its secrets hidden; raises NotFound."""
        return self._transport.run(calls.get_object(self._section, object_id))

    def list(self) -> list[Document]:
        """Give all objects."""
        return self._transport.run(calls.list_objects(self._section))

    def put(self, document: Mapping[str, Any]) -> Applied:
        """Add the object, or replace the one with its id; raises InvalidDefinitions."""
        return self._transport.run(calls.put_object(self._section, document))

    def delete(self, object_id: str) -> Applied:
        """Remove one object; raises InvalidDefinitions while something refers to it."""
        return self._transport.run(calls.delete_object(self._section, object_id))


class Audiences(Objects):
    """Audiences."""

    def publish(
        self,
        id: str,
        *,
        parent: str,
        where: Condition | Mapping[str, Any],
        name: str = "",
        description: str = "",
    ) -> Applied:
        """Add the audience, or replace the one with this id, and have it evaluated; raises InvalidDefinitions."""
        document = calls.audience_document(id, parent, where, name, description, "published")
        return self.put(document)

    def archive(self, audience_id: str) -> Applied:
        """Take it out of evaluation: every member leaves, its id is kept."""
        return self.put({**self.get(audience_id), "status": "archived"})


class Events:
    """Events in the native shape of semantics.md §1."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def send(self, events: Iterable[Mapping[str, Any]]) -> Sent:
        """Send events; what is answered as accepted is durable. With message ids, sending again is harmless."""
        return self._transport.run(calls.send_events(events))

    def send_written(self, events: bytes) -> Sent:
        """As `send`, of events that are a JSON array already."""
        return self._transport.run(calls.send_written(events))

    def track(
        self,
        user_id: str,
        event: str,
        properties: Mapping[str, Any] | None = None,
        *,
        timestamp: datetime | str | None = None,
        message_id: str | None = None,
    ) -> Sent:
        """Send one track event; a message id is made where none is given."""
        extra = {"timestamp": timestamp, "message_id": message_id}
        return self.send([calls.track_event(user_id, event, properties, extra)])


class Keys:
    """API keys (role admin)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, role: Role, name: str = "") -> ApiKey:
        """Make a key; `key` of the result is the only time it is shown."""
        return self._transport.run(calls.create_key(role, name))

    def list(self) -> list[ApiKey]:
        """Give all keys, without the keys themselves."""
        return self._transport.run(calls.list_keys())

    def revoke(self, key_id: str) -> None:
        """Shut a key out; raises NotFound."""
        self._transport.run(calls.revoke_key(key_id))


class Client:
    """A running Usher. Use it as a context manager, from any number of threads."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, timeout_s: float = 60.0) -> None:
        """Connect on first use. `url` and `api_key` default to USHER_URL and USHER_API_KEY as they are now."""
        url = url or os.environ.get("USHER_URL") or URL_DEFAULT
        key = api_key if api_key is not None else os.environ.get("USHER_API_KEY")
        self.url = calls.base_url(url)
        self._transport = transport = Transport(self.url, calls.headers(key), timeout_s)
        sections = {section: Objects(transport, section) for section in SECTIONS}
        self.sources = sections["sources"]
        self.parent_models = sections["parent_models"]
        self.event_models = sections["event_models"]
        self.destinations = sections["destinations"]
        self.syncs = sections["syncs"]
        self.audiences = Audiences(transport, "audiences")
        self.events = Events(transport)
        self.keys = Keys(transport)

    def is_member(self, audience: str, user: str) -> bool:
        """Say whether a user is in an audience now, to the millisecond; raises NotFound for an unknown audience."""
        return (self._transport.run(calls.membership(audience, user, detail=False))).is_member

    def membership(self, audience: str, user: str) -> Membership:
        """As `is_member`, with since when and until when."""
        return self._transport.run(calls.membership(audience, user, detail=True))

    def memberships(self, users: Sequence[str], audiences: Sequence[str]) -> dict[str, dict[str, bool]]:
        """Give user -> audience -> member for every pair, at most LOOKUP_PAIRS_MAX pairs, in one call."""
        return (self._transport.run(calls.memberships(users, audiences))).by_user()

    def user_memberships(self, user: str) -> list[str]:
        """Give the ids of all audiences that a user is in."""
        return (self._transport.run(calls.user_memberships(user))).audiences

    def members(self, audience: str, *, page_size: int = MEMBERS_PAGE_MAX) -> Iterator[str]:
        """Give the members one by one, fetched page by page; who enters or leaves meanwhile may be missed."""
        cursor: str | None = None
        while True:
            page = self._transport.run(calls.members_page(audience, cursor, page_size))
            yield from page.members
            cursor = page.cursor
            if cursor is None:
                return

    def apply(self, documents: Documents, *, mode: Mode = "merge") -> Applied:
        """Make definitions so, all or nothing: a document, or files and folders.

        `merge` adds and replaces by id, `replace` also removes what is not there. `${NAME}` in files is read
        from this process's environment. Raises DefinitionError (files) and InvalidDefinitions (the server).
        """
        return self._transport.run(calls.apply(whole_document(documents), mode, plan=False))

    def plan(self, documents: Documents, *, mode: Mode = "merge") -> Applied:
        """Say what `apply` would change; changes nothing."""
        return self._transport.run(calls.apply(whole_document(documents), mode, plan=True))

    def scale(self, evaluators: int) -> Scaled:
        """Hand all users over to so many evaluators, while events come; asked again, it says how far that is."""
        return self._transport.run(calls.scale(evaluators))

    def sync_log(
        self, sync: str, *, failed: bool = False, after: int = 0, limit: int = SYNC_ROWS_DEFAULT, user: str = "",
        outcomes: Sequence[str] = (), kinds: Sequence[str] = (), since: Time = None, until: Time = None,
        detail: bool = False,
    ) -> SyncLog:  # fmt: skip
        """Give rows of a sync's log after row `after`, newest last: of a user, of outcomes, of a time (UTC, or ms).

        `kinds`: what the requests were for, `changes`, `token`, `list`, `result`; empty: all of these.

        `detail` adds each record's outcome, the request and the response, redacted (100 rows at most).
        """
        return self._transport.run(
            calls.sync_log(
                sync, failed=failed, after=after, limit=limit, user=user, outcomes=outcomes, kinds=kinds, since=since,
                until=until, detail=detail,
            )
        )  # fmt: skip

    def dead_letters(self, sync: str, *, limit: int = SYNC_ROWS_DEFAULT) -> list[Document]:
        """Give what a sync could not deliver."""
        return self._transport.run(calls.dead_letters(sync, limit))

    def retry(self, sync: str) -> Retried:
        """Send a sync's dead letters again."""
        return self._transport.run(calls.retry(sync))

    def pause(self, sync: str) -> None:
        """Have a sync send nothing until it is resumed; everything is kept."""
        self._transport.run(calls.pause(sync, paused=True))

    def resume(self, sync: str) -> None:
        """Let a paused sync go on."""
        self._transport.run(calls.pause(sync, paused=False))

    def resync(self, sync: str) -> Resyncing:
        """Have a sync send every member again and remove strays, where that is known; returns once it has begun."""
        return self._transport.run(calls.resync(sync))

    def test_destination(
        self, destination: str, user: str, *, sync: str = "", exit_: bool = False, send: bool = False
    ) -> Document:
        """Show the requests that a user's entry (or exit) makes, secrets hidden; with `send`, make them.

        `sync` says which one's identifiers are used; by default the first by name that uses the destination.
        """
        return self._transport.run(calls.test_destination(destination, user, sync=sync, exit_=exit_, send=send))

    def test_channel(self, channel: str) -> Document:
        """Send an alert channel a notice that means nothing; says whether it was `sent`, or the `failure`."""
        return self._transport.run(calls.test_channel(channel))

    def seen_events(self) -> Document:
        """Give the events that arrived, by name, with samples (role admin)."""
        return self._transport.run(calls.seen_events())

    def refresh_traits(self, parent: str) -> None:
        """Have a parent model's trait source read now, changed or not; `status` tells how that ended."""
        self._transport.run(calls.refresh(parent))

    def status(self) -> Status:
        """Give the running system at a glance."""
        return self._transport.run(calls.status())

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

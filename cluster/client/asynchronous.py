"""The client for asyncio code, on aiohttp: the same methods as `Client`, awaited."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
from yarl import URL

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


class AsyncTransport:
    """Carries calls out over kept connections, in one event loop."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout_s: float) -> None:
        self._url = url
        self._headers = headers
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(timeout_s, 10.0), sock_read=timeout_s)
        #: Made on first use, inside the loop that uses it.
        self._session: aiohttp.ClientSession | None = None

    async def run(self, call: Call[T]) -> T:
        """Send one request and give its result; raises UsherApiError. Never follows redirects: a key stays here."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        url = URL(self._url + call.target, encoded=True)
        try:
            async with self._session.request(call.method, url, data=call.body, allow_redirects=False) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise unavailable(self._url, call.title, str(error) or "it took too long") from error
        return call.result(response.status, response.headers, body)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None



class AsyncObjects:
    """One section of the definitions: objects in the shapes of semantics.md §1."""

    def __init__(self, transport: AsyncTransport, section: str) -> None:
        self._transport = transport
        self._section = section

    async def get(self, object_id: str) -> Document:
        """Give one object, its secrets hidden; raises NotFound."""
        return await self._transport.run(calls.get_object(self._section, object_id))

    async def list(self) -> list[Document]:
        """Give all objects."""
        return await self._transport.run(calls.list_objects(self._section))

    async def put(self, document: Mapping[str, Any]) -> Applied:
        """Add the object, or replace the one with its id; raises InvalidDefinitions."""
        return await self._transport.run(calls.put_object(self._section, document))

    async def delete(self, object_id: str) -> Applied:
        """Remove one object; raises InvalidDefinitions while something refers to it."""
        return await self._transport.run(calls.delete_object(self._section, object_id))


class AsyncAudiences(AsyncObjects):
    """Audiences."""

    async def publish(
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
        return await self.put(document)

    async def archive(self, audience_id: str) -> Applied:
        """Take it out of evaluation: every member leaves, its id is kept."""
        return await self.put({**(await self.get(audience_id)), "status": "archived"})


class AsyncEvents:
    """Events in the native shape of semantics.md §1."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def send(self, events: Iterable[Mapping[str, Any]]) -> Sent:
        """Send events; what is answered as accepted is durable. With message ids, sending again is harmless."""
        return await self._transport.run(calls.send_events(events))

    async def send_written(self, events: bytes) -> Sent:
        """As `send`, of events that are a JSON array already."""
        return await self._transport.run(calls.send_written(events))

    async def track(
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
        return await self.send([calls.track_event(user_id, event, properties, extra)])


class AsyncKeys:
    """API keys (role admin)."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(self, role: Role, name: str = "") -> ApiKey:
        """Make a key; `key` of the result is the only time it is shown."""
        return await self._transport.run(calls.create_key(role, name))

    async def list(self) -> list[ApiKey]:
        """Give all keys, without the keys themselves."""
        return await self._transport.run(calls.list_keys())

    async def revoke(self, key_id: str) -> None:
        """Shut a key out; raises NotFound."""
        await self._transport.run(calls.revoke_key(key_id))


class AsyncClient:
    """A running Usher. Use it as an async context manager, inside one event loop."""

    def __init__(self, url: str | None = None, api_key: str | None = None, *, timeout_s: float = 60.0) -> None:
        """Connect on first use. `url` and `api_key` default to USHER_URL and USHER_API_KEY as they are now."""
        url = url or os.environ.get("USHER_URL") or URL_DEFAULT
        key = api_key if api_key is not None else os.environ.get("USHER_API_KEY")
        self.url = calls.base_url(url)
        self._transport = transport = AsyncTransport(self.url, calls.headers(key), timeout_s)
        sections = {section: AsyncObjects(transport, section) for section in SECTIONS}
        self.sources = sections["sources"]
        self.parent_models = sections["parent_models"]
        self.event_models = sections["event_models"]
        self.destinations = sections["destinations"]
        self.syncs = sections["syncs"]
        self.audiences = AsyncAudiences(transport, "audiences")
        self.events = AsyncEvents(transport)
        self.keys = AsyncKeys(transport)

    async def is_member(self, audience: str, user: str) -> bool:
        """Say whether a user is in an audience now, to the millisecond; raises NotFound for an unknown audience."""
        return (await self._transport.run(calls.membership(audience, user, detail=False))).is_member

    async def membership(self, audience: str, user: str) -> Membership:
        """As `is_member`, with since when and until when."""
        return await self._transport.run(calls.membership(audience, user, detail=True))

    async def memberships(self, users: Sequence[str], audiences: Sequence[str]) -> dict[str, dict[str, bool]]:
        """Give user -> audience -> member for every pair, at most LOOKUP_PAIRS_MAX pairs, in one call."""
        return (await self._transport.run(calls.memberships(users, audiences))).by_user()

    async def user_memberships(self, user: str) -> list[str]:
        """Give the ids of all audiences that a user is in."""
        return (await self._transport.run(calls.user_memberships(user))).audiences

    async def members(self, audience: str, *, page_size: int = MEMBERS_PAGE_MAX) -> AsyncIterator[str]:
        """Give the members one by one, fetched page by page; who enters or leaves meanwhile may be missed."""
        cursor: str | None = None
        while True:
            page = await self._transport.run(calls.members_page(audience, cursor, page_size))
            for member in page.members:
                yield member
            cursor = page.cursor
            if cursor is None:
                return

    async def apply(self, documents: Documents, *, mode: Mode = "merge") -> Applied:
        """Make definitions so, all or nothing: a document, or files and folders.

        `merge` adds and replaces by id, `replace` also removes what is not there. `${NAME}` in files is read
        from this process's environment. Raises DefinitionError (files) and InvalidDefinitions (the server).
        """
        return await self._transport.run(calls.apply(whole_document(documents), mode, plan=False))

    async def plan(self, documents: Documents, *, mode: Mode = "merge") -> Applied:
        """Say what `apply` would change; changes nothing."""
        return await self._transport.run(calls.apply(whole_document(documents), mode, plan=True))

    async def scale(self, evaluators: int) -> Scaled:
        """Hand all users over to so many evaluators, while events come; asked again, it says how far that is."""
        return await self._transport.run(calls.scale(evaluators))

    async def sync_log(
        self, sync: str, *, failed: bool = False, after: int = 0, limit: int = SYNC_ROWS_DEFAULT, user: str = "",
        outcomes: Sequence[str] = (), kinds: Sequence[str] = (), since: Time = None, until: Time = None,
        detail: bool = False,
    ) -> SyncLog:  # fmt: skip
        """Give rows of a sync's log after row `after`, newest last: of a user, of outcomes, of a time (UTC, or ms).

        `kinds`: what the requests were for, `changes`, `token`, `list`, `result`; empty: all of these.

        `detail` adds each record's outcome, the request and the response, redacted (100 rows at most).
        """
        return await self._transport.run(
            calls.sync_log(
                sync, failed=failed, after=after, limit=limit, user=user, outcomes=outcomes, kinds=kinds, since=since,
                until=until, detail=detail,
            )
        )  # fmt: skip

    async def dead_letters(self, sync: str, *, limit: int = SYNC_ROWS_DEFAULT) -> list[Document]:
        """Give what a sync could not deliver."""
        return await self._transport.run(calls.dead_letters(sync, limit))

    async def retry(self, sync: str) -> Retried:
        """Send a sync's dead letters again."""
        return await self._transport.run(calls.retry(sync))

    async def pause(self, sync: str) -> None:
        """Have a sync send nothing until it is resumed; everything is kept."""
        await self._transport.run(calls.pause(sync, paused=True))

    async def resume(self, sync: str) -> None:
        """Let a paused sync go on."""
        await self._transport.run(calls.pause(sync, paused=False))

    async def resync(self, sync: str) -> Resyncing:
        """Have a sync send every member again and remove strays, where that is known; returns once it has begun."""
        return await self._transport.run(calls.resync(sync))

    async def test_destination(
        self, destination: str, user: str, *, sync: str = "", exit_: bool = False, send: bool = False
    ) -> Document:
        """Show the requests that a user's entry (or exit) makes, secrets hidden; with `send`, make them.

        `sync` says which one's identifiers are used; by default the first by name that uses the destination.
        """
        return await self._transport.run(calls.test_destination(destination, user, sync=sync, exit_=exit_, send=send))

    async def test_channel(self, channel: str) -> Document:
        """Send an alert channel a notice that means nothing; says whether it was `sent`, or the `failure`."""
        return await self._transport.run(calls.test_channel(channel))

    async def seen_events(self) -> Document:
        """Give the events that arrived, by name, with samples (role admin)."""
        return await self._transport.run(calls.seen_events())

    async def refresh_traits(self, parent: str) -> None:
        """Have a parent model's trait source read now, changed or not; `status` tells how that ended."""
        await self._transport.run(calls.refresh(parent))

    async def status(self) -> Status:
        """Give the running system at a glance."""
        return await self._transport.run(calls.status())

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

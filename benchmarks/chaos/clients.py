"""Who uses Usher meanwhile: senders that insist, readers that compare, somebody who publishes and writes traits."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import aiohttp
import pyarrow.parquet as pq

from benchmarks.chaos.story import BUYERS, WRITE_KEY, Node, Shoppers, traits
from cluster.client.asynchronous import AsyncClient
from cluster.client.errors import UsherApiError

#: How long a sender waits for an answer before it sends the same again.
_PATIENCE_S: Final = 5.0
#: How long, once no new requests are made, the last ones are tried.
LAST_TRIES_S: Final = 60.0
_SENDERS: Final = 12
#: Every so many acknowledged requests, one user of it is looked up.
_LOOK_UP_EVERY: Final = 4
_PUBLISH_EVERY_S: Final = 6.0
_TRAITS_EVERY_S: Final = 4.0
_TRAIT_USERS: Final = 400


@dataclass(slots=True)
class Sent:
    """An acknowledged request: its events, how often it was sent, and how long that took."""

    rows: Sequence[Node]
    attempts: int
    waited_s: float
    answered_s: float


@dataclass(slots=True)
class Record:
    """What was sent, answered and seen."""

    sent: list[Sent] = field(default_factory=list)
    #: Events whose request was never answered with 200.
    given_up: int = 0
    #: Attempts by status; 0: no answer.
    statuses: Counter[int] = field(default_factory=Counter)
    #: Look-ups by what became of them.
    looks: Counter[str] = field(default_factory=Counter)
    publications: int = 0
    snapshots: int = 0
    #: Answers that are not as they must be.
    faults: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Node]:
        """Give every acknowledged event, in the order in which they happened."""
        return sorted((row for sent in self.sent for row in sent.rows), key=lambda row: int(row["timestamp"]))


class Clients:
    """Everybody outside, until they are told to stop."""

    def __init__(self, client: AsyncClient, key: str, rate: float, seed: int) -> None:
        self._url = client.url
        self._client = client
        self._key = key
        self._rate = rate
        self._shoppers = Shoppers(seed)
        self._stream = Random(seed + 1)
        self._stop = asyncio.Event()
        self._next_s = time.monotonic()
        self.record = Record()

    async def run(self) -> None:
        """Send and read until told to stop and every request made has its answer."""
        timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
        connector = aiohttp.TCPConnector(limit=2 * _SENDERS)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            await asyncio.gather(*(self._send_all(session) for _ in range(_SENDERS)))

    def stop(self) -> None:
        """Make no new requests."""
        self._stop.set()

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            rows = self._shoppers.request()
            # On schedule while answers come; what an outage held up is not caught up with at once.
            self._next_s = max(self._next_s + len(rows) / self._rate, time.monotonic() - 1.0)
            # Nothing is sent before it has happened: Usher takes a later time for its own.
            happened_s = (rows[-1]["timestamp"] + 1) / 1000 - time.time()
            await asyncio.sleep(max(happened_s, self._next_s - time.monotonic()))
            if await self._insist(session, rows) and len(self.record.sent) % _LOOK_UP_EVERY == 0:
                await self._look(session, rows)

    async def _insist(self, session: aiohttp.ClientSession, rows: Sequence[Node]) -> bool:
        """Send the same bytes until they are taken, as a client library does; dedup makes that safe."""
        body, began_s, attempts = json.dumps(rows).encode(), time.monotonic(), 0
        headers = {"Authorization": f"Bearer {WRITE_KEY}", "Content-Type": "application/json"}
        give_up_s = None
        while give_up_s is None or time.monotonic() < give_up_s:
            attempts += 1
            status, answered, text = await _ask(session, "POST", f"{self._url}/api/v1/events", headers, body)
            self.record.statuses[status] += 1
            if status == 200:
                now_s = time.monotonic()
                self.record.sent.append(Sent(rows, attempts, now_s - began_s, now_s))
                self._account(rows, text)
                return True
            if status not in (0, 429, 503):
                self.record.faults.append(f"events were refused with {status}: {text[:300]!r}")
                break
            await asyncio.sleep(self._pause_s(status, answered))
            if self._stop.is_set() and give_up_s is None:
                give_up_s = time.monotonic() + LAST_TRIES_S
        self.record.given_up += len(rows)
        return False

    def _account(self, rows: Sequence[Node], text: bytes) -> None:
        answer = json.loads(text)
        if answer["rejected"] or answer["accepted"] + answer["duplicates"] != len(rows):
            self.record.faults.append(f"{len(rows)} events were answered with {answer}")

    def _pause_s(self, status: int, headers: Any) -> float:
        if not status:
            return self._stream.uniform(0.05, 0.3)
        after = headers.get("Retry-After", "")
        if not after.isdigit() or int(after) < 1:
            self.record.faults.append(f"a refusal with {status} does not say when to try again: {after!r}")
            return 1.0
        return min(float(after), _PATIENCE_S)

    async def _look(self, session: aiohttp.ClientSession, rows: Sequence[Node]) -> None:
        """Look up somebody whose order was acknowledged just now."""
        buyers = [row["user_id"] for row in rows if row["event"] == "order"]
        if not buyers:
            return
        user, headers = self._stream.choice(buyers), {"Authorization": f"Bearer {self._key}"}
        path = f"{self._url}/api/v1/audiences/{BUYERS}/memberships/{user}"
        status, _, text = await _ask(session, "GET", path, headers)
        found = json.loads(text)["isMember"] if status == 200 else None
        self.record.looks["right" if found else "no answer" if found is None else "wrong"] += 1
        if found is False:
            self.record.faults.append(f"{user} has an acknowledged order and reads as not in {BUYERS}")
        if status not in (0, 200, 429, 503):
            self.record.faults.append(f"a look-up was answered with {status}: {text[:300]!r}")


async def _ask(
    session: aiohttp.ClientSession, method: str, url: str, headers: dict[str, str], body: bytes | None = None
) -> tuple[int, Any, bytes]:
    """Give status, headers and body; status 0 where there was no whole answer."""
    try:
        async with session.request(method, url, headers=headers, data=body) as response:
            return response.status, response.headers, await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0, {}, b""


class Owner:
    """Who publishes definitions and has the traits written, in turn the one and the other."""

    def __init__(
        self, client: AsyncClient, definitions: Path, variants: Sequence[Node], table: Path, record: Record, seed: int
    ) -> None:
        self._client = client
        self._definitions = definitions
        self._variants = variants
        self._table = table
        self._record = record
        self._stream = Random(seed + 2)
        self._asked = asyncio.Event()
        #: What was published last.
        self.document = variants[0]

    def publish_now(self) -> None:
        """Let the next publication begin at once."""
        self._asked.set()

    async def publish(self) -> None:
        """Publish one after the other, for ever."""
        for number in range(1, 1 << 40):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _PUBLISH_EVERY_S)
            self._asked.clear()
            self.document = self._variants[number % len(self._variants)]
            # A run that is started anew takes what the file says: it must not go back to what was before.
            self._definitions.write_text(json.dumps(self.document))
            await self.apply()
            self._record.publications += 1

    async def apply(self) -> None:
        """Have the newest document published, however often that takes."""
        while True:
            try:
                await self._client.apply(self.document, mode="replace")
                return
            except UsherApiError as error:
                if error.status not in (0, 429, 503):
                    self._record.faults.append(f"a publication was answered with {error.status}: {error}")
                    return
                await asyncio.sleep(0.5)

    async def write_traits(self) -> None:
        """Write one snapshot after the other, for ever, each whole."""
        while True:
            await asyncio.sleep(_TRAITS_EVERY_S)
            new = self._table.with_suffix(".new")
            pq.write_table(traits(_TRAIT_USERS, self._stream), new)
            os.replace(new, self._table)
            self._record.snapshots += 1

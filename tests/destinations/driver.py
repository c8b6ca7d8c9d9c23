"""Carries records to a destination the way delivery must, one sync, one request at a time, over the real transport.

Small enough to read, so that a test's verdict is about the kind: order per user is kept, a batch holds one key and one
operation a user, what is to be tried again is tried again (waits are counted, not waited), tokens and steps come first.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import Any

from actors.delivery.transport import HttpTransport
from cluster.clock import SystemClock
from destinations.contract import Destination, Purpose, Unusable
from destinations.outcomes import (
    Credentials,
    Delivered,
    Divide,
    Finished,
    Gone,
    Learned,
    Permanent,
    Resend,
    Retry,
    Skipped,
    Token,
)
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request

_ATTEMPTS_MAX = 40


class Stopped(Exception):
    """A sync that delivery would stop: credentials, or the list is gone."""


@dataclass
class Driver:
    """One sync of a kind. `learned` and `token` are what delivery keeps of it; `waits_ms` what it was asked to wait."""

    kind: Destination
    settings: Any
    shape: SyncShape
    learned: dict[str, Any] = field(default_factory=dict)
    token: str = ""
    waits_ms: list[int] = field(default_factory=list)
    quiet_ms: list[int] = field(default_factory=list)
    delivered: int = 0
    skipped: list[str] = field(default_factory=list)
    dead: list[tuple[str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    requests: list[tuple[Request, Answer]] = field(default_factory=list)
    _batches: int = 0
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def records(self, changes: Iterable[tuple[str, bool, Mapping[str, Value]]], at_ms: int = 1_000) -> list[Record]:
        """Make records of `(user, enters, raw identifiers)`; a member is removed by what it was added with."""
        made: list[Record] = []
        for number, (user, enters, raw) in enumerate(changes):
            found = self.kind.identify(self.settings, raw)
            if isinstance(found, Unusable):
                self.dropped.append((user, found.reason))
                continue
            known = self._known.pop(user, None)
            identifiers = dict(found) if enters or known is None else known
            if enters:
                self._known[user] = identifiers
            verb, kind = ("add", "entered") if enters else ("remove", "exited")
            id_ = f"{len(self.requests):08x}{number:024x}"
            made.append(
                Record(id_, self.shape.audience_id, 1, user, identifiers, kind, at_ms + number, 0, "event", {}, verb)  # type: ignore[arg-type]
            )
        return made

    async def deliver(self, records: Sequence[Record]) -> None:
        """Send every record, in order per user."""
        transport = HttpTransport(SystemClock())
        try:
            for batch in self._cut(records):
                await self._send(transport, batch)
        finally:
            await transport.close()

    async def list_strays(self, since_ms: int, present: Iterable[Mapping[str, Any]]) -> list[str]:
        """List who is at the destination as a resync does; gives the names of those who are nobody's."""
        listing = self.kind.listing(self.settings, self.shape)
        assert listing is not None
        transport = HttpTransport(SystemClock())
        try:
            await self._steps(transport, "list", since_ms)
            found: Any = listing.request(self._attempt(since_ms))
            with TemporaryFile() as file:
                while isinstance(found, Request):
                    answer = await transport.save(found, file, 10_000_000)  # type: ignore[arg-type]
                    self.requests.append((found, answer))
                    found = listing.judge(answer)
                if found is not None:
                    raise Stopped(found.reason)
                file.seek(0)
                raw = file.read()
            text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode()
            named = {listing.name(identifiers) for identifiers in present}
            return [name for name in listing.read(text.splitlines(keepends=True)) if name not in named]
        finally:
            await transport.close()

    async def take_steps(self, purpose: Purpose, since_ms: int = 0) -> None:
        """Take the steps of a purpose to their end."""
        transport = HttpTransport(SystemClock())
        try:
            await self._steps(transport, purpose, since_ms)
        finally:
            await transport.close()

    def _cut(self, records: Sequence[Record]) -> Iterable[list[Record]]:
        """Cut into batches of one key, within the limits, no user twice in one."""
        limits = self.kind.limits(self.settings)
        room = min(limits.records_default or limits.records_max, limits.records_max)
        waiting = list(records)
        while waiting:
            key = self.kind.batch_key(self.settings, waiting[0])
            batch: list[Record] = []
            users: set[str] = set()
            size = limits.bytes_around
            rest: list[Record] = []
            for record in waiting:
                size_bytes = self.kind.size_bytes(self.settings, record) if limits.bytes_max else 0
                fits = limits.bytes_max is None or size + size_bytes <= limits.bytes_max
                if record.user_id in users or len(batch) == room or not fits or (
                    self.kind.batch_key(self.settings, record) != key
                ):  # fmt: skip
                    rest.append(record)
                else:
                    batch.append(record)
                    size += size_bytes
                users.add(record.user_id)
            yield batch
            waiting = rest

    async def _send(self, transport: HttpTransport, records: list[Record]) -> None:
        for _ in range(_ATTEMPTS_MAX):
            await self._steps(transport, "open")
            self._batches += 1
            id_ = f"msg_{self._batches}"
            key = self.kind.batch_key(self.settings, records[0])
            body = self.kind.encode(self.settings, Batch(id_, self.shape.sync, tuple(records), key))
            sealed = SealedBatch(id_, self.shape.sync, body, tuple(records), key)
            request, answer = await self._with_token(
                transport, lambda attempt, sealed=sealed: self.kind.build(self.settings, sealed, attempt)
            )
            judgement = self.kind.judge(self.settings, sealed, request, answer)
            assert len(judgement.outcomes) == len(records)
            self.learned.update(judgement.learned)
            if judgement.quiet_ms:
                self.quiet_ms.append(judgement.quiet_ms)
            if judgement.follow_up is not None:
                await self._poll(transport, judgement.follow_up.id)
            again: list[Record] = []
            halves: list[Record] = []
            for record, outcome in zip(records, judgement.outcomes, strict=True):
                match outcome:
                    case Delivered():
                        self.delivered += 1
                    case Skipped():
                        self.skipped.append(record.user_id)
                    case Permanent():
                        self.dead.append((record.user_id, outcome.reason))
                    case Divide():
                        halves.append(record)
                    case Resend():
                        again.append(record)
                    case Retry():
                        self.waits_ms.append(outcome.after_ms or 0)
                        again.append(record)
                    case Credentials() | Gone():
                        raise Stopped(outcome.reason)
            if len(halves) == 1:
                self.dead.append((halves[0].user_id, "alone at fault"))
            elif halves:
                middle = len(halves) // 2
                await self._send(transport, halves[:middle])
                await self._send(transport, halves[middle:])
            if not again:
                return
            records = again
        raise AssertionError("it never ended")

    async def _steps(self, transport: HttpTransport, purpose: Purpose, since_ms: int = 0) -> None:
        for _ in range(_ATTEMPTS_MAX):
            if self.kind.next_step(self.settings, self._attempt(since_ms), purpose) is None:
                return

            def build(attempt: Attempt) -> Request:
                request = self.kind.next_step(self.settings, attempt, purpose)
                assert request is not None
                return request

            request, answer = await self._with_token(transport, build, since_ms)
            outcome = self.kind.judge_step(self.settings, self._attempt(since_ms), purpose, request, answer)
            match outcome:
                case Learned():
                    self.learned.update(outcome.learned)
                    if outcome.retry is not None:
                        self.waits_ms.append(outcome.retry.after_ms or 0)
                case Retry():
                    self.waits_ms.append(outcome.after_ms or 0)
                case _:
                    raise Stopped(outcome.reason)
        raise AssertionError("steps never ended")

    async def _poll(self, transport: HttpTransport, id_: str) -> None:
        for _ in range(_ATTEMPTS_MAX):
            _, answer = await self._with_token(
                transport, lambda attempt: self.kind.poll(self.settings, id_, attempt)
            )
            outcome = self.kind.judge_poll(self.settings, id_, answer)
            if isinstance(outcome, Finished):
                self.finished.append(outcome)
                return
            if not isinstance(outcome, Retry):
                raise Stopped(outcome.reason)
            self.waits_ms.append(outcome.after_ms or 0)
        raise AssertionError("the request was never worked off")

    async def _with_token(self, transport: HttpTransport, build: Any, since_ms: int = 0) -> tuple[Request, Answer]:
        """Send; a refusal of the token gets a new one, once."""
        for renewed in (False, True):
            await self._need_token(transport)
            request = build(self._attempt(since_ms))
            answer = await transport.send(request)
            self.requests.append((request, answer))
            refused = getattr(answer, "status", 0) == 401 and self.kind.token_scope(self.settings) is not None
            if not refused or renewed:
                break
            self.token = ""
        return request, answer

    async def _need_token(self, transport: HttpTransport) -> None:
        if self.token or self.kind.token_scope(self.settings) is None:
            return
        for _ in range(_ATTEMPTS_MAX):
            answer = await transport.send(self.kind.token_request(self.settings, SystemClock().now_ms()))
            outcome = self.kind.judge_token(self.settings, answer)
            if isinstance(outcome, Token):
                self.token = outcome.value
                return
            if isinstance(outcome, Credentials):
                raise Stopped(outcome.reason)
            self.waits_ms.append(outcome.after_ms or 0)
        raise AssertionError("no token ever came")

    def _attempt(self, since_ms: int = 0) -> Attempt:
        return Attempt(SystemClock().now_ms(), self.shape, dict(self.learned), self.token, since_ms)

"""The end of a resync where a destination lists its members: whoever is in the list and is nobody's is removed.

The listing is saved to a file without a name and read in pages, so that memory holds a page and the disk the rest.
Names are compared with those of everybody told of since the resync began (`present`), and compared again right before
a removal, which nobody else is told of meanwhile: who enters while this goes on is never removed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, BinaryIO, Final, cast

from actors.delivery.attempts import Attempts, Failed
from actors.delivery.bounds import LISTING_LINE_BYTES_MAX, LISTING_TRIED_MAX_MS
from actors.delivery.cutting import to_row, to_rows
from actors.delivery.desk import Desk
from actors.delivery.ids import part_id
from actors.delivery.outbox import ORDER_SPAN
from actors.delivery.retries import backoff_ms
from actors.delivery.rows import LogRow, StoredRow
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from cluster.clock import Clock
from destinations.listing import Listing, UnreadableListing
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Outcome, Permanent, Resend, Retry, Skipped
from destinations.records import Record

#: Names compared at once.
_PAGE: Final = 1_000
#: Of those told of, so many parts must be in the listing, or it is no listing of this list and nobody is removed.
_LISTED_PART: Final = 2
#: Attempts to remove the same strays; the next resync finds them again.
_ATTEMPTS_MAX: Final = 5
_GZIP: Final = b"\x1f\x8b"

_log = logging.getLogger(__name__)


class Strays:
    """One sync's."""

    def __init__(
        self, desk: Desk, attempts: Attempts, *, store: DeliveryStore, log: SyncLog, clock: Clock,
        jitter: Callable[[], float],
    ) -> None:  # fmt: skip
        self._desk = desk
        self._attempts = attempts
        self._store = store
        self._log = log
        self._clock = clock
        self._jitter = jitter

    async def remove(self, resync_ms: int) -> None:
        """List the members and remove strays; what stands in the way is in the sync log, and the resync ends."""
        listing = self._desk.plan.listing
        if listing is None:
            return
        sync = self._desk.plan.sync.id
        if not await self._store.present.whole(sync, resync_ms, listing.form):
            self._tell("answered", "the resync began by itself, or its definitions changed meanwhile")
            return
        await self._note_remembered(listing, resync_ms)
        try:
            folder = self._store.folder
            with tempfile.TemporaryFile(dir=folder) as file, tempfile.TemporaryFile(dir=folder) as found:
                failed = await self._fetch(listing, cast("BinaryIO", file), resync_ms)
                if failed:
                    self._tell_why(failed)
                    return
                count = await self._compare(listing, resync_ms, cast("BinaryIO", file), found)
                for names in _pages(_names_in(found)) if count else ():
                    if self._desk.resync_ms != resync_ms or not await self._remove(listing, resync_ms, names):
                        return
        except UnreadableListing as error:
            self._tell_why(str(error))
        except OSError as error:
            self._tell_why(f"the disk refuses the listing: {error.strerror or type(error).__name__}")

    async def _note_remembered(self, listing: Listing, resync_ms: int) -> None:
        """Note who is in by the ledger, too: whose exit flap control holds back was not told of, and stays."""
        after, plan = "", self._desk.plan
        while plan.remembers and (page := await self._store.ledger.members(plan.sync.id, after, _PAGE)):
            after = page[-1][0]
            names = [listing.name(told.identifiers) for _, told in page if told.identifiers]
            await self._store.present.note(plan.sync.id, resync_ms, listing, names)

    async def _fetch(self, listing: Listing, file: BinaryIO, resync_ms: int) -> str:
        """Save the listing, trying until it works; gives why it cannot be had."""
        tries, began_ms = 0, self._clock.now_ms()
        while self._desk.resync_ms == resync_ms:
            failed: Failed | bool | None = await self._attempts.step("open")
            if failed is None:
                failed = await self._attempts.step("list", resync_ms)
            if failed is None:
                failed = await self._attempts.fetch(listing, file, resync_ms)
            if not isinstance(failed, Failed):
                return ""
            outcome = failed.outcome
            if not isinstance(outcome, Retry) or self._clock.now_ms() - began_ms > LISTING_TRIED_MAX_MS:
                return outcome.reason
            tries += 1
            await asyncio.sleep(max(backoff_ms(tries, self._jitter()), outcome.after_ms or 0) / 1000)
        return "another resync began"

    async def _compare(self, listing: Listing, resync_ms: int, file: BinaryIO, found: IO[bytes]) -> int:
        """Write who is nobody's to `found`; gives how many. Raises UnreadableListing."""
        sync, present = self._desk.plan.sync.id, self._store.present
        expected, listed, strays = await present.count(sync, resync_ms), 0, 0
        pages = _pages(listing.read(_lines_of(file)))
        while page := await asyncio.to_thread(next, pages, None):
            unknown = await present.strays(sync, resync_ms, listing.form, page)
            listed += len(page) - len(unknown)
            strays += len(unknown)
            found.writelines(json.dumps(name).encode() + b"\n" for name in unknown)
        if listed * _LISTED_PART < expected:
            message = f"of {expected:,} members the listing has {listed:,}: nobody is removed by it"
            raise UnreadableListing(message)
        return strays

    async def _remove(self, listing: Listing, resync_ms: int, names: Sequence[str]) -> bool:
        """Remove strays; gives whether to go on with others."""
        sync, now_ms = self._desk.plan.sync.id, self._clock.now_ms()
        async with self._attempts.comparing:
            strays = await self._store.present.strays(sync, resync_ms, listing.form, names)
            records = [self._record(listing, name, now_ms) for name in strays]
            id_ = part_id(f"{sync} {resync_ms}", f"strays {records[0].user_id}" if records else "none")
            waiting, _ = to_rows(self._desk.plan, id_, 0, ORDER_SPAN, records)
            while waiting:
                rest = await self._send(waiting.pop())
                if rest is None:
                    return False
                waiting += rest
        return True

    async def _send(self, row: StoredRow) -> list[StoredRow] | None:
        """Send until what becomes of each is known; gives what is to be sent apart, None: it is no use to go on."""
        desk = self._desk
        for attempt in range(1, _ATTEMPTS_MAX + 1):
            await self._attempts.turn()
            answered, _ = await self._attempts.send(row)
            attempted = desk.attempted.pop(row.id)
            lines = desk.lines(row.id, attempt, attempted, self._clock.now_ms())
            again: list[Record] = []
            divided: list[Record] = []
            wait_ms, ended = 0, False
            told: dict[str, list[tuple[str, Any, str]]] = {"stray": [], "retry": [], "divided": [], "refused": []}
            for record, outcome in zip(row.records, answered.outcomes, strict=True):
                word = _word(outcome, len(row.records), last=attempt == _ATTEMPTS_MAX)
                reason = "in the list and no member" if word == "stray" else getattr(outcome, "reason", "")
                told[word].append((record.user_id, "remove", reason))
                again += [record] if word == "retry" else []
                divided += [record] if word == "divided" else []
                wait_ms = max(wait_ms, getattr(outcome, "after_ms", None) or 0)
                ended = ended or isinstance(outcome, Credentials | Gone)
            for word, some in told.items():
                lines.add_by_reason(word, some)
            exchange = desk.exchange(attempted, row.records, self._clock.now_ms(), well=False)
            self._log.append(desk.plan.sync.id, lines.rows, exchange)
            if ended:
                return None
            if divided:
                middle = len(divided) // 2
                parts = [part for part in (divided[:middle], divided[middle:], again) if part]
                return [self._part(row, part, f"{attempt} {number}") for number, part in enumerate(parts)]
            if not again:
                return []
            row = row if len(again) == len(row.records) else self._part(row, again, f"{attempt} again")
            await asyncio.sleep(max(backoff_ms(attempt, self._jitter()), wait_ms) / 1000)
        return []

    def _part(self, row: StoredRow, records: Sequence[Record], name: str) -> StoredRow:
        return to_row(self._desk.plan, part_id(row.id, name), row.order, row.span, row.key, tuple(records))

    def _record(self, listing: Listing, name: str, now_ms: int) -> Record:
        audience = self._desk.plan.sync.audience
        return Record("", audience, 0, name, dict(listing.stray(name)), "exited", now_ms, 0, "resync", {}, "remove")

    def _tell_why(self, reason: str) -> None:
        _log.warning("sync %s cannot look for strays: %s", self._desk.plan.sync.id, reason)
        self._tell("refused", reason)

    def _tell(self, word: str, reason: str) -> None:
        row = LogRow(
            self._clock.now_ms(), "", 0, word, None, 0, None, f"strays are not removed: {reason}", kind="list"
        )  # fmt: skip
        self._log.append(self._desk.plan.sync.id, [row])


def _word(outcome: Outcome, count: int, *, last: bool) -> str:
    match outcome:
        case Delivered() | Skipped():
            return "stray"
        case Retry() | Resend() if not last:
            return "retry"
        case Divide() if count > 1:
            return "divided"
        case Permanent() | Divide() | Credentials() | Gone() | Retry() | Resend():
            return "refused"


def _lines_of(file: BinaryIO) -> Iterator[str]:
    """Give the lines of a file, unpacked where it is packed. Raises UnreadableListing."""
    file.seek(0)
    packed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    stream = cast("IO[bytes]", gzip.GzipFile(fileobj=file)) if packed else file
    first = True
    try:
        while line := stream.readline(LISTING_LINE_BYTES_MAX):
            if len(line) == LISTING_LINE_BYTES_MAX:
                message = "a line is too long for a name"
                raise UnreadableListing(message)
            yield line.decode("utf-8-sig" if first else "utf-8")
            first = False
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        message = "the listing is no text"
        raise UnreadableListing(message) from error


def _names_in(found: IO[bytes]) -> Iterator[str]:
    found.seek(0)
    return (json.loads(line) for line in found)


def _pages(names: Iterator[str]) -> Iterator[list[str]]:
    while page := list(islice(names, _PAGE)):
        yield page

"""A topic's records to the evaluators: an offset is committed once all before it are durable, and not earlier.

One cycle: read some records, hand their events on, wait until they are durable (or set aside as dead letters), commit.
While evaluators refuse, or a schema registry gives no answer, the cycle waits and the member stays in its group. Where
partitions change hands meanwhile, the cycle is given up: whoever has them reads the records again, and what was taken
before counts once, by its message id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from cluster.admission.outcomes import RowOutcomes
from cluster.definitions.model import KafkaTopics, Source
from cluster.edge.problems import Problem
from cluster.errors import InputError, Refused
from cluster.intake.client import DeadLetterTopic, Topics
from cluster.intake.dead_letters import DeadLetter, DeadLetters
from cluster.intake.registry import RegistryUnavailable, open_schemas
from cluster.wire.envelope import RawEvents
from cluster.wire.events import INVALID
from cluster.wire.records import Record, Unreadable, read_record

if TYPE_CHECKING:
    from cluster.intake.avro import AvroRecords

_log = logging.getLogger("usher.intake")

#: Records of a cycle, how long to wait for the first, and the pauses while nothing can be handed on.
RECORDS_MAX: Final = 1_000
_READ_S: Final = 0.25
_PAUSE_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
#: Pause before a client that cannot be made is tried again: a package is installed, a file put in its place.
_START_AGAIN_S: Final = 10.0

#: Events that go on as one request.
_ROWS_MAX: Final = 500

#: A message of the client's, and what it holds.
_Read = tuple[Any, Record]
Submit = Callable[[RawEvents], Awaitable[RowOutcomes]]


class _Moved(Exception):
    """Partitions came or went while records waited."""


class KafkaIntake:
    """Reads one source's topics until it is stopped. `count(outcome, events)` is told what became of events."""

    def __init__(
        self, source: Source, submit: Submit, letters: DeadLetters, count: Callable[[str, int], None],
        now_ms: Callable[[], int],
    ) -> None:
        assert source.kafka is not None, source.id
        self.source = source
        self._topics: KafkaTopics = source.kafka
        self._submit = submit
        self._letters = letters
        self._count = count
        self._now_ms = now_ms
        self._client: Topics | None = None
        #: None: records are JSON.
        self._avro: AvroRecords | None = None
        #: librdkafka's calls block: they have a thread of their own, in order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{source.id}")
        self._changed = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self.lags: dict[tuple[str, int], int] = {}
        self.records = 0
        self.dead_letters: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to read, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"intake-{self.source.id}")

    async def stop(self) -> None:
        """Finish the cycle if nothing keeps it waiting, leave the group."""
        self._stopping = True
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    def status(self) -> dict[str, Any]:
        """Give this member's part for `usher status`."""
        client = self._client
        problem = self._problem or (client.fault if client is not None else "")
        return {
            "source": self.source.id, "topics": list(self._topics.topics), "partitions": len(self.lags),
            "lag": sum(self.lags.values()), "records": self.records, "dead_letters": dict(self.dead_letters),
            "missed": client.missed if client is not None else 0,
            "state": "waiting" if problem else "reading", "problem": problem,
        }  # fmt: skip

    async def _run(self) -> None:
        while not self._stopping:
            try:
                self._avro = await self._call(_avro_records, self._topics)
                client = self._client = await self._call(Topics, self._topics, self._note_change)
                if self._topics.dead_letter_topic:
                    self._letters = await self._call(DeadLetterTopic, self._topics)
            except InputError as error:
                self._problem = str(error)
                _log.error("The source %s cannot be read: %s", self.source.id, error)
                await self._pause(_START_AGAIN_S)
                continue
            await self._read(client)

    async def _read(self, client: Topics) -> None:
        """Cycle until the stop, or until something unforeseen: a new client then begins at what was committed."""
        try:
            while not self._stopping:
                try:
                    await self._cycle(client)
                except _Moved:
                    _log.info("Partitions of %s changed hands; what waited is read again.", self.source.id)
                self._problem = ""
        except Exception as error:
            # An intake that ends unnoticed would be silent loss: it says what is wrong, and begins anew.
            self._problem = f"{type(error).__name__}: {error}"
            _log.exception("The source %s cannot go on for now", self.source.id)
            await self._pause(_PAUSE_MAX_S)
        finally:
            self.lags = {}
            await self._call(client.close)
            if self._avro is not None:
                await self._call(self._avro.close)

    async def _cycle(self, client: Topics) -> None:
        self._changed = False
        messages = await self._call(client.read, RECORDS_MAX, _READ_S)
        if messages:
            # Partitions that came or went within the read did so before any of these was handed out.
            self._changed = False
            letters = await self._deliver(client, messages)
            if letters:
                await self._set_aside(client, letters)
            ends: dict[tuple[str, int], int] = {}
            for message in messages:
                place = message.topic(), message.partition()
                ends[place] = max(ends.get(place, 0), message.offset() + 1)
            await self._call(client.commit, ends)
            self.records += len(messages)
        else:
            await self._call(client.commit, {})
        self.lags = await self._call(client.lags)

    async def _deliver(self, client: Topics, messages: list[Any]) -> list[DeadLetter]:
        """Return once every event is durable or refused for good; gives the records that hold what is no event."""
        letters: list[DeadLetter] = []
        waiting: list[_Read] = []
        for message, record in zip(messages, await self._records(client, messages), strict=True):
            if isinstance(record, Unreadable):
                self._count(str(record), 1)
                letters.append(self._letter(message, str(record)))
                continue
            if record.rejected:
                self._count(INVALID, record.rejected)
                letters.append(self._letter(message, INVALID))
            waiting.append((message, record))

        async def hand_on() -> bool:
            nonlocal waiting
            waiting = await self._try(waiting, letters)
            return not waiting

        if waiting:
            await self._until(client, hand_on)
        return letters

    async def _records(self, client: Topics, messages: list[Any]) -> list[Record | Unreadable]:
        """Read what the messages hold, as soon as the schemas for it are there."""
        records: list[Record | Unreadable] = []
        if self._avro is None:
            for message in messages:
                try:
                    records.append(read_record(message.value(), _place(message), self._received_ms(message)))
                except Unreadable as error:
                    records.append(error)
            return records
        read = self._avro.read
        arrived = [
            (message.value(), message.headers(), _place(message), self._received_ms(message)) for message in messages
        ]

        async def learn() -> bool:
            nonlocal records
            try:
                records = await self._call(read, arrived)
            except RegistryUnavailable as error:
                self._problem = str(error)
                return False
            return True

        await self._until(client, learn)
        return records

    async def _try(self, waiting: list[_Read], letters: list[DeadLetter], rows_max: int = _ROWS_MAX) -> list[_Read]:
        """Hand records on, several as one request; gives those to be tried again."""
        groups = _grouped(waiting, rows_max)
        results = await asyncio.gather(*(self._submit(self._events(group)) for group in groups), return_exceptions=True)
        again: list[_Read] = []
        for group, result in zip(groups, results, strict=True):
            if isinstance(result, RowOutcomes):
                self._take(group, result, letters)
            elif isinstance(result, Problem | Refused):
                self._problem = str(result)
                again += group
            elif not isinstance(result, Exception):
                raise result
            elif len(group) > 1:
                again += await self._try(group, letters, rows_max=0)  # only one of them may be to blame
            else:
                # The decoder broke on it, and would for ever: it must not hold up what comes after it.
                [(message, record)] = group
                _log.error("A record at %s cannot be taken", _place(message), exc_info=result)
                self._count("error", len(record.texts))
                letters.append(self._letter(message, f"error: {type(result).__name__}"))
        return again

    def _events(self, group: list[_Read]) -> RawEvents:
        texts = [text for _, record in group for text in record.texts]
        return RawEvents(texts, group[0][1].fmt, self.source.id)

    def _take(self, group: list[_Read], outcomes: RowOutcomes, letters: list[DeadLetter]) -> None:
        self._count("accepted", outcomes.accepted)
        self._count("duplicate", outcomes.duplicates)
        for reason, count in Counter(reason for _, reason in outcomes.rejected).items():
            self._count(reason, count)
        bad = [row for row, reason in outcomes.rejected if reason == INVALID]
        if bad:
            messages = [message for message, record in group for _ in record.texts]
            unique = {_place(messages[row]): messages[row] for row in bad}
            letters += [self._letter(message, INVALID) for message in unique.values()]

    async def _set_aside(self, client: Topics, letters: list[DeadLetter]) -> None:
        """Keep dead letters, again and again until they are kept."""

        async def keep() -> bool:
            try:
                await self._call(self._letters.keep, letters)
            except OSError as error:
                self._problem = f"dead letters cannot be kept: {error}"
                return False
            return True

        await self._until(client, keep)
        self.dead_letters.update(letter.reason for letter in letters)

    async def _until(self, client: Topics, attempt: Callable[[], Awaitable[bool]]) -> None:
        """Try until it is done, with longer and longer pauses in which no more is read."""
        pause_s = _PAUSE_S
        while not await attempt():
            await self._wait(client, pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        if pause_s > _PAUSE_S:
            await self._call(client.go_on)

    async def _wait(self, client: Topics, pause_s: float) -> None:
        """Wait as a living member of the group; raises _Moved when what waits may be somebody else's, or at a stop."""
        await self._pause(pause_s)
        await self._call(client.stay)
        if self._changed or self._stopping:
            await self._call(client.go_on)
            raise _Moved

    async def _pause(self, pause_s: float) -> None:
        until = asyncio.get_running_loop().time() + pause_s
        while not self._stopping and (left_s := until - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left_s, 0.2))

    def _note_change(self) -> None:
        self._changed = True

    def _letter(self, message: Any, reason: str) -> DeadLetter:
        return DeadLetter(
            message.topic(), message.partition(), message.offset(), reason, self._received_ms(message),
            message.key(), message.value(),
        )  # fmt: skip

    def _received_ms(self, message: Any) -> int:
        kind, at_ms = message.timestamp()
        return int(at_ms) if kind and at_ms > 0 else self._now_ms()

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)


def _avro_records(topics: KafkaTopics) -> AvroRecords | None:
    if topics.registry is None:
        return None
    schemas = open_schemas(topics.registry)
    from cluster.intake.avro import AvroRecords

    return AvroRecords(schemas)


def _place(message: Any) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _grouped(waiting: list[_Read], rows_max: int) -> list[list[_Read]]:
    """Put neighbours of one format together, up to some rows or what one record holds."""
    groups: list[list[_Read]] = []
    rows = 0
    for message, record in waiting:
        rows += len(record.texts)
        if not groups or groups[-1][0][1].fmt != record.fmt or rows > rows_max:
            groups.append([])
            rows = len(record.texts)
        groups[-1].append((message, record))
    return groups

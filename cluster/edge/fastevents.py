"""Small event requests of SDKs, answered from the bytes of the connection: POST /v1/track and its like.

A browser sends each event by itself, so what a request costs apart from its event decides how many an edge takes. Here
that is one look at its head, the same reading as of every other body (`wire.segment`), and a place in the next batch:
no task, no request object, no router. What is special in any way (a query, a zipped body, an unknown key, a body that
cannot be read) is left to aiohttp's handlers of the same paths, which also say what is wrong with it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from cluster.clock import Clock
from cluster.edge.answers import unforeseen
from cluster.edge.auth import Grant, KeyRing
from cluster.edge.batching import EventBatcher, Settled
from cluster.edge.bodies import BodyBudget
from cluster.edge.heads import answer_bytes, plain_fields
from cluster.edge.ingest import PATHS, SUCCESS, IngestApi, ingest_grant, new_message_id
from cluster.edge.metrics import EdgeMetrics
from cluster.edge.problems import Problem
from cluster.edge.state import EMPTY, EdgeState
from cluster.errors import UsherError
from cluster.limits import FAST_HEADS_MAX
from cluster.wire.events import ReadEvents
from cluster.wire.segment import read_request
from cluster.wire.write_keys import basic_user, write_key_of

_REQUEST: Final = re.compile(rb"POST (/[A-Za-z0-9/]{1,24}) HTTP/1\.1\r\n").match
_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,6})\r\n", re.IGNORECASE).search
#: Larger bodies cost more to read than a request does: aiohttp takes them.
_BODY_BYTES_MAX: Final = 64 * 1024
_JSON: Final = "application/json"
#: Path to (the same as text, what a body there holds).
_KINDS: Final = {path.encode(): (path, kind) for path, kind in PATHS.items()}


@dataclass(slots=True)
class Part:
    """A request that is not whole yet; its bytes are taken out of the budget of bodies until `forget`."""

    data: bytearray
    total_bytes: int
    budget: BodyBudget

    def forget(self) -> None:
        """Give the bytes back."""
        self.budget.give_back(self.total_bytes)


#: True: the answer is delivered later. Else what is still to come of it; None: not a request for this path.
Taken = Literal[True] | Part | None


@dataclass(frozen=True, slots=True)
class _Sender:
    """What a head says. `grant` is that of its Basic user name `key`; both None where the body must name a key."""

    authorization: str | None
    key: str | None
    grant: Grant | None
    origin: str | None


class FastEvents:
    """Takes the bytes of one request, and gives those of its answer once its events are durable."""

    def __init__(self, ingest: IngestApi, batcher: EventBatcher, metrics: EdgeMetrics, clock: Clock) -> None:
        self._ingest = ingest
        self._batcher = batcher
        self._metrics = metrics
        self._clock = clock
        self._keys: KeyRing = EMPTY.keys
        #: Heads seen without the digits of their length, known to be plain and of a known key or none. Emptied when
        #: keys change.
        self._heads: dict[bytes, _Sender] = {}
        self._second = -1
        #: The usual answer by Origin, of this second.
        self._answers: dict[str | None, bytes] = {}

    def take(self, state: EdgeState) -> None:
        """Follow a new state. Keys are looked up anew."""
        self._keys = state.keys
        self._heads = {}

    def post(self, data: bytes, deliver: Callable[[bytes], None]) -> Taken:
        """Take bytes that are one request, or its beginning with the whole head; None for all others."""
        request = _REQUEST(data)
        known = _KINDS.get(request[1]) if request is not None else None
        if request is None or known is None:
            return None
        line = request.end()
        end = data.find(b"\r\n\r\n", line - 2) + 4
        length = _LENGTH(data, line - 2, end - 2) if end >= 4 else None
        if length is None:
            return None
        head = data[line : length.start(1)] + data[length.end(1) : end]
        sender = self._heads.get(head) or self._admit(head)
        size = int(length[1])
        if sender is None or not 0 < size <= _BODY_BYTES_MAX or len(data) > end + size:
            return None
        if not self._ingest.budget.take(end + size):
            return None
        if len(data) < end + size:
            return Part(bytearray(data), end + size, self._ingest.budget)
        taken = False
        try:
            taken = self._submit(*known, sender, data[end:], end + size, deliver)
        finally:
            if not taken:
                self._ingest.budget.give_back(end + size)
        return True if taken else None

    def _submit(
        self, path: str, kind: str, sender: _Sender, body: bytes, held_bytes: int, deliver: Callable[[bytes], None]
    ) -> bool:
        """Hand the events on; false where something is wrong with them, or with the key."""
        began = time.perf_counter()
        try:
            request = read_request(body, kind, new_message_id)
            key = write_key_of(sender.authorization, request.body_key, request.first_event_key, None)
            grant = sender.grant
            if grant is None or key != sender.key:
                grant = ingest_grant(self._keys, key)
        except (Problem, UsherError):
            return False
        read = request.events(source=grant.source)
        if not read.raw.texts:
            return False
        settle = partial(self._settle, read, path, sender.origin, began, held_bytes, deliver)
        try:
            self._batcher.enqueue(read.raw, settle)
        except UsherError as error:
            settle(error)
        return True

    def _settle(
        self, read: ReadEvents, path: str, origin: str | None, began: float, held_bytes: int,
        deliver: Callable[[bytes], None], result: Settled,
    ) -> None:  # fmt: skip
        """Count, and answer."""
        self._ingest.budget.give_back(held_bytes)
        status = 200
        if isinstance(result, Exception):
            problem = result if isinstance(result, Problem) else unforeseen("POST", path, result)
            status = problem.status
            self._metrics.count_refusal(problem.code)
            answer = self._refusal(problem, origin)
        else:
            self._ingest.account(read, result)
            answer = self._success(origin)
        self._metrics.count_request("POST", path, status, time.perf_counter() - began)
        deliver(answer)

    def _success(self, origin: str | None) -> bytes:
        second = self._clock.now_ms() // 1000
        if second != self._second:
            self._second, self._answers = second, {}
        answer = self._answers.get(origin)
        if answer is None:
            answer = self._answers[origin] = answer_bytes(200, _JSON, SUCCESS, second, _cors(origin))
        return answer

    def _refusal(self, problem: Problem, origin: str | None) -> bytes:
        second = self._clock.now_ms() // 1000
        return answer_bytes(problem.status, _JSON, problem.sdk_body(), second, {**problem.headers, **_cors(origin)})

    def _admit(self, head: bytes) -> _Sender | None:
        """Read a head that was not seen before; remember it if it is plain and does not name an unknown key."""
        fields = plain_fields(head)
        if fields is None or fields.get(b"content-length") != b"":
            return None
        authorization = fields.get(b"authorization", b"").decode("latin-1") or None
        try:
            key = basic_user(authorization)
            grant = ingest_grant(self._keys, key) if key else None
        except (Problem, UsherError):
            return None  # aiohttp's handler finds the same, and says it
        if key is None and authorization is not None:
            return None  # another scheme than Basic
        origin = fields[b"origin"].decode("latin-1") if b"origin" in fields else None
        sender = _Sender(authorization, key, grant, origin)
        if len(self._heads) >= FAST_HEADS_MAX:
            self._heads.clear()
        self._heads[head] = sender
        return sender


def _cors(origin: str | None) -> dict[str, str]:
    """Give what `cors.with_cors` says."""
    if origin is None:
        return {}
    return {
        "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true", "Vary": "Origin",
    }  # fmt: skip

"""One sync's requests: a token, the steps that must come first, the request, and what its answer teaches.

Every request fits the shared rate limits: a batch's own is counted when the machine lets it go, all others here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

from actors.delivery.asides import AsideKind, AsideOutcome, aside_exchange, aside_row
from actors.delivery.bounds import LISTING_BYTES_MAX
from actors.delivery.desk import Desk
from actors.delivery.rate_limit import Limiter
from actors.delivery.rows import Asked, Attempted, StoredRow
from actors.delivery.stimuli import Answered
from actors.delivery.store import DeliveryStore
from actors.delivery.sync_log import SyncLog
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from cluster.clock import Clock
from destinations.contract import Purpose
from destinations.listing import Listing
from destinations.outcomes import (
    Credentials,
    Gone,
    Judgement,
    Learned,
    Outcome,
    Permanent,
    Retry,
    StepFailure,
    Token,
    TokenOutcome,
)
from destinations.records import Attempt, SealedBatch, Verb
from destinations.requests import Answer, Request, Response

#: Steps in a row before they count as never ending.
_STEPS_MAX: Final = 1_000
#: How often a listing may be said to lie elsewhere.
_PLACES_MAX: Final = 3
_UNAUTHORIZED: Final = 401
_LISTED: Final = frozenset({200, 204})
_RENEWED: Final = "the token is refused: once more with another one"
#: Where servers and the proxies before them name a request, for kinds whose answers do not.
_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-amzn-requestid", "x-correlation-id", "cf-ray")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.:=-]{1,100}")


@dataclass(frozen=True, slots=True)
class Failed:
    """Something before the request failed: there was no request."""

    outcome: Retry | Credentials | Gone


class Attempts:
    """Performs attempts; concurrently, but for the steps, which go one after another."""

    def __init__(
        self, desk: Desk, *, store: DeliveryStore, log: SyncLog, tokens: Tokens, transport: HttpTransport, clock: Clock
    ) -> None:
        self._desk = desk
        self._log = log
        self._store = store
        self._tokens = tokens
        self._transport = transport
        self._clock = clock
        self._stepping = asyncio.Lock()
        #: The shared limits for requests that the machine does not count; set with every plan.
        self.aside = Limiter("")
        self.listing = Limiter("")
        #: Held while names of a listing are compared with those told of and strays are removed: whoever is told of
        #: meanwhile is told of after that.
        self.comparing = asyncio.Lock()

    async def attempt(self, row: StoredRow) -> tuple[Answered, Asked | None]:
        """Send a batch once; gives what to tell the machine, and what to ask for later."""
        failed = await self.step("open")
        if failed is not None:
            return self._without_request(row, failed)
        await self._note(row)
        return await self.send(row)

    async def send(self, row: StoredRow) -> tuple[Answered, Asked | None]:
        """Send a batch once; the list is known."""
        kind, settings = self._desk.plan.kind, self._desk.plan.settings
        sealed = SealedBatch(row.id, self._desk.plan.sync.id, row.body, row.records, row.key)
        for renewed in (False, True):
            held = await self._tokens.get(kind, settings, self._heard)
            if not isinstance(held, str):
                return self._without_request(row, Failed(_plain(held)))
            request = kind.build(settings, sealed, self._now(held))
            started_ms = self._clock.monotonic_ms()
            answer = await self._transport.send(request)
            latency_ms = self._clock.monotonic_ms() - started_ms
            judgement = kind.judge(settings, sealed, request, answer)
            attempted = Attempted(
                request, answer, latency_ms, judgement.request_id or _request_id(answer), judgement.notes,
                judgement.outcomes, held,
            )  # fmt: skip
            if not held or renewed or not any(isinstance(each, Credentials) for each in judgement.outcomes):
                break
            self._tokens.refused(kind, settings, held)
            self._tell_renewed(row, attempted)
            await self._turn()
        self._desk.figures.answered(getattr(answer, "status", None), latency_ms)
        await self._learn(judgement.learned)
        self._desk.attempted[row.id] = attempted
        answered = Answered(
            row.id, judgement.outcomes, latency_ms, judgement.quiet_ms, learned=bool(judgement.learned)
        )
        return answered, self._asked(row, judgement)

    async def step(self, purpose: Purpose, since_ms: int = 0) -> Failed | None:
        """Take the steps of a purpose, each when the one before is done; None once there is none left."""
        kind, settings = self._desk.plan.kind, self._desk.plan.settings
        async with self._stepping:
            for _ in range(_STEPS_MAX):
                attempt = self._now("", since_ms)
                if kind.next_step(settings, attempt, purpose) is None:
                    return None

                def build(attempt: Attempt) -> Request | None:
                    return kind.next_step(settings, attempt, purpose)

                done = await self._with_token(build, since_ms, listing=purpose == "list")
                if isinstance(done, Failed):
                    return done
                if done is None:
                    return None
                attempt, asked = done
                assert asked.request is not None, "something was asked"
                assert asked.answer is not None, "and an answer came"
                outcome = kind.judge_step(settings, attempt, purpose, asked.request, asked.answer)
                self._tell("list", asked, outcome)
                if not isinstance(outcome, Learned):
                    return Failed(_plain(outcome))
                await self._learn(outcome.learned)
                if outcome.retry is not None:
                    return Failed(_plain(outcome.retry))
            return Failed(Gone(f"the steps to {purpose} the list never end"))

    async def fetch(self, listing: Listing, file: BinaryIO, since_ms: int) -> Failed | bool:
        """Save a listing, once; False: there is no list yet. Raises OSError where the disk refuses."""
        done = await self._with_token(listing.request, since_ms, listing=True, file=file)
        for _ in range(_PLACES_MAX):
            if isinstance(done, Failed):
                return done
            if done is None:
                return False
            attempt, asked = done
            assert asked.answer is not None, "an answer came"
            found = listing.judge(asked.answer)
            self._tell("list", asked, None if isinstance(found, Request) else found)
            if found is None and asked.status not in _LISTED:
                return Failed(Retry(f"status {asked.status}: no listing"))
            if found is None:
                return True
            if not isinstance(found, Request):
                return Failed(_plain(found))
            done = attempt, await self._ask(found, "", file)
        return Failed(Retry("the listing lies elsewhere, time and again"))

    async def turn(self) -> None:
        """Wait until the shared limits let one more request go."""
        await self._turn()

    async def poll(self, asked: Asked) -> tuple[Attempted | None, Any]:
        """Ask for a result once; gives the attempt and a `PollOutcome`."""
        kind, settings = self._desk.plan.kind, self._desk.plan.settings
        done = await self._with_token(lambda attempt: kind.poll(settings, asked.id, attempt))
        if isinstance(done, Failed):
            return None, done.outcome
        assert done is not None, "a poll is always a request"
        _, attempted = done
        assert attempted.answer is not None, "an answer came"
        return attempted, kind.judge_poll(settings, asked.id, attempted.answer)

    async def _with_token(
        self, build: Callable[[Attempt], Request | None], since_ms: int = 0, *, listing: bool = False,
        file: BinaryIO | None = None,
    ) -> tuple[Attempt, Attempted] | Failed | None:  # fmt: skip
        """Send a request that is no batch's; a refused token is renewed once. None: there is nothing to send.

        With `file` what a 200 has is written there; see `HttpTransport.save`.
        """
        kind, settings = self._desk.plan.kind, self._desk.plan.settings
        for renewed in (False, True):
            held = await self._tokens.get(kind, settings, self._heard)
            if not isinstance(held, str):
                return Failed(_plain(held))
            attempt = self._now(held, since_ms)
            request = build(attempt)
            if request is None:
                return None
            await self._turn(listing=listing)
            asked = await self._ask(request, held, file)
            if not held or renewed or asked.status != _UNAUTHORIZED:
                return attempt, asked
            self._tokens.refused(kind, settings, held)
            self._tell("list", asked, Credentials(_RENEWED))
        message = "the second try returns"
        raise AssertionError(message)

    async def _ask(self, request: Request, token: str, file: BinaryIO | None) -> Attempted:
        started_ms = self._clock.monotonic_ms()
        if file is None:
            answer = await self._transport.send(request)
        else:
            answer = await self._transport.save(request, file, LISTING_BYTES_MAX)
        latency_ms = self._clock.monotonic_ms() - started_ms
        return Attempted(request, answer, latency_ms, _request_id(answer), token=token)

    # --- the sync log ------------------------------------------------------------------------------

    def _heard(self, request: Request, answer: Answer, latency_ms: float, outcome: TokenOutcome) -> None:
        token = outcome.value if isinstance(outcome, Token) else ""
        self._tell("token", Attempted(request, answer, latency_ms, _request_id(answer), token=token), outcome)

    def _tell(self, kind: AsideKind, asked: Attempted, outcome: AsideOutcome) -> None:
        plan = self._desk.plan
        exchange = aside_exchange(kind, asked, self._desk.secrets(asked))
        self._log.append(plan.sync.id, [aside_row(kind, asked, outcome, self._clock.now_ms())], exchange)

    def _tell_renewed(self, row: StoredRow, attempted: Attempted) -> None:
        """Tell of an attempt that is made again at once, with another token."""
        now_ms = self._clock.now_ms()
        lines = self._desk.lines(row.id, row.attempts + 1, attempted, now_ms)
        lines.add("resend", [(record.user_id, record.verb) for record in row.records], _RENEWED)
        exchange = self._desk.exchange(attempted, row.records, now_ms, well=False)
        self._log.append(self._desk.plan.sync.id, lines.rows, exchange)

    # --- what all need -----------------------------------------------------------------------------

    async def _turn(self, *, listing: bool = False) -> None:
        """Wait until the shared limits let one more request go."""
        limiter = self.listing if listing else self.aside
        while wait_ms := limiter.wait_ms(0, self._clock.now_ms()):
            await asyncio.sleep(wait_ms / 1000)
        limiter.take(0, self._clock.now_ms())

    async def _note(self, row: StoredRow) -> None:
        """While a resync is under way, remember whom it tells of: whoever else the list has is a stray."""
        desk = self._desk
        listing = desk.plan.listing if desk.resync_ms else None
        if listing is None:
            return
        names: dict[Verb, list[str]] = {"add": [], "remove": []}
        for record in row.records:
            names[record.verb].append(listing.name(record.identifiers))
        async with self.comparing:
            if desk.resync_ms:
                added, removed = names["add"], names["remove"]
                await self._store.present.note(desk.plan.sync.id, desk.resync_ms, listing, added, removed)

    async def _learn(self, learned: Any) -> None:
        if learned:
            self._desk.learned.update(learned)
            await self._store.learn(self._desk.plan.sync.id, self._desk.learned)

    def _now(self, token: str, since_ms: int = 0) -> Attempt:
        return Attempt(self._clock.now_ms(), self._desk.plan.shape, dict(self._desk.learned), token, since_ms)

    def _without_request(self, row: StoredRow, failed: Failed) -> tuple[Answered, None]:
        self._desk.attempted[row.id] = Attempted(None, None, 0.0, outcomes=(failed.outcome,) * len(row.records))
        return Answered(row.id, self._desk.attempted[row.id].outcomes), None

    def _asked(self, row: StoredRow, judgement: Judgement) -> Asked | None:
        if judgement.follow_up is None:
            return None
        now_ms = self._clock.now_ms()
        follow_up = judgement.follow_up
        return Asked(follow_up.id, row.id, len(row.records), now_ms, now_ms + follow_up.after_ms)


def _request_id(answer: Answer) -> str:
    """Give the id that an answer's headers have for its request, where it looks like one."""
    headers = answer.headers if isinstance(answer, Response) else {}
    found = next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), "")
    return found if _REQUEST_ID.fullmatch(found) else ""


def _plain(outcome: StepFailure | Outcome) -> Retry | Credentials | Gone:
    """Give what a failed step means for the batches that wait for it: none of them is at fault."""
    match outcome:
        case Retry():
            return replace(outcome, attempts_max=None)
        case Credentials() | Gone():
            return outcome
        case Permanent():
            return Gone(outcome.reason)
        case _:
            message = f"a step cannot end in {outcome!r}"
            raise TypeError(message)

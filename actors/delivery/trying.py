"""A sync tried out on one user: the exact requests, and with `send` what came back. Nothing of it is remembered.

Shown to somebody who may see the destination's credentials named, not read: secrets are masked, the user's own
identifiers are what this is for and are shown as they are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from actors.delivery.changes import Change
from actors.delivery.plans import SyncPlan
from actors.delivery.recording import record as to_records
from actors.delivery.tokens import Tokens
from actors.delivery.transport import HttpTransport
from cluster.clock import Clock
from cluster.runtime.protocols import Reply
from destinations.outcomes import Delivered, Learned, Outcome, Resend, Retry, StepOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, Verb
from destinations.redaction import MASK, masked, shown_request
from destinations.requests import Answer, Request, Response

#: What is shown of a body.
_SHOWN_CHARS: Final = 20_000
#: Steps and sendings before a trial gives up: a list is found, made, and the record sent again.
_ROUNDS_MAX: Final = 60
#: Stands where a token would be in a request that is only shown.
_NO_TOKEN: Final = "<token>"


@dataclass(slots=True)
class Trial:
    """One trial. `exchanges` are the requests in order, each with what came back."""

    plan: SyncPlan
    transport: HttpTransport
    tokens: Tokens
    clock: Clock
    token: str = ""
    learned: dict[str, Any] = field(default_factory=dict)
    exchanges: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, user: str, verb: Verb, columns: Mapping[str, Sequence[Any]], *, send: bool) -> Reply:
        """Give the whole story; `delivered` is None where nothing was sent."""
        plan = self.plan
        change = Change(0, 0, plan.sync.audience, 0, user, "entered" if verb == "add" else "exited",
                        self.clock.now_ms(), 0, "test")  # fmt: skip
        made = to_records(plan, [change], columns, {}, self.clock.now_ms())
        records, dropped = made.records, made.dropped
        if not records and not dropped:
            dropped[0] = f"on_exit: {plan.sync.on_exit} sends nothing"
        story: Reply = {"sync": plan.sync.id, "kind": plan.kind.kind, "user": user, "verb": verb, "sent": send}
        if dropped:
            return {**story, "dropped": dropped[0], "requests": [], "delivered": False if send else None}
        (record,) = records
        delivered: bool | None = None
        if send:
            delivered = await self._send(record)
        else:
            self._show(record)
        return {**story, "dropped": None, "requests": self.exchanges, "delivered": delivered}

    # --- shown alone -------------------------------------------------------------------------------

    def _show(self, record: Record) -> None:
        kind, settings = self.plan.kind, self.plan.settings
        if kind.token_scope(settings) is not None:
            self.token = _NO_TOKEN
            self._note("token", kind.token_request(settings, self.clock.now_ms()))
        step = kind.next_step(settings, self._attempt(), "open")
        if step is not None:
            self._note("list", step)
            self.learned = dict(kind.example_learned(settings))
        sealed = self._sealed(record)
        self._note("change", kind.build(settings, sealed, self._attempt()))

    # --- sent --------------------------------------------------------------------------------------

    async def _send(self, record: Record) -> bool:
        kind, settings, sealed = self.plan.kind, self.plan.settings, self._sealed(record)
        for _ in range(_ROUNDS_MAX):
            held = await self.tokens.get(kind, settings)
            if not isinstance(held, str):
                self.exchanges.append({"purpose": "token", "outcome": _said(held)})
                return False
            self.token = held
            step = kind.next_step(settings, self._attempt(), "open")
            if step is not None:
                if not await self._take(step):
                    return False
                continue
            request = kind.build(settings, sealed, self._attempt())
            answer = await self.transport.send(request)
            judgement = kind.judge(settings, sealed, request, answer)
            (outcome,) = judgement.outcomes
            self.learned.update(judgement.learned)
            self._note("change", request, answer, outcome)
            if not isinstance(outcome, Resend):
                return isinstance(outcome, Delivered)
        return False

    async def _take(self, step: Request) -> bool:
        kind, settings, attempt = self.plan.kind, self.plan.settings, self._attempt()
        answer = await self.transport.send(step)
        outcome = kind.judge_step(settings, attempt, "open", step, answer)
        self._note("list", step, answer, outcome)
        if isinstance(outcome, Learned):
            self.learned.update(outcome.learned)
        return isinstance(outcome, Learned) and outcome.retry is None

    # --- what both need ----------------------------------------------------------------------------

    def _attempt(self) -> Attempt:
        return Attempt(self.clock.now_ms(), self.plan.shape, self.learned, self.token)

    def _sealed(self, record: Record) -> SealedBatch:
        kind, settings, sync = self.plan.kind, self.plan.settings, self.plan.sync.id
        id_, key = f"msg_test_{self.clock.now_ms()}", kind.batch_key(settings, record)
        body = kind.encode(settings, Batch(id_, sync, (record,), key))
        return SealedBatch(id_, sync, body, (record,), key)

    def _note(
        self,
        purpose: str,
        request: Request,
        answer: Answer | None = None,
        outcome: Outcome | StepOutcome | None = None,
    ) -> None:
        hidden = [secret for secret in (*self.plan.kind.secrets(self.plan.settings), self.token) if secret != _NO_TOKEN]
        shown: dict[str, Any] = {
            "purpose": purpose,
            "request": shown_request(request, hidden, chars_max=_SHOWN_CHARS, addresses=True),
        }
        if purpose == "token":
            # A signed assertion is as good as a credential, and no setting that could be looked for.
            shown["request"]["body"] = MASK
        if isinstance(answer, Response):
            body = masked(answer.body, hidden, chars_max=_SHOWN_CHARS, addresses=True)
            shown["response"] = {"status": answer.status, "body": body}
        elif answer is not None:
            shown["response"] = {"error": answer.code, "message": answer.message}
        if outcome is not None:
            shown["outcome"] = _said(outcome)
        self.exchanges.append(shown)


def _said(outcome: Outcome | StepOutcome) -> str:
    """Name an outcome with its reason."""
    if isinstance(outcome, Learned):
        return "learned" if outcome.retry is None else f"retry: {outcome.retry.reason}"
    word = type(outcome).__name__.lower()
    reason = "" if isinstance(outcome, Delivered) else outcome.reason
    wait = f" (asks to wait {outcome.after_ms} ms)" if isinstance(outcome, Retry) and outcome.after_ms else ""
    return (f"{word}: {reason}" if reason else word) + wait


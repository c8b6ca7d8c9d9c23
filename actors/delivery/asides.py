"""Requests that carry no records, in the sync log: for tokens, for the list at the destination, for results.

Redacted as all else that is kept; of a token's request no body is shown at all, nor what gave one: an assertion is as
good as a credential, and neither is a setting that could be looked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal, TypeAlias
from urllib.parse import parse_qsl

from actors.delivery.bounds import LOGGED_BODY_CHARS_MAX
from actors.delivery.dead_letters import shown_attempt
from actors.delivery.rows import Attempted, Exchange, LogRow
from destinations.outcomes import (
    Credentials,
    Finished,
    Gone,
    Learned,
    Permanent,
    PollOutcome,
    Retry,
    StepOutcome,
    Token,
    TokenOutcome,
)
from destinations.redaction import MASK
from destinations.requests import Request

#: What a request that carries no records is for.
AsideKind: TypeAlias = Literal["token", "list", "result"]
AsideOutcome: TypeAlias = StepOutcome | PollOutcome | TokenOutcome | None

_SUCCESS: Final = range(200, 300)
#: What a form holds that is longer may be a credential.
_PLAIN_CHARS_MAX: Final = 16


def aside_row(
    kind: AsideKind, attempted: Attempted, outcome: AsideOutcome, now_ms: int, *, batch_id: str = "", tries: int = 1
) -> LogRow:
    """Give the line of a request; `outcome` None: it is what it should be."""
    word, reason = said(outcome, attempted)
    return LogRow(
        now_ms, batch_id, 0, word, attempted.status, tries, attempted.latency_ms, reason,
        request_id=attempted.request_id, kind=kind,
    )  # fmt: skip


def aside_exchange(kind: AsideKind, attempted: Attempted, secrets: Sequence[str]) -> Exchange | None:
    """Give request and answer as people may see them; None where there was no request."""
    if attempted.request is None:
        return None
    hidden = [*secrets, *_in_form(attempted.request)] if kind == "token" else secrets
    asked, answered = shown_attempt(attempted, hidden, chars_max=LOGGED_BODY_CHARS_MAX)
    if kind == "token":
        asked = {**(asked or {}), "body": MASK}
        if attempted.status in _SUCCESS:
            answered = {**(answered or {}), "body": MASK}
    return Exchange(json.dumps(asked), json.dumps(answered))


def said(outcome: AsideOutcome, attempted: Attempted) -> tuple[str, str]:
    """Name an outcome for the log, with its reason. An answer that says "not yet" is an answer."""
    match outcome:
        case Learned(retry=Retry() as retry) | (Retry() as retry):
            return "answered" if attempted.status in _SUCCESS else "retry", retry.reason
        case Credentials():
            return "credentials", outcome.reason
        case Gone():
            return "disabled", outcome.reason
        case Permanent():
            return "refused", outcome.reason
        case Learned() | Token() | Finished() | None:
            return "answered", ""


def _in_form(request: Request) -> list[str]:
    """Give what an answer must not repeat of a form: assertions, codes, secrets."""
    form = parse_qsl(request.body.decode("utf-8", "replace"))
    return [value for _, value in form if len(value) > _PLAIN_CHARS_MAX]

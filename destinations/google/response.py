"""What Google's answers to changes of a list mean for each member, at once and later."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

from destinations.answers import json_object
from destinations.google.errors import failure_of, read_error
from destinations.outcomes import (
    Delivered,
    Finished,
    FollowUp,
    Gone,
    Judgement,
    Outcome,
    Permanent,
    PollOutcome,
    Resend,
    Retry,
    for_all,
    step_failure,
)
from destinations.records import SealedBatch
from destinations.requests import Answer

#: Google works on a request for half an hour and more.
POLL_EVERY_MS: Final = 30 * 60_000

_PATH: Final = re.compile(r"[A-Za-z_.]{1,120}")
_WORD: Final = re.compile(r"[A-Z][A-Z0-9_]{1,120}")
_NOTES_MAX: Final = 20


def judge(sealed: SealedBatch, answer: Answer) -> Judgement:
    """Give an outcome per member. One that is not sound fails the whole request: the others are sent again."""
    error = read_error(answer)
    failure = failure_of(answer, error)
    count = sealed.record_count
    named = {index: reason for index, reason in error.members.items() if index < count}
    if failure is not None and named and not isinstance(failure, Retry):
        rest = Resend("another member of the request was refused")
        outcomes: list[Outcome] = [
            Permanent(f"Google refuses the member: {named[index]}") if index in named else rest
            for index in range(count)
        ]
        return Judgement(tuple(outcomes), request_id=error.request_id)
    if failure is not None:
        learned = {"user_list_id": None} if isinstance(failure, Gone) else {}
        return for_all(failure, count, learned=learned, request_id=error.request_id)
    body = json_object(answer)
    if body is None:
        return for_all(Retry("the answer is not JSON"), count)
    request_id = body.get("requestId")
    if not isinstance(request_id, str) or not request_id:
        return for_all(Retry("the answer names no request"), count)
    follow_up = FollowUp(request_id, POLL_EVERY_MS)
    return for_all(Delivered(), count, follow_up=follow_up, request_id=request_id, notes=_warnings(body))


def judge_poll(answer: Answer) -> PollOutcome:
    """Give how many members came to nothing and why; Google never says which."""
    failure = failure_of(answer, read_error(answer))
    if failure is not None:
        known = step_failure(failure)
        return Permanent(known.reason) if isinstance(known, Gone) else known
    states = (json_object(answer) or {}).get("requestStatusPerDestination")
    states = [state for state in states if isinstance(state, dict)] if isinstance(states, list) else []
    if not states or any(state.get("requestStatus") not in _ENDS for state in states):
        return Retry("not worked off yet", POLL_EVERY_MS)
    failed: Counter[str] = Counter()
    warned: Counter[str] = Counter()
    for state in states:
        _count(failed, state, "errorInfo", "errorCounts")
        _count(warned, state, "warningInfo", "warningCounts")
    if not failed and any(state["requestStatus"] == "FAILED" for state in states):
        return Permanent("Google could not work the request off and does not say why")
    return Finished(dict(failed), tuple(f"{count} members: {reason}" for reason, count in warned.items()))


_ENDS: Final = frozenset({"SUCCESS", "PARTIAL_SUCCESS", "FAILED"})


def _count(counts: Counter[str], state: dict[str, Any], info: str, name: str) -> None:
    entries = state[info].get(name) if isinstance(state.get(info), dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            reason = entry.get("reason")
            known = reason if isinstance(reason, str) and _WORD.fullmatch(reason) else "UNKNOWN"
            # int64 travels as text in Google's JSON.
            number = str(entry.get("recordCount", 0))
            counts[known] += int(number) if number.isascii() and number.isdigit() else 0


def _warnings(body: dict[str, Any]) -> tuple[str, ...]:
    found: Counter[str] = Counter()
    warnings = body.get("fieldWarnings")
    for warning in warnings if isinstance(warnings, list) else ():
        if isinstance(warning, dict):
            field = re.sub(r"\[[0-9]*\]", "", str(warning.get("field", "")))
            reason = str(warning.get("reason", ""))
            if _PATH.fullmatch(field) and _WORD.fullmatch(reason):
                found[f"{reason} at {field}"] += 1
    return tuple(f"{count} warnings: {what}" for what, count in found.most_common(_NOTES_MAX))

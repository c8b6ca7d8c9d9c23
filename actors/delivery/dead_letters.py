"""What is kept of records that were given up: enough to send them again, and to see why without seeing secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from actors.delivery.rows import DeadLetter, StoredRow
from destinations.contract import Record
from destinations.requests import Answer, Request, Response
from destinations.times import iso_ms

#: How much of an answer's body is kept.
_EXCERPT_CHARS: Final = 1_000
#: Records shown of one dead letter.
_SHOWN_RECORDS_MAX: Final = 100
#: Header values that are ours and no secret.
_PLAIN_HEADERS: Final = frozenset({"content-type", "user-agent", "webhook-id", "webhook-timestamp"})
_PLAIN_ANSWER_HEADERS: Final = frozenset(
    {"content-type", "content-length", "date", "location", "retry-after", "server", "webhook-delivery"}
)
#: Shorter texts are no secret and no identifier, and masking them would leave nothing to read.
_MASKED_CHARS_MIN: Final = 3


def dead_letter(
    row: StoredRow, request: Request, answer: Answer, reason: str, now_ms: int, secrets: Iterable[str]
) -> DeadLetter:
    """Give the dead letter of a batch's records. The body is kept whole: it is what a retry sends."""
    masked = [*secrets, *_personal(row.records)]
    shown_request = {
        "method": request.method,
        "url": request.shown_url,
        "headers": {
            name: value if name in _PLAIN_HEADERS else "***" for name, value in request.headers.items()
        },
        "body_bytes": len(request.body),
    }
    return DeadLetter(
        row.id, row.records, row.body, now_ms, row.attempts, reason, json.dumps(shown_request),
        json.dumps(_shown_answer(answer, masked)),
    )  # fmt: skip


def shown(letter: DeadLetter) -> dict[str, Any]:
    """Give a dead letter as people see it: users by a hash, no identifier, no trait."""
    return {
        "batch_id": letter.id,
        "died_at": iso_ms(letter.died_ms),
        "attempts": letter.attempts,
        "reason": letter.reason,
        "count": len(letter.records),
        "changes": [
            {
                "transition_id": record.transition_id,
                "audience_id": record.audience_id,
                "kind": record.kind,
                "at": iso_ms(record.at_ms),
                "user_sha256": hashlib.sha256(record.user_id.encode()).hexdigest(),
            }
            for record in letter.records[:_SHOWN_RECORDS_MAX]
        ],
        "request": json.loads(letter.request),
        "response": json.loads(letter.response),
    }


def _shown_answer(answer: Answer, masked: Iterable[str]) -> dict[str, Any]:
    if not isinstance(answer, Response):
        return {"error": answer.code, "message": answer.message}
    # Masked before it is cut, so that the cut never leaves the first half of a secret.
    text = answer.body.decode("utf-8", "replace")
    for secret in sorted(set(masked), key=len, reverse=True):
        if len(secret) >= _MASKED_CHARS_MIN:
            text = text.replace(secret, "***")
    headers = {name: value for name, value in answer.headers.items() if name in _PLAIN_ANSWER_HEADERS}
    return {"status": answer.status, "headers": headers, "body": text[:_EXCERPT_CHARS]}


def _personal(records: Iterable[Record]) -> Iterable[str]:
    for record in records:
        yield record.user_id
        for value in (*record.identifiers.values(), *record.traits.values()):
            if isinstance(value, str):
                yield value

"""What is kept of records that were given up: enough to send them again, and to see why without seeing secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

from actors.delivery.instructions import Dead
from actors.delivery.rows import Attempted, DeadLetter, StoredRow
from destinations.redaction import masked, shown_request
from destinations.requests import Response, shown_url
from destinations.times import iso_ms

#: How much of an answer's body is kept.
_EXCERPT_CHARS: Final = 1_000
#: Records shown of one dead letter.
_SHOWN_RECORDS_MAX: Final = 100
_PLAIN_ANSWER_HEADERS: Final = frozenset(
    {"content-type", "content-length", "date", "location", "retry-after", "server", "webhook-delivery"}
)


def dead_letter(
    row: StoredRow, attempted: Attempted, dead: Dead, now_ms: int, hidden: Sequence[str], superseded: frozenset[str]
) -> DeadLetter:
    """Give the dead letter of a batch's records. The body is kept whole: it is what a retry sends.

    `hidden` are the texts to mask in what is shown: secrets, and what identifies the users. `superseded` users have
    a newer change.
    """
    request, answer = shown_attempt(attempted, hidden, chars_max=_EXCERPT_CHARS)
    return DeadLetter(
        row.id, row.records, row.body, now_ms, row.attempts, dead.reason, json.dumps(request), json.dumps(answer),
        row.key, superseded,
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


def shown_attempt(
    attempted: Attempted, hidden: Sequence[str], *, chars_max: int, addresses: bool = False
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Give an attempt's request and answer as people may see them, bodies cut to `chars_max`.

    `addresses` leaves e-mail addresses that are not hidden to be read.
    """
    request, answer = attempted.request, attempted.answer
    asked = None if request is None else shown_request(request, hidden, chars_max=chars_max, addresses=addresses)
    if answer is None:
        return asked, None
    if not isinstance(answer, Response):
        return asked, {"error": answer.code, "message": answer.message}
    headers = {name: value for name, value in answer.headers.items() if name in _PLAIN_ANSWER_HEADERS}
    if "location" in headers:  # a link may be its own proof
        headers["location"] = shown_url(headers["location"])
    body = masked(answer.body, hidden, chars_max=chars_max, addresses=addresses)
    return asked, {"status": answer.status, "headers": headers, "body": body}

"""What Meta's answer to a change of an audience means for each row."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from destinations.answers import SHORT_SCHEDULE_ATTEMPTS, json_object
from destinations.facebook.errors import failure_of, quiet_ms, trace_id
from destinations.facebook.payload import rows_of
from destinations.outcomes import Delivered, Divide, Gone, Judgement, Outcome, Permanent, Retry, for_all
from destinations.records import SealedBatch
from destinations.requests import Answer


def judge(sealed: SealedBatch, answer: Answer) -> Judgement:
    """Give an outcome per row. An audience that is gone is forgotten, so that the next start finds or makes one."""
    more: dict[str, Any] = {"quiet_ms": quiet_ms(answer), "request_id": trace_id(answer)}
    failure = failure_of(answer)
    if failure is not None:
        if isinstance(failure, Gone):
            more["learned"] = {"audience_id": None}
        return for_all(failure, sealed.record_count, **more)
    return Judgement(_outcomes(sealed, json_object(answer) or {}), **more)


def _outcomes(sealed: SealedBatch, body: dict[str, Any]) -> tuple[Outcome, ...]:
    count = sealed.record_count
    received = body.get("num_received")
    if not isinstance(received, int) or isinstance(received, bool) or received < count:
        # Meta answers 200 with nothing applied at times: only what it says it received, it did.
        return (Retry("Meta did not receive every row", attempts_max=SHORT_SCHEDULE_ATTEMPTS),) * count
    invalid = body.get("num_invalid_entries", 0)
    if not isinstance(invalid, int) or invalid <= 0:
        return (Delivered(),) * count
    named = _named(sealed, body.get("invalid_entry_samples"))
    rest: Outcome = Divide("an invalid entry that Meta does not name") if invalid > len(named) else Delivered()
    return tuple(named.get(index, rest) for index in range(count))


def _named(sealed: SealedBatch, samples: object) -> dict[int, Outcome]:
    """Rows that the samples name: each key is a row as it was sent, in JSON, its value why it was refused."""
    if not isinstance(samples, dict):
        return {}
    _, rows = rows_of([record.identifiers for record in sealed.records])
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        places[tuple(row)].append(index)
    named: dict[int, Outcome] = {}
    for key, reason in samples.items():
        try:
            row = msgspec.json.decode(key, type=list[str])
        except msgspec.DecodeError:
            continue
        for index in places.get(tuple(row), ()):
            named[index] = Permanent(f"Meta refuses the entry: {_known(reason)}")
    return named


def _known(reason: object) -> str:
    """Meta's reasons are short phrases; anything longer might repeat what was sent."""
    text = reason if isinstance(reason, str) else ""
    return text if 0 < len(text) <= 60 and text.replace(" ", "").isalpha() else "invalid entry"

"""From an attempt to the sync log's lines: records that fared alike share one, and each can be found by its user.

A record is kept as USER_BYTES of the SHA-256 of its user's id, then its verb: enough to find a user that somebody
names, nothing to learn one from. Where the sync says `log_pii`, the ids themselves are kept beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from actors.delivery.changes import Change
from actors.delivery.instructions import Dead, Rest
from actors.delivery.rows import Attempted, LogRow
from destinations.outcomes import Delivered, Outcome, Skipped
from destinations.records import Record, Verb

#: 2 of 10 million users share them with a chance of 1 in 400,000.
USER_BYTES: Final = 8
_RECORD_BYTES: Final = USER_BYTES + 1
_VERBS: Final[Mapping[Verb, bytes]] = {"add": b"+", "remove": b"-"}
#: Lines an attempt makes of one outcome; whatever reasons come after share the last.
REASONS_MAX: Final = 20
OTHER_REASONS: Final = "other reasons, see the response"
#: Records that one line shows.
SHOWN_RECORDS_MAX: Final = 1_000

_pack_names = msgspec.msgpack.Encoder().encode
_unpack_names = msgspec.msgpack.Decoder(list[str]).decode


def user_key(user: str) -> bytes:
    """Give what stands for a user in the log."""
    return hashlib.sha256(user.encode()).digest()[:USER_BYTES]


class Lines:
    """The lines of one attempt (or of changes that came to none), in the making."""

    def __init__(self, batch_id: str, attempt: int, attempted: Attempted | None, now_ms: int, *, names: bool) -> None:
        self.rows: list[LogRow] = []
        self._batch_id = batch_id
        self._attempt = attempt
        self._attempted = attempted
        self._now_ms = now_ms
        self._names = names

    def add(
        self, outcome: str, records: Sequence[tuple[str, Verb]], reason: str = "", *, batch_id: str = ""
    ) -> None:
        """Add a line for records `(user, verb)`; none where there are none."""
        if not records:
            return
        attempted = self._attempted
        self.rows.append(
            LogRow(
                self._now_ms, batch_id or self._batch_id, len(records), outcome,
                None if attempted is None else attempted.status, self._attempt,
                None if attempted is None else attempted.latency_ms, reason,
                sum(verb == "remove" for _, verb in records),
                "" if attempted is None else attempted.request_id,
                "" if attempted is None else "; ".join(attempted.notes),
                "changes",
                b"".join([user_key(user) + _VERBS[verb] for user, verb in records]),
                _pack_names([user for user, _ in records]) if self._names else b"",
            )
        )  # fmt: skip

    def add_by_reason(
        self, outcome: str, records: Iterable[tuple[str, Verb, str]], *, batch_id: str = ""
    ) -> None:
        """Add a line for each reason of records `(user, verb, reason)`."""
        found: dict[str, list[tuple[str, Verb]]] = {}
        for user, verb, reason in records:
            known = reason in found or len(found) < REASONS_MAX - 1
            found.setdefault(reason if known else OTHER_REASONS, []).append((user, verb))
        for reason, alike in found.items():
            self.add(outcome, alike, reason, batch_id=batch_id)

    def add_outcomes(
        self, records: Sequence[Record], outcomes: Sequence[Outcome], dead: Dead, rests: Sequence[Rest], reason: str
    ) -> list[Record]:
        """Add what became of a batch: `dead` records, those that go on in `rests`, and the others, which are done.

        `reason` is that of records whose own outcome has none. Gives the records that arrived.
        """
        assert len(records) == len(outcomes), "one outcome per record"
        gone = {*dead.indexes, *(index for rest in rests for index in rest.kept)}
        done = [index for index in range(len(records)) if index not in gone]
        skipped = [index for index in done if isinstance(outcomes[index], Skipped)]
        if skipped:
            left = set(skipped)
            done = [index for index in done if index not in left]
        why = _reasons(outcomes, reason)
        arrived = [records[index] for index in done]
        self.add("delivered", [(record.user_id, record.verb) for record in arrived])
        self.add_by_reason("skipped", _with_reasons(records, skipped, why))
        self.add_by_reason("dead", _with_reasons(records, dead.indexes, why))
        for rest in rests:
            self.add_by_reason(rest.outcome, _with_reasons(records, rest.kept, why), batch_id=rest.id)
        return arrived

    def add_all(self, outcome: str, records: Sequence[Record], outcomes: Sequence[Outcome], reason: str) -> None:
        """Add every record of a batch under one outcome, each with its own reason."""
        self.add_by_reason(outcome, _with_reasons(records, range(len(records)), _reasons(outcomes, reason)))


def verb_of(change: Change) -> Verb:
    """Give what a change would have been as a record."""
    return "add" if change.kind == "entered" else "remove"


def shown_records(row: LogRow, user: str) -> tuple[list[dict[str, Any]], int]:
    """Give a line's records as people see them and how many are left out; with `user` that one's alone."""
    wanted = user_key(user) if user else b""
    names = _unpack_names(row.names) if row.names else None
    shown: list[dict[str, Any]] = []
    left_out = 0
    for index, at in enumerate(range(0, len(row.users), _RECORD_BYTES)):
        key = row.users[at : at + USER_BYTES]
        if wanted and key != wanted:
            continue
        if len(shown) >= SHOWN_RECORDS_MAX:
            left_out += 1
            continue
        verb = "remove" if row.users[at + USER_BYTES : at + _RECORD_BYTES] == b"-" else "add"
        named = {} if names is None else {"user": names[index]}
        shown.append({"user_sha256": key.hex(), **named, "verb": verb})
    return shown, left_out


def _with_reasons(
    records: Sequence[Record], indexes: Sequence[int], why: Callable[[int], str]
) -> Iterable[tuple[str, Verb, str]]:
    return ((records[index].user_id, records[index].verb, why(index)) for index in indexes)


def _reasons(outcomes: Sequence[Outcome], otherwise: str) -> Callable[[int], str]:
    def why(index: int) -> str:
        outcome = outcomes[index]
        return otherwise if isinstance(outcome, Delivered) else outcome.reason or otherwise

    return why

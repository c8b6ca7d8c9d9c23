"""What becomes of an answered batch: finished, kept whole for another attempt, or in parts."""

from __future__ import annotations

from actors.delivery.dividing import Verdict, Why
from actors.delivery.ids import part_id
from actors.delivery.instructions import Dead, Defer, Rest, Settle, Split
from actors.delivery.outbox import Outbox, OutboxBatch, stretches
from destinations.outcomes import Credentials, Gone


def conclude(
    outbox: Outbox, batch: OutboxBatch, verdict: Verdict, stop: Credentials | Gone | None, next_ms: int
) -> Settle | Defer | Split:
    """Bring the outbox up to date and say what the shell must write. What goes on is tried again at `next_ms`."""
    dead = _dead(outbox, batch, verdict)
    if not verdict.groups:
        outbox.finish(batch)
        return Settle(batch.id, batch.attempts, verdict.delivered, verdict.skipped, dead)
    outcome = _failure_word(stop)
    why, first = verdict.groups[0]
    if len(first) == len(batch.users) and why != "half":
        if why == "resend":
            batch.attempts, next_ms, outcome = batch.attempts - 1, 0, "resend"
        batch.next_attempt_ms = next_ms
        return Defer(batch.id, batch.attempts, batch.first_attempt_ms, next_ms, outcome, verdict.reason)
    places = stretches(batch.order, batch.span, len(verdict.groups))
    parts = tuple(
        _rest(batch, index, place, why, kept, next_ms, outcome)
        for index, (place, (why, kept)) in enumerate(zip(places, verdict.groups, strict=True))
    )
    outbox.replace(
        batch,
        [
            OutboxBatch(
                part.id, part.order, tuple(batch.users[index] for index in part.kept), "sealing", part.attempts,
                batch.first_attempt_ms, part.next_attempt_ms, part.span,
            )
            for part in parts
        ],
    )  # fmt: skip
    return Split(
        batch.id, batch.attempts, parts, verdict.delivered, verdict.skipped, dead, batch.first_attempt_ms,
        verdict.reason,
    )  # fmt: skip


def _rest(
    batch: OutboxBatch, index: int, place: tuple[int, int], why: Why, kept: tuple[int, ...], next_ms: int, outcome: str
) -> Rest:
    """Give a part. What did not fail itself goes at once: its attempt is not counted, and halves start anew."""
    id_ = part_id(batch.id, f"rest {index}")
    if why == "again":
        return Rest(id_, *place, kept, batch.attempts, next_ms, outcome)
    return Rest(id_, *place, kept, batch.attempts - 1 if why == "resend" else 0, 0, "divided")


def _dead(outbox: Outbox, batch: OutboxBatch, verdict: Verdict) -> Dead:
    """Say which dead records have a newer change of their user sealed already: here or in a later batch."""
    if not verdict.dead:
        return Dead()
    dead = set(verdict.dead)
    alive_later: set[str] = set()
    superseded = set()
    for index in range(len(batch.users) - 1, -1, -1):
        user = batch.users[index]
        if index not in dead:
            alive_later.add(user)
        elif user in alive_later or outbox.has_later(batch, user):
            superseded.add(index)
    return Dead(verdict.dead, frozenset(superseded), verdict.dead_reason)


def _failure_word(stop: Credentials | Gone | None) -> str:
    if stop is None:
        return "retry"
    return "disabled" if isinstance(stop, Gone) else "credentials"

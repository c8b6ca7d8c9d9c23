"""What must hold after chaos: each check by itself, from what was sent, answered, logged and received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pyarrow as pa

from benchmarks.chaos.clients import Record
from benchmarks.chaos.logs import Logged, Reference, by_pair, comparable, sampled
from benchmarks.chaos.story import SYNCS
from benchmarks.receiver import Delivery, is_signed
from benchmarks.results import Check
from cluster.model.transitions import transition_id
from destinations.times import iso_ms

#: Faults shown of each check.
_SHOWN_MAX: Final = 3
#: Events beyond which the reference evaluator goes through the log for a part of all users only.
_REFERENCE_EVENTS_MAX: Final = 8_000


def holds(name: str, faults: Iterable[str]) -> Check:
    """Make a check of the faults found: none may be."""
    found = list(faults)
    shown = "; ".join(found[:_SHOWN_MAX])
    return Check(name, not found, f"{len(found)}: {shown}" if found else "")


# --- what clients were told ------------------------------------------------------------------------------


def of_clients(record: Record) -> list[Check]:
    """Check answers: all came, none was wrong."""
    unanswered = [f"{record.given_up} events were not taken"] if record.given_up else []
    return [
        holds("every request was acknowledged at last", unanswered),
        holds("answers, refusals and look-ups were as they must be", record.faults),
    ]


def of_membership(
    found: Mapping[str, Mapping[str, bool]], before: set[tuple[str, str]], after: set[tuple[str, str]]
) -> Check:
    """Check what the API says of everybody: what the reference says just before the question and just after it."""

    def wrong() -> Iterable[str]:
        for user, audiences in found.items():
            for audience, is_member in audiences.items():
                allowed = {(audience, user) in before, (audience, user) in after}
                if is_member not in allowed:
                    yield f"{user} in {audience}: {is_member}"

    return holds(f"membership of {len(found):,} users is the reference evaluator's", wrong())


# --- what was logged -------------------------------------------------------------------------------------


def of_logs(
    logs: Sequence[Logged], record: Record, accepted: int, reference: Reference, snapshots: Mapping[str, pa.Table],
    until_ms: int,
) -> list[Check]:  # fmt: skip
    """Check logs: every acknowledged event, every transition that follows from them and no other."""
    acknowledged = {row["properties"]["mark"]: row for row in record.rows}
    logged = set().union(*(set(one.marks) for one in logs))
    lost = sorted(set(acknowledged) - logged)
    share = min(1.0, _REFERENCE_EVENTS_MAX / max(1, len(acknowledged)))
    # An event that two models take is counted once a model.
    hits = len(acknowledged) + sum("gift_to" in row["properties"] for row in acknowledged.values())
    return [
        holds("every acknowledged event is logged",
              (f"event {mark} of {acknowledged[mark]['user_id']}" for mark in lost)),
        holds("no event was counted twice, none not at all",
              [] if accepted == hits else [f"{accepted} were accepted, {hits} acknowledged"]),
        holds(f"transitions of {share:.0%} of all users are the reference evaluator's, to the ms",
              _unlike(logs, reference, snapshots, share, until_ms)),
        holds("transition ids are unique, kinds alternate", _disorder(logs)),
    ]  # fmt: skip


def _unlike(
    logs: Sequence[Logged], reference: Reference, snapshots: Mapping[str, pa.Table], share: float, until_ms: int
) -> Iterable[str]:
    chosen = sampled(share)
    for index, logged in enumerate(logs):
        own = {each["user_id"] for each in logged.transitions}
        expected = Counter(reference.transitions(logged, snapshots, chosen, until_ms))
        found = Counter(
            comparable(each) for each in logged.transitions if each["at"] <= until_ms and chosen(each["user_id"])
        )
        # An event of two users is in the logs of both evaluators, each of which keeps to its own.
        for missing in (expected - found).elements():
            if missing[2] in own:
                yield f"evaluator-{index} lacks {missing}"
        for extra in (found - expected).elements():
            yield f"evaluator-{index} has {extra}"


def _disorder(logs: Sequence[Logged]) -> Iterable[str]:
    ids: set[str] = set()
    for (user, audience), history in by_pair(logs):
        for place, each in enumerate(history):
            id_ = id_of(each)
            if id_ in ids:
                yield f"{user}, {audience}: {id_} twice"
            ids.add(id_)
            if each["kind"] != ("entered", "exited")[place % 2]:
                yield f"{user}, {audience}: {each['kind']} at {each['at']} does not alternate"


def id_of(each: Mapping[str, Any]) -> str:
    """Give the id that a transition must have."""
    return transition_id(each["audience_id"], each["audience_version"], each["user_id"], each["at"], each["n"])


# --- what was received -----------------------------------------------------------------------------------


def of_deliveries(deliveries: Sequence[Delivery], secret: str, logs: Sequence[Logged]) -> list[Check]:
    """Check what the receiver was sent: signed, under the same ids, in order, complete."""
    unsigned = [delivery.header("webhook-id") for delivery in deliveries if not is_signed(delivery, secret)]
    taken = _first_of_each(deliveries)
    checks = [
        holds(f"every one of {len(deliveries):,} webhook requests is signed", unsigned),
        holds("a repeated request has the same bytes, and no transition is in two", _renamed(deliveries)),
    ]
    for sync, audience in SYNCS.items():
        changes = [change for body in taken if body["sync"] == sync for change in body["changes"]]
        checks.append(holds(f"sync {sync}: the receiver has the members of {audience}", _off(changes, audience, logs)))
        checks.append(holds(f"sync {sync}: changes of a user come in order", _out_of_order(changes)))
        if sync != "net":
            checks.append(holds(f"sync {sync}: every change was delivered", _missing(changes, audience, logs)))
    return checks


def _first_of_each(deliveries: Sequence[Delivery]) -> list[dict[str, Any]]:
    bodies: dict[str, bytes] = {}
    for delivery in deliveries:
        bodies.setdefault(delivery.header("webhook-id"), delivery.body)
    return [msgspec.json.decode(body) for body in bodies.values()]


def _renamed(deliveries: Sequence[Delivery]) -> Iterable[str]:
    bodies: dict[str, bytes] = {}
    under: dict[tuple[str, str], str] = {}
    for delivery in deliveries:
        batch = delivery.header("webhook-id")
        if bodies.setdefault(batch, delivery.body) is not delivery.body:
            if bodies[batch] != delivery.body:
                yield f"{batch} has two bodies"
            continue
        body = msgspec.json.decode(delivery.body)
        for change in body["changes"]:
            if under.setdefault((body["sync"], change["transition_id"]), batch) != batch:
                yield f"{change['transition_id']} is in {batch} too"


def _off(changes: Sequence[Mapping[str, Any]], audience: str, logs: Sequence[Logged]) -> Iterable[str]:
    known = {change["user_id"]: change["kind"] for change in changes}
    for (user, name), history in by_pair(logs):
        if name == audience and known.get(user, "exited") != history[-1]["kind"]:
            yield f"{user} has {history[-1]['kind']}, the receiver has {known.get(user)}"
        if name == audience:
            known.pop(user, None)
    for user in known:
        yield f"{user} was never in {audience}"


def _missing(changes: Sequence[Mapping[str, Any]], audience: str, logs: Sequence[Logged]) -> Iterable[str]:
    known = {change["transition_id"]: change for change in changes}
    for (user, name), history in by_pair(logs):
        for each in history if name == audience else ():
            change = known.get(id_of(each))
            if change is None or (change["at"], change["kind"]) != (iso_ms(each["at"]), each["kind"]):
                yield f"{user} {each['kind']} at {each['at']} came as {change}"


def _out_of_order(changes: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    newest: dict[str, tuple[str, int]] = {}
    for change in changes:
        moment = (change["at"], change["n"])
        if moment <= newest.get(change["user_id"], ("", 0)):
            yield f"{change['user_id']}: {moment} after {newest[change['user_id']]}"
        newest[change["user_id"]] = max(moment, newest.get(change["user_id"], ("", 0)))

"""What must hold of every run. Each checker is independent of the others, and of how Usher works inside.

They compare what clients were told, what the logs durably hold, what the reference evaluator makes of that, and what
receivers were sent.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from cluster.model.partitions import partition_of
from cluster.model.transitions import transition_id
from cluster.wire.envelope import unpack
from tests.simulation.clients import Seen
from tests.simulation.history import History
from tests.simulation.oracle import reference_transitions
from tests.simulation.workload import PARTITIONS
from tests.simulation.world import Run

#: A fault found: what, and about which user (empty: about no one in particular).
Found: TypeAlias = tuple[str, str]
Transition: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Violation:
    """A law that a run broke: the checker's name, what is wrong, and the user whose story shows it."""

    checker: str
    message: str
    user: str = ""

    def __str__(self) -> str:
        return f"{self.checker}: {self.message}"


def check(run: Run) -> list[Violation]:
    """Give every violation of every checker."""
    return [
        Violation(checker.__name__, message, user)
        for checker in CHECKERS
        for message, user in checker(run)
    ]


def nothing_broke(run: Run) -> Iterator[Found]:
    """No part failed for a reason that faults do not excuse."""
    for breakage in run.breakages:
        yield breakage, ""


def came_to_rest(run: Run) -> Iterator[Found]:
    """Once faults are over, everything is answered, evaluated and delivered."""
    if run.restless:
        yield run.restless, ""


def log_in_order(run: Run) -> Iterator[Found]:
    """A log's entries and transitions have each number once, and clocks that never go back."""
    for index, history in run.truth.histories.items():
        for fault in history.faults:
            yield f"evaluator-{index}: {fault}", ""


def nothing_silent(run: Run) -> Iterator[Found]:
    """Every request was answered, refusals say when to try again, and answers account for every event."""
    for sent in run.sent:
        user = sent.request.rows[0]["user_id"]
        for fault in sent.faults:
            yield fault, user
        if not run.restless and not sent.acknowledged and not sent.faults:
            yield f"the request of {sent.request.at_s:.3f} s was never answered", user


def acknowledged_is_logged(run: Run) -> Iterator[Found]:
    """Every event of a request answered with 200 is in the log of each evaluator that owns a user of it at last."""
    logged = {index: set(_marks(history)) for index, history in run.truth.histories.items()}
    for sent in run.sent:
        for row in sent.request.rows if sent.acknowledged else ():
            mark = row["properties"]["mark"]
            gifted = row["properties"].get("gift_to") if row["event"] == "order" else None
            for user in filter(None, (row["user_id"], gifted)):
                owner = run.truth.owner_of(user)
                if mark not in logged[owner]:
                    yield f"{row['event']}/{mark} of {user} is not in the log of evaluator-{owner}", user


def membership_is_the_references(run: Run) -> Iterator[Found]:
    """Transitions are, to the ms, number and cause, what the reference evaluator makes of the logged inputs."""
    if run.restless or any(history.faults for history in run.truth.histories.values()):
        return  # said already: what cannot be read in order cannot be compared
    for tenure in filter(lambda tenure: tenure.began, run.truth.tenures):
        index, history = tenure.index, tenure.history
        until_ms = run.until_ms if history.until_ms is None else history.until_ms
        made = reference_transitions(history, run.snapshots, tenure.partitions, until_ms)
        expected = [each for each in made if each[0] > history.from_ms]
        found = [
            _comparable(each) for each in run.truth.own(tenure)
            if each["at"] <= until_ms and each["committed_s"] <= run.until_s
        ]  # fmt: skip
        for missing in sorted(set(expected) - set(found)):
            yield f"evaluator-{index} lacks {_shown(missing)}", missing[2]
        for extra in sorted(set(found) - set(expected)):
            yield f"evaluator-{index} has {_shown(extra)}", extra[2]


#: As many transitions are dropped at once at least; plans have fewer where they are to be.
ROWS_MIN: Final = 200_000


def what_was_taken_over_is_whole(run: Run) -> Iterator[Found]:
    """An heir has every transition of its users that others made, and no other.

    Of what was dropped before, it has the last of each user and audience that was left inside.
    """
    drops = run.plan.tightness.rows_a_ledger < ROWS_MIN
    for tenure in run.truth.tenures:
        from_ms = tenure.history.from_ms
        if not from_ms:
            continue
        before = Counter(
            _comparable(each)
            for other in run.truth.tenures if other.index < tenure.index and other.began
            for each in run.truth.own(other)
            if each["at"] <= from_ms and partition_of(each["user_id"], PARTITIONS) in tenure.partitions
        )  # fmt: skip
        taken = Counter(_comparable(each) for each in run.truth.transitions[tenure.index] if each["at"] <= from_ms)
        for missing in (before - taken).elements():
            if drops and _is_what_a_ledger_left(_of_pair(taken, missing), _of_pair(before, missing)):
                continue
            yield f"evaluator-{tenure.index} did not take over {_shown(missing)}", missing[2]
        for extra in (taken - before).elements():
            yield f"evaluator-{tenure.index} took over what was not: {_shown(extra)}", extra[2]


def _of_pair(transitions: Counter[tuple[Any, ...]], one: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Give those of one transition's user and audience, in order."""
    return sorted((each for each in transitions if each[1:3] == one[1:3]), key=lambda each: (each[0], each[3]))


def _is_what_a_ledger_left(taken: list[tuple[Any, ...]], whole: list[tuple[Any, ...]]) -> bool:
    """Whether it is all after some place, and the one before it where that is an entry."""
    return any(
        taken == [*(each for each in whole[place - 1 : place] if place and each[4] == "entered"), *whole[place:]]
        for place in range(len(whole) + 1)
    )


def transitions_alternate(run: Run) -> Iterator[Found]:
    """Ids are unique; for one user and audience kinds alternate, starting with `entered`, and (at, n) grows."""
    ids: set[str] = set()
    for (user, audience), history in run.truth.by_pair.items():
        for place, each in enumerate(history):
            id_ = _id(each)
            if id_ in ids:
                yield f"{each['kind']} {audience} at {each['at']} has the id of another transition", user
            ids.add(id_)
            if each["kind"] != ("entered", "exited")[place % 2]:
                yield f"{audience}: {each['kind']} at {each['at']} does not alternate", user
            before = history[place - 1] if place else None
            if before is not None and (each["at"], each["n"]) <= (before["at"], before["n"]):
                yield f"{audience}: ({each['at']}, {each['n']}) follows ({before['at']}, {before['n']})", user


def reads_are_right(run: Run) -> Iterator[Found]:
    """A look-up sees all that was answered before it was asked, and what was due by then; nothing that is not yet.

    One that says that its evaluator is away sees what was due when that was last heard of.
    """
    if run.restless:
        return
    # Where a clock is set back, what was due by it before was not yet due by the evaluator's, which has not moved.
    steady = all(fault.kind != "clock" or fault.value > 0 for fault in run.plan.faults)
    for seen in run.seen:
        allowed = {False}
        known = steady and not any(_has_unseen(history, seen) for history in run.truth.histories.values())
        for each in run.truth.by_pair.get((seen.read.user, seen.read.audience), ()):
            member = each["kind"] == "entered"
            by_ms = seen.asked_ms if seen.as_of_ms is None else min(seen.as_of_ms, seen.asked_ms)
            due = known and each["cause"] == "time" and each["at"] <= by_ms
            if due or (each["shown_s"] is not None and each["shown_s"] <= seen.asked_s):
                allowed = {member}
            elif each["committed_s"] <= seen.answered_s:
                allowed.add(member)
        if seen.is_member not in allowed:
            answer = f"{seen.read.audience} at {seen.answered_s:.3f} s read as {seen.is_member}"
            yield answer, seen.read.user


def _has_unseen(history: History, seen: Seen) -> bool:
    """Say whether the log had entries that nobody had been told of: its process died between commit and answer.

    What those make due is known once they are read again.
    """
    return any(
        at_s > seen.asked_s and entry.clock_ms <= seen.asked_ms
        for entry, at_s in zip(history.entries, history.entries_s, strict=True)
    )


def destination_has_the_membership(run: Run) -> Iterator[Found]:
    """At rest a receiver has, of each sync, exactly the members that the logs have."""
    if run.restless:
        return
    for sync, audience in _syncs(run).items():
        members = {change["user_id"]: change["kind"] for change in _first_taken(run, sync)}
        for (user, name), history in run.truth.by_pair.items():
            if name == audience and members.get(user, "exited") != history[-1]["kind"]:
                yield f"{sync}: {audience} is {history[-1]['kind']} but the receiver has {members.get(user)}", user
        for user in sorted(members):
            if (user, audience) not in run.truth.by_pair:
                yield f"{sync}: the receiver has heard of {user}, the logs have not", user


def every_change_is_delivered(run: Run) -> Iterator[Found]:
    """A sync of changes delivers every transition since its start (the members of then first), under its own id.

    Of a pause it delivers the net, once per user.
    """
    if run.restless:
        return
    audience = _syncs(run)["changes"]
    paused = {name for _, _, name in run.plan.pauses}
    taken: dict[str, list[str]] = defaultdict(list)
    for change in _first_taken(run, "changes"):
        taken[change["user_id"]].append(change["transition_id"])
    for (user, name), history in run.truth.by_pair.items():
        if name != audience:
            continue
        first = run.truth.first_owner_of(user)
        start, last = run.sync_starts.get(("changes", first), 0), run.truth.histories[first].until_ms
        expected = [_id(each) for each in history]
        skipped = len(expected) - len(taken[user])
        # What was before the start and came to nothing by then need not be told: an even number from the front.
        may_skip = sum(each["seq"] <= start for each in history if last is None or each["at"] <= last)
        whole = taken[user] == expected[max(0, skipped) :] and skipped <= may_skip
        # Nor what came to nothing in a pause, wherever that was.
        netted = audience in paused and _is_part_of(taken[user], expected)
        if not (whole or netted) or skipped % 2:
            yield f"{audience}: of {len(expected)} transitions the receiver has {len(taken[user])}", user


def order_per_user(run: Run) -> Iterator[Found]:
    """What a receiver sees of a user for the first time comes in the order of the user's transitions."""
    for sync in _syncs(run):
        newest: dict[str, tuple[str, int]] = {}
        for change in _first_taken(run, sync):
            moment = (change["at"], change["n"])
            before = newest.get(change["user_id"], ("", 0))
            if moment <= before:
                yield f"{sync}: {change['kind']} at {moment} arrived after {before}", change["user_id"]
            newest[change["user_id"]] = max(moment, before)


def same_id_same_body(run: Run) -> Iterator[Found]:
    """A webhook is signed; under one id there is one body, and a transition is in one message alone."""
    for sync in _syncs(run):
        receiver = run.receivers[f"{sync}-hook"]
        for fault in receiver.faults:
            yield f"{sync}: {fault}", ""
        bodies: dict[str, bytes] = {}
        messages: dict[str, str] = {}
        for taken in receiver.taken:
            changes = taken.changes
            if bodies.setdefault(taken.id, taken.body) != taken.body:
                yield f"{sync}: {taken.id} has two bodies", changes[0]["user_id"]
            for change in changes:
                if messages.setdefault(change["transition_id"], taken.id) != taken.id:
                    yield f"{sync}: one transition is in {taken.id} and in another message", change["user_id"]


CHECKERS: Final[tuple[Callable[[Run], Iterator[Found]], ...]] = (
    nothing_broke,
    came_to_rest,
    log_in_order,
    nothing_silent,
    acknowledged_is_logged,
    membership_is_the_references,
    what_was_taken_over_is_whole,
    transitions_alternate,
    reads_are_right,
    destination_has_the_membership,
    every_change_is_delivered,
    order_per_user,
    same_id_same_body,
)


def _marks(history: History) -> Iterator[int]:
    for entry in history.entries:
        if entry.kind == "batch":
            for raw in unpack(entry.payload).column("raw").to_pylist():
                yield json.loads(raw)["properties"]["mark"]


def _first_taken(run: Run, sync: str) -> Iterator[Transition]:
    """The changes of each message, as it was taken for the first time."""
    known: set[str] = set()
    for taken in run.receivers[f"{sync}-hook"].taken:
        if taken.id not in known:
            known.add(taken.id)
            yield from taken.changes


def _is_part_of(part: list[str], whole: list[str]) -> bool:
    rest = iter(whole)
    return all(id_ in rest for id_ in part)


def _syncs(run: Run) -> Mapping[str, str]:
    return {sync["id"]: sync["audience"] for sync in run.plan.documents[0][1]["syncs"]}


def _id(each: Transition) -> str:
    return transition_id(each["audience_id"], each["audience_version"], each["user_id"], each["at"], each["n"])


def _comparable(each: Transition) -> tuple[Any, ...]:
    return (
        each["at"], each["audience_id"], each["user_id"], each["n"], each["kind"], each["cause"],
        each["audience_version"],
    )  # fmt: skip


def _shown(compared: tuple[Any, ...]) -> str:
    at, audience, user, n, kind, cause, version = compared
    return f"{user} {kind} {audience} (version {version}) at {at}, n {n}, by {cause}"

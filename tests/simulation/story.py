"""The story of one user in one run: what was sent, logged, made of it and delivered, between which faults."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import xxhash

from cluster.wire.envelope import unpack
from tests.conftest import START_MS
from tests.simulation.checkers import Violation
from tests.simulation.plans import Plan
from tests.simulation.runner import run_plan
from tests.simulation.shrinking import SHRINK_S, shrink
from tests.simulation.world import Happening, Run

#: What may be tried for minutes, and how many of the first and of the last tries are told.
_TRIED_AGAIN: Final = ("sends", "is answered", "cannot start")
_TRIES_TOLD: Final = 2


def told(run: Run, violation: Violation | None = None) -> str:
    """Give the story of a violation's user (of everybody without one), in order of virtual time."""
    user = violation.user if violation is not None else ""
    lines = [*_happenings(run, user), *_log(run, user), *_transitions(run, user)]
    body = "\n".join(_without_repetition(sorted(lines, key=lambda each: each.at_s)))
    whose = f"the story of {user}" if user else "the story"
    head = f"{violation}\n\n" if violation is not None else ""
    return f"{head}{_setting(run.plan)}\n{whose} (virtual seconds, clocks count from the beginning):\n{body}"


def _without_repetition(lines: Sequence[Happening]) -> Iterator[str]:
    """Write the lines; of what is tried again and again, the first and the last few tries are enough."""
    keys = [(each.where, each.what, each.about.partition(" (attempt")[0]) for each in lines]
    times, told_of = Counter(keys), Counter[tuple[str, str, str]]()
    for each, key in zip(lines, keys, strict=True):
        told_of[key] += 1
        if each.what in _TRIED_AGAIN and _TRIES_TOLD < told_of[key] <= times[key] - _TRIES_TOLD:
            if told_of[key] == _TRIES_TOLD + 1:
                yield f"  {'...':>11}  {each.where:<13} {each.what} {key[2]}, {times[key] - 2 * _TRIES_TOLD} times more"
            continue
        yield f"  {each.at_s:9.3f} s  {each.where:<13} {each.what} {each.about}".rstrip()


def smallest_story(plan: Plan, first: Violation, *, seconds: float = SHRINK_S) -> str:
    """Make a failing plan smaller, run it once more, and tell its story."""
    result = run_plan(shrink(plan, first.checker, seconds=seconds), telling=True)
    return told(result.run, next((each for each in result.violations if each.checker == first.checker), first))


def digest(run: Run) -> str:
    """Give a number for everything that can be seen of a run: equal where the runs were the same."""
    parts: list[object] = [run.virtual_s, run.restless, sorted(run.counts.items())]
    for history in run.truth.histories.values():
        parts += [history.entries_s, history.committed_s, history.shown_s, len(history.blocks)]
    parts += run.truth.transitions.values()
    for receiver in run.receivers.values():
        parts += [(taken.at_s, len(taken.body)) for taken in receiver.taken]
    parts += [(sent.statuses, sent.document) for sent in run.sent]
    parts += [(seen.answered_s, seen.is_member) for seen in run.seen]
    return xxhash.xxh3_64_hexdigest(repr(parts).encode())


def _setting(plan: Plan) -> str:
    audiences = "\n".join(
        f"  {each['id']}: {json.dumps(each['where'])}" for _, document in plan.documents[:1]
        for each in document["audiences"]
    )  # fmt: skip
    return (
        f"seed {plan.seed}: {plan.evaluators} evaluators on {plan.medium} logs, {len(plan.requests)} requests, "
        f"{len(plan.faults)} faults; audiences:\n{audiences}"
    )


def _happenings(run: Run, user: str) -> Iterator[Happening]:
    for each in run.story:
        if not each.users or not user or user in each.users:
            yield each


def _log(run: Run, user: str) -> Iterator[Happening]:
    for index, history in run.truth.histories.items():
        for entry, at_s in zip(history.entries, history.entries_s, strict=True):
            about = f"entry {entry.seq} at clock {_clock(entry.clock_ms)}"
            if entry.kind == "batch":
                rows = [json.loads(raw) for raw in unpack(entry.payload).column("raw").to_pylist()]
                own = [row for row in rows if user in ("", row["user_id"], row["properties"].get("gift_to"))]
                shown = " ".join(f"{row['event']}/{row['properties']['mark']}" for row in own)
                about = f"{shown} ({about})" if own else ""
            elif entry.kind != "tick":
                about = f"{entry.kind} ({about})"
            if about:
                yield Happening(at_s, "logs", f"evaluator-{index}", about, frozenset())


def _transitions(run: Run, user: str) -> Iterator[Happening]:
    for index, transitions in run.truth.transitions.items():
        for each in transitions:
            if user in ("", each["user_id"]):
                about = f"{each['user_id']} {each['kind']} {each['audience_id']} at {_clock(each['at'])}, n {each['n']}"
                how = f"by {each['cause']} (transition {each['seq']})"
                yield Happening(each["committed_s"], "commits", f"evaluator-{index}", f"{about}, {how}", frozenset())


def _clock(at_ms: int) -> str:
    return f"{(at_ms - START_MS) / 1000:+.3f} s"

"""Questions to the machine, as of its clock: who is in what, since when and how long, who all are in."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.evaluator.changes import next_change_ms
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.stimuli import Lookup, MembersPage

Reply = dict[str, Any]


def lookup(machine: EvaluatorMachine, question: Lookup, through_seq: int) -> Reply:
    """Answer a look-up; `machine` knows all of its audiences.

    `since` is in the log alone: with `detail` the shell adds it (stored.with_since), as of transition `through_seq`.
    """
    reply: Reply = {
        "as_of": machine.clock_ms,
        "members": [[machine.is_member(a, user) for a in question.audiences] for user in question.users],
    }
    if question.detail:
        reply["through_seq"] = through_seq
        reply["details"] = [
            [_detail(machine, audience, user) for audience in question.audiences] for user in question.users
        ]
    return reply


def _detail(machine: EvaluatorMachine, audience: str, user: str) -> Reply:
    index = machine.program.audience_index[audience]
    return {
        "since": None,
        "changes_at": next_change_ms(machine, audience, user),
        "version": machine.program.audience_versions[index],
    }


def members_page(machine: EvaluatorMachine, question: MembersPage) -> Reply:
    """Give a page of an audience's members."""
    slots = machine.members(question.audience)
    start = int(np.searchsorted(slots, int(question.cursor or 0)))
    page = slots[start : start + question.limit]
    more = start + len(page) < len(slots)
    return {
        "members": machine.user_keys(page).to_pylist(),
        "cursor": str(int(page[-1]) + 1) if more and len(page) else None,
        # While a wave of due changes is worked off, the list as a whole is as old as what is made of it.
        "as_of": min(machine.clock_ms, machine.settled_ms),
    }

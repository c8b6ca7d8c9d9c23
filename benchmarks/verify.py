"""Membership as the API gives it against what it must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.load import Sent
from benchmarks.results import Check
from benchmarks.shop import user_name
from cluster.client.asynchronous import AsyncClient
from cluster.limits import LOOKUP_PAIRS_MAX

#: Wrong answers shown; one is enough to fail.
_SHOWN_MAX = 5


async def wrong_memberships(
    client: AsyncClient, expected: Mapping[str, np.ndarray], users: np.ndarray
) -> list[tuple[str, str, bool]]:
    """Ask POST /api/v1/memberships for users times audiences; gives some wrong answers (audience, user, answer)."""
    audiences = list(expected)
    step = max(1, LOOKUP_PAIRS_MAX // len(audiences))
    wrong: list[tuple[str, str, bool]] = []
    for start in range(0, len(users), step):
        part = users[start : start + step].tolist()
        answers = await client.memberships([user_name(user) for user in part], audiences)
        wrong += [
            (audience, user_name(user), answers[user_name(user)][audience])
            for user in part
            for audience in audiences
            if answers[user_name(user)][audience] != bool(expected[audience][user])
        ]
    return wrong[:_SHOWN_MAX]


def all_answered(sent: Sequence[Sent]) -> Check:
    """Check that every request of some loads was answered with 200."""
    faulty = [one.statuses for one in sent if not one.all_ok]
    return Check("every request was answered 200", not faulty, f"statuses: {faulty}" if faulty else "")

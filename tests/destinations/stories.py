"""Seeded stories of who enters and leaves, for tests that end in one question: is the vendor's list the audience?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from destinations.records import Value

Change = tuple[str, bool, Mapping[str, Value]]


def waves(
    seed: int, users: int, rounds: int, raw: Callable[[int], Mapping[str, Value]]
) -> tuple[list[list[Change]], set[int]]:
    """Give rounds of changes and who is in at the end: first every user enters, later some leave and some come back.

    Within a round a user may change more than once, in order.
    """
    chance = random.Random(seed)
    inside: set[int] = set()

    def flips(number: int, times: int) -> Iterator[Change]:
        for _ in range(times):
            enters = number not in inside
            (inside.add if enters else inside.discard)(number)
            yield f"user_{number}", enters, raw(number)

    story = [[change for number in range(users) for change in flips(number, 1)]]
    for _ in range(rounds - 1):
        chosen = chance.sample(range(users), users // 3)
        story.append([change for number in chosen for change in flips(number, chance.choice((1, 1, 1, 2, 3)))])
    return story, inside

"""From the program table (program.py) to Python source: one function per kind of event, with no loop left in it.

A term of an audience holds from the last end of its negated leaves until the first end of the others (a leaf's end:
its n-th latest event plus its window; a trait test's: never, or always past). So a few additions settle membership
and give the next ms at which it can change by time alone.
"""

from __future__ import annotations

from typing import Any

#: Ends that never come, or are always past.
NEVER = 1 << 60
PAST = -NEVER


class Layout:
    """Places in a user's list: row, members and awaited dues by audience, trait tests, rings of times by leaf."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.audiences = len(table["audiences"])
        self.trait = 1 + 2 * self.audiences
        self.rings: list[int] = []
        place = self.trait + len(table["traits"])
        for leaf in table["leaves"]:
            self.rings.append(place)
            place += leaf["at_least"]
        self.size = place

    def member(self, audience: int) -> int:
        """Give the place of the membership."""
        return 1 + audience

    def due(self, audience: int) -> int:
        """Give the place of the due time that lies in the heap, NEVER without one."""
        return 1 + self.audiences + audience


def step_source(table: dict[str, Any], layout: Layout, name: str, leaves: list[int]) -> str:
    """Write the function for events that match these leaves: count them, settle the audiences that read them."""
    lines = [f"def {name}(u, t):"]
    for leaf in leaves:
        first, last = layout.rings[leaf], layout.rings[leaf] + table["leaves"][leaf]["at_least"] - 1
        lines += [f"    u[{place}] = u[{place + 1}]" for place in range(first, last)] + [f"    u[{last}] = t"]
    read = set(leaves) | {~leaf for leaf in leaves}
    for audience, entry in enumerate(table["audiences"]):
        if any(literal in read for term in entry["any"] for literal in term):
            lines += settle_lines(table, layout, audience)
    return "\n".join([*lines, "    return"])


def judge_source(table: dict[str, Any], layout: Layout, name: str, audience: int) -> str:
    """Write the function that settles one audience."""
    return "\n".join([f"def {name}(u, t):", *settle_lines(table, layout, audience)])


def settle_lines(table: dict[str, Any], layout: Layout, audience: int) -> list[str]:
    """Write what settles an audience of user `u` at `t`: `emit` its transition, put its due time in the heap."""
    member, due = layout.member(audience), layout.due(audience)
    lines = ["    h = 0", f"    n = {NEVER}"]
    for term in table["audiences"][audience]["any"]:
        ends = [_end(table, layout, literal) for literal in term if literal >= 0] or [str(NEVER)]
        begins = [_end(table, layout, ~literal) for literal in term if literal < 0] or [str(PAST)]
        lines.append(f"    e = {ends[0]}")
        for end in ends[1:]:
            lines += [f"    x = {end}", "    if x < e: e = x"]
        lines += ["    if e > t:", f"        b = {begins[0]}"]
        for begin in begins[1:]:
            lines += [f"        x = {begin}", "        if x > b: b = x"]
        lines += [
            "        if b <= t:", "            h = 1", "            if e < n: n = e",
            "        elif b < e and b < n: n = b",
        ]  # fmt: skip
    number = table["audiences"][audience]["number"]
    return [
        *lines,
        f"    if h != u[{member}]:",
        f"        u[{member}] = h",
        f"        emit((t, {number}, u[0], h))",
        f"    if n < u[{due}]:",
        f"        u[{due}] = n",
        f"        push(heap, n << 40 | u[0] << 8 | {audience})",
    ]


def _end(table: dict[str, Any], layout: Layout, leaf: int) -> str:
    counts = len(table["leaves"])
    if leaf >= counts:
        return f"u[{layout.trait + leaf - counts}]"
    return f"u[{layout.rings[leaf]}] + {table['leaves'][leaf]['within_ms']}"

"""The Python source of the yardstick: a record type, a function an event model and class of events, one a lapse.

A user is one record with slots. Of each distinct filter of an event model it holds the times of the latest matching
events, latest first, as many as some leaf asks for; of each audience its state, and where a count is negated the time
that is awaited. Times are ms since the start, so that they fit the interpreter's short integers.

A state is OUT, IN, or OTHER: for an audience of one count, "in, and its events are no longer those of the entry", so
that a lapse that finds IN need not look at times; for any audience of which a trait of the user's is not met, "never".
So a trait costs nothing per event, and times are complete whatever the traits are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cluster.definitions.model import All, Condition, EventCount, Filter, Not, TraitTest, Within

OUT, IN, OTHER = range(3)
#: A time before every window, and one that never comes.
PAST, NEVER = -(1 << 29), 1 << 29
#: A slot of the coarse wheel spans 2 ** SLOT_BITS ms; those of the one that is open are dealt to one list a ms.
SLOT_BITS = 8
SLOT_MASK = (1 << SLOT_BITS) - 1

#: What has one list of times: an event model and a filter.
Kind = tuple[str, Filter | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """An audience: `number` in the definitions, the count it asks for, one that must not be, tests of traits."""

    number: int
    count: EventCount
    unless: EventCount | None
    tests: tuple[TraitTest, ...]


def rule_of(number: int, condition: Condition) -> Rule:
    """Read an audience's condition; the workloads' are one count, at most one negated count, and traits."""
    nodes = condition.children if isinstance(condition, All) else (condition,)
    counts = [node for node in nodes if isinstance(node, EventCount)]
    negated = [node.child for node in nodes if isinstance(node, Not) and isinstance(node.child, EventCount)]
    tests = tuple(node for node in nodes if isinstance(node, TraitTest))
    assert len(counts) == 1
    assert len(negated) <= 1
    assert len(counts) + len(negated) + len(tests) == len(nodes)
    assert all(count.comparison == "at_least" for count in (*counts, *negated))
    return Rule(number, counts[0], negated[0] if negated else None, tests)


def kind_of(count: EventCount) -> Kind:
    """Give what a count counts, whatever its number and window."""
    return count.event, count.where


def duration_ms(count: EventCount) -> int:
    """Give a count's window."""
    assert isinstance(count.window, Within), "the workloads have no other windows"
    return count.window.duration_ms


class Source:
    """Writes the source for some rules; `wheel_mask` bounds the slots of the coarse wheel, `heap`: a heap for it."""

    def __init__(self, rules: Sequence[Rule], wheel_mask: int, *, heap: bool = False) -> None:
        self._heap = heap
        self._wheel_mask = wheel_mask
        self._counts = [count for rule in rules for count in (rule.count, rule.unless) if count is not None]
        self.kinds: list[Kind] = list(dict.fromkeys(map(kind_of, self._counts)))
        self._readers: dict[Kind, list[Rule]] = {kind: [] for kind in self.kinds}
        for rule in rules:
            for count in filter(None, (rule.count, rule.unless)):
                if rule not in self._readers[kind_of(count)]:
                    self._readers[kind_of(count)].append(rule)
        self._times = {kind: [f"t{number}_{place}" for place in range(self._kept(kind))]
                       for number, kind in enumerate(self.kinds)}

    def record(self) -> str:
        """Write `make(name)`, which gives a user without events: what an event touches lies side by side."""
        starts: dict[str, int] = {}
        for kind in sorted(self.kinds, key=lambda kind: kind[0]):
            starts |= dict.fromkeys(self._times[kind], PAST)
            for rule in self._readers[kind]:
                if kind_of(rule.count) == kind:
                    starts[f"m{rule.number}"] = OUT
                    if rule.unless:
                        starts[f"d{rule.number}"] = NEVER
        return "\n".join([
            "class User:", f"  __slots__ = {('name', *starts)!r}",
            "def make(name):", "  u = User()", "  u.name = name",
            *(f"  u.{slot} = {start}" for slot, start in starts.items()), "  return u",
        ])  # fmt: skip

    def step(self, name: str, kinds: Sequence[Kind]) -> str:
        """Write the function for events of these kinds: keep their time, settle the audiences that read it."""
        lines = [f"def {name}(u, t, wheel=wheel, near=near, emit=emit):", "  pass"]
        for kind in kinds:
            times = self._times[kind]
            lines += [f"  u.{older} = u.{newer}" for older, newer in pairwise(reversed(times))]
            lines.append(f"  u.{times[0]} = t")
        met = {rule.number: rule for kind in kinds for rule in self._readers[kind]}
        for rule in met.values():
            if rule.unless is None:
                lines += self._counted(rule)
            else:
                lines += self._counted_unless(rule, kind_of(rule.count) in kinds, kind_of(rule.unless) in kinds)
        return "\n".join(lines)

    def lapse(self, rule: Rule) -> str:
        """Write `lapse{number}`, called at an awaited time: awaits a later one, or lets the user leave or enter."""
        number, end = rule.number, self._end(rule.count)
        lines = [f"def lapse{number}(u, t, wheel=wheel, near=near, emit=emit):"]
        if rule.unless is None:
            return "\n".join([
                *lines, f"  if u.m{number} == {IN}:", *_switch("    ", number, OUT), "    return",
                f"  e = {end}", "  if e > t:", f"    u.m{number} = {IN}", *self._wait("    ", number, "e"),
                "  else:", *_switch("    ", number, OUT),
            ])  # fmt: skip
        return "\n".join([
            *lines, f"  if u.d{number} != t: return", f"  e = {end}", f"  b = {self._end(rule.unless)}",
            "  if b <= t < e:", f"    if not u.m{number}:", *_switch("      ", number, IN),
            f"    u.d{number} = e", *self._wait("    ", number, "e"),
            "  else:", f"    if u.m{number}:", *_switch("      ", number, OUT),
            "    if t < b < e:", f"      u.d{number} = b", *self._wait("      ", number, "b"),
            "    else:", f"      u.d{number} = {NEVER}",
        ])  # fmt: skip

    def _counted(self, rule: Rule) -> list[str]:
        """Settle an audience of one count after one of its events; it awaits a time as long as it is in."""
        number = rule.number
        lines = [f"  if u.m{number}: u.m{number} = {OTHER}", "  else:"]
        if rule.count.count == 1:
            return [*lines, f"    e = t + {duration_ms(rule.count)}", *_switch("    ", number, IN),
                    *self._wait("    ", number, "e", duration_ms(rule.count))]
        return [*lines, f"    e = {self._end(rule.count)}", "    if e > t:", *_switch("      ", number, IN),
                *self._wait("      ", number, "e")]

    def _counted_unless(self, rule: Rule, counted: bool, barred: bool) -> list[str]:
        """Settle one with a negated count, after an event of either or both.

        While it is out and awaits nothing, either the count is not met, or the bar outlives it: then only an event of
        the count can change that.
        """
        assert rule.unless is not None
        number, count, unless = rule.number, rule.count, rule.unless
        lines = []
        if barred:
            lines += [f"  if u.m{number} == {IN}:", f"    b = {self._end(unless, now=True)}", "    if b > t:",
                      *_switch("      ", number, OUT), f"      e = {self._end(count)}",
                      f"      if b < e and b < u.d{number}:", f"        u.d{number} = b",
                      *self._wait("        ", number, "b")]
        if counted:
            lines += [
                f"  {'elif' if barred else 'if'} not u.m{number}:", f"    e = {self._end(count, now=True)}",
                "    if e > t:", f"      b = {self._end(unless)}",
                "      if b <= t:", *_switch("        ", number, IN),
                f"        if e < u.d{number}:", f"          u.d{number} = e", *self._wait("          ", number, "e"),
                f"      elif b < e and b < u.d{number}:", f"        u.d{number} = b",
                *self._wait("        ", number, "b"),
            ]  # fmt: skip
        return lines

    def _end(self, count: EventCount, *, now: bool = False) -> str:
        """Write when a count stops to be met; `now`: one of its events came this moment."""
        since = "t" if now and count.count == 1 else f"u.{self._times[kind_of(count)][count.count - 1]}"
        return f"{since} + {duration_ms(count)}"

    def _wait(self, indent: str, number: int, time: str, at_least_ms: int = 0) -> list[str]:
        """Write what calls the lapse at a time, which is `at_least_ms` away: in the open slot or a later one."""
        if self._heap:
            return [f"{indent}push(wheel, ({time}, near(), u, lapse{number}))"]
        far = f"wheel[{time} >> {SLOT_BITS} & {self._wheel_mask}].extend(({time} & {SLOT_MASK}, u, lapse{number}))"
        if at_least_ms > SLOT_MASK:
            return [indent + far]
        return [f"{indent}if {time} > t | {SLOT_MASK}: {far}",
                f"{indent}else: near[{time} & {SLOT_MASK}].extend((u, lapse{number}))"]

    def _kept(self, kind: Kind) -> int:
        return max(count.count for count in self._counts if kind_of(count) == kind)


def _switch(indent: str, number: int, state: int) -> list[str]:
    """Write that the user enters or leaves; a transition says audience and state in one number."""
    return [f"{indent}u.m{number} = {state}", f"{indent}emit((t, {2 * number + state}, u))"]

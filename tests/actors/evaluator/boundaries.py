"""The boundaries of every head, window and aggregate, as a table: at D - 1, D and D + 1 ms, who is in?

Times are ms after T, which is the first instant of Monday 2025-12-01, a day, week and month, in Singapore. A case says
for each boundary what membership is a ms before, at, and a ms after it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import START_MS

T = START_MS
Node = dict[str, Any]
#: Member a ms before, at, and a ms after a boundary.
Around = tuple[bool, bool, bool]

IN, OUT = True, False
ENTERS: Around = (OUT, IN, IN)
LEAVES: Around = (IN, OUT, OUT)
STAYS_IN: Around = (IN, IN, IN)
STAYS_OUT: Around = (OUT, OUT, OUT)
FOR_ONE_MS: Around = (OUT, IN, OUT)

HOUR = 3_600_000
DAY = 24 * HOUR
#: Of every event model: longer than a month, so that `this: month` sees its own end.
RETENTION = 40 * DAY


@dataclass(frozen=True)
class Event:
    """One row: the evaluator's clock at it, and when it happened."""

    name: str
    clock: int
    ts: int
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A condition, what happens, and membership around each boundary."""

    law: str
    where: Node
    happens: Sequence[Event]
    members: Mapping[int, Around]
    seen: int | None = None  #: the trait `seen`, ms after T


def view(clock: int, ts: int | None = None, **properties: Any) -> Event:
    """A view, late where `ts` says that it happened earlier."""
    return Event("view", clock, clock if ts is None else ts, properties)


def order(clock: int, ts: int | None = None, **properties: Any) -> Event:
    """An order, alike."""
    return Event("order", clock, clock if ts is None else ts, properties)


def call(clock: int, ts: int | None = None, **traits: Any) -> Event:
    """An identify call that says traits; they count for 20 s."""
    return Event("identify", clock, clock if ts is None else ts, traits)


def utc(text: str) -> int:
    """Ms after T of a UTC time."""
    return round(dt.datetime.fromisoformat(f"{text}:00+00:00").timestamp() * 1000) - T


def viewed(**more: Any) -> Node:
    return {"event": "view", **more}


WITHIN: Node = {"within": "10s"}
AGO: Node = {"between_ago": ["10s", "20s"]}
SINCE: Node = {"since": "2025-11-30T16:00:10Z"}  # T + 10 s
SINGAPORE = "Asia/Singapore"
TODAY: Node = {"this": "day", "tz": SINGAPORE}

WINDOWS = [
    Case("within: from ts until exactly ts + D", viewed(**WITHIN), [view(0)], {0: ENTERS, 10_000: LEAVES}),
    Case("within: a late event counts from its arrival, until its ts + D",
         viewed(**WITHIN), [view(4_000, ts=0)], {4_000: ENTERS, 10_000: LEAVES}),
    Case("within: D - 1 ms old on arrival counts for one ms", viewed(**WITHIN), [view(9_999, 0)], {9_999: FOR_ONE_MS}),
    Case("within: D old on arrival never counts", viewed(**WITHIN), [view(10_000, ts=0)], {10_000: STAYS_OUT}),
    Case("within: an event a ms before the end prolongs",
         viewed(**WITHIN), [view(0), view(9_999)], {10_000: STAYS_IN, 19_999: LEAVES}),
    Case("within: a future event counts as now", viewed(**WITHIN), [view(0, ts=9_000)], {0: ENTERS, 10_000: LEAVES}),
    Case("between_ago: from exactly ts + A until exactly ts + B",
         viewed(**AGO), [view(0)], {0: STAYS_OUT, 10_000: ENTERS, 20_000: LEAVES}),
    Case("between_ago: late but younger than A waits",
         viewed(**AGO), [view(9_999, ts=0)], {9_999: (OUT, OUT, IN), 10_000: ENTERS, 20_000: LEAVES}),
    Case("between_ago: late, exactly A old, counts at once",
         viewed(**AGO), [view(10_000, ts=0)], {10_000: ENTERS, 20_000: LEAVES}),
    Case("between_ago: late by B - 1 ms counts for one ms", viewed(**AGO), [view(19_999, ts=0)], {19_999: FOR_ONE_MS}),
    Case("between_ago: late by B never counts", viewed(**AGO), [view(20_000, ts=0)], {20_000: STAYS_OUT}),
    Case("since: a ms before TIME does not count", viewed(**SINCE), [view(9_999)], {9_999: STAYS_OUT}),
    Case("since: at TIME counts, until exactly ts + retention",
         viewed(**SINCE), [view(10_000)], {10_000: ENTERS, 10_000 + RETENTION: LEAVES}),
    Case("since: a ms after TIME counts", viewed(**SINCE), [view(10_001)], {10_001: ENTERS}),
    Case("since: late events count by their ts",
         viewed(**SINCE), [view(12_000, ts=9_999), view(15_000, ts=10_000)], {12_000: STAYS_OUT, 15_000: ENTERS}),
    Case("this day: the last ms of yesterday is forgotten at midnight", viewed(**TODAY), [view(-1)], {-1: FOR_ONE_MS}),
    Case("this day: the first ms of today counts until the next midnight",
         viewed(**TODAY), [view(0)], {0: ENTERS, DAY: LEAVES}),
    Case("this day: the last ms of today counts for that ms", viewed(**TODAY), [view(DAY - 1)], {DAY: LEAVES}),
    Case("this day: a late event of yesterday never counts", viewed(**TODAY), [view(1, ts=-1)], {1: STAYS_OUT}),
    Case("this day: a late event of the first ms of today does",
         viewed(**TODAY), [view(9, 0)], {9: ENTERS, DAY: LEAVES}),
    Case("this week: Monday 0:00 to Monday 0:00",
         viewed(this="week", tz=SINGAPORE), [view(-1), view(0)], {0: STAYS_IN, 7 * DAY: LEAVES}),
    Case("this week: Sunday's last ms is forgotten", viewed(this="week", tz=SINGAPORE), [view(-1)], {0: LEAVES}),
    Case("this month: December has 31 days",
         viewed(this="month", tz=SINGAPORE), [view(0)], {0: ENTERS, 31 * DAY: LEAVES}),
    Case("this month: November's last ms is forgotten", viewed(this="month", tz=SINGAPORE), [view(-1)], {0: LEAVES}),
    Case("this day: UTC where no zone is named", viewed(this="day"), [view(0)], {utc("2025-12-01T00:00"): LEAVES}),
    Case("this day: 23 hours when clocks go forward (Berlin)",
         viewed(this="day", tz="Europe/Berlin"), [view(utc("2026-03-28T23:00"))],
         {utc("2026-03-28T23:00"): ENTERS, utc("2026-03-29T22:00"): LEAVES}),
    Case("this day: 25 hours when clocks go back (Berlin)",
         viewed(this="day", tz="Europe/Berlin"), [view(utc("2026-10-24T22:00"))],
         {utc("2026-10-24T22:00"): ENTERS, utc("2026-10-25T23:00"): LEAVES}),
    Case("this day: clocks that skip midnight: the day begins at 1:00 (Cairo)",
         viewed(this="day", tz="Africa/Cairo"), [view(utc("2026-04-23T21:59")), view(utc("2026-04-23T22:00"))],
         {utc("2026-04-23T22:00"): STAYS_IN, utc("2026-04-24T21:00"): LEAVES}),
    Case("this day: what was before the skipped midnight is forgotten (Cairo)",
         viewed(this="day", tz="Africa/Cairo"), [view(utc("2026-04-23T21:59"))], {utc("2026-04-23T22:00"): LEAVES}),
]  # fmt: skip

TWO = [view(0), view(4_000)]
COUNTS = [
    Case("at_least 2: while the second latest is in the window",
         viewed(at_least=2, **WITHIN), TWO, {0: STAYS_OUT, 4_000: ENTERS, 10_000: LEAVES}),
    Case("at_least 2: two of one ms count twice", viewed(at_least=2, **WITHIN), [view(0), view(0)], {10_000: LEAVES}),
    Case("at_most 1", viewed(at_most=1, **WITHIN), TWO, {0: ENTERS, 4_000: LEAVES, 10_000: ENTERS, 14_000: STAYS_IN}),
    Case("at_most 0: once no event is left", viewed(at_most=0, **WITHIN), TWO, {0: STAYS_OUT, 14_000: ENTERS}),
    Case("exactly 1", viewed(exactly=1, **WITHIN), TWO, {0: ENTERS, 4_000: LEAVES, 10_000: ENTERS, 14_000: LEAVES}),
    Case("exactly 0", viewed(exactly=0, **WITHIN), [view(0)], {0: STAYS_OUT, 10_000: ENTERS}),
    Case("at_least 2, between_ago", viewed(at_least=2, **AGO), TWO, {14_000: ENTERS, 20_000: LEAVES}),
    Case("at_most 1, between_ago", viewed(at_most=1, **AGO), TWO, {0: ENTERS, 14_000: LEAVES, 20_000: ENTERS}),
    Case("exactly 1, between_ago",
         viewed(exactly=1, **AGO), TWO, {10_000: ENTERS, 14_000: LEAVES, 20_000: ENTERS, 24_000: LEAVES}),
    Case("at_least 2, since",
         viewed(at_least=2, **SINCE), [view(9_999), view(10_000), view(10_005)], {10_000: STAYS_OUT, 10_005: ENTERS}),
    Case("at_most 1, since", viewed(at_most=1, **SINCE), [view(10_000), view(10_001)], {10_001: LEAVES}),
    Case("exactly 1, since",
         viewed(exactly=1, **SINCE), [view(9_999), view(10_000), view(10_005)], {10_000: ENTERS, 10_005: LEAVES}),
    Case("exactly 1, this day",
         viewed(exactly=1, **TODAY), [view(-1), view(0), view(5)],
         {-1: ENTERS, 0: STAYS_IN, 5: LEAVES, DAY: STAYS_OUT}),
    Case("at_least 2, this day: yesterday's does not help",
         viewed(at_least=2, **TODAY), [view(-1), view(0), view(5)], {0: STAYS_OUT, 5: ENTERS, DAY: LEAVES}),
    Case("at_most 0, this day: true again from midnight", viewed(at_most=0, **TODAY), [view(0)], {DAY: ENTERS}),
    Case("a filter: only what matches counts",
         viewed(**WITHIN, where={"property": "channel", "eq": "web"}), [view(0, channel="app"), view(5, channel="web")],
         {0: STAYS_OUT, 5: ENTERS, 10_005: LEAVES}),
]  # fmt: skip

PAID = [view(0, amount=60, channel="web"), view(4_000, amount=50, channel="app"), view(5_000)]
AGGREGATES = [
    Case("sum gt", viewed(sum="amount", gt=100, **WITHIN), PAID, {0: STAYS_OUT, 4_000: ENTERS, 10_000: LEAVES}),
    Case("sum lt: over no values it is 0",
         viewed(sum="amount", lt=100, **WITHIN), PAID, {0: ENTERS, 4_000: LEAVES, 10_000: ENTERS, 14_000: STAYS_IN}),
    Case("sum eq 0", viewed(sum="amount", eq=0, **WITHIN), PAID, {0: STAYS_OUT, 10_000: STAYS_OUT, 14_000: ENTERS}),
    Case("sum gte, between_ago", viewed(sum="amount", gte=110, **AGO), PAID, {14_000: ENTERS, 20_000: LEAVES}),
    Case("sum lte, between_ago",
         viewed(sum="amount", lte=60, **AGO), PAID, {0: ENTERS, 14_000: LEAVES, 20_000: ENTERS}),
    Case("sum gt, since", viewed(sum="amount", gt=100, **SINCE),
         [view(9_999, amount=900), view(10_000, amount=60), view(10_005, amount=50)],
         {10_000: STAYS_OUT, 10_005: ENTERS}),
    Case("sum gt, this day", viewed(sum="amount", gt=100, **TODAY),
         [view(-1, amount=900), view(0, amount=60), view(7, amount=50)], {0: LEAVES, 7: ENTERS, DAY: LEAVES}),
    Case("avg gte", viewed(avg="amount", gte=55, **WITHIN), PAID, {0: ENTERS, 4_000: STAYS_IN, 10_000: LEAVES}),
    Case("avg lt: over no values it is undefined, so false",
         viewed(avg="amount", lt=55, **WITHIN), PAID, {4_000: STAYS_OUT, 10_000: ENTERS, 14_000: LEAVES}),
    Case("avg eq, between_ago", viewed(avg="amount", eq=55, **AGO), PAID, {14_000: ENTERS, 20_000: LEAVES}),
    Case("avg gt, since", viewed(avg="amount", gt=55, **SINCE),
         [view(9_999, amount=900), view(10_000, amount=60), view(12_000, amount=50)], {10_000: ENTERS, 12_000: LEAVES}),
    Case("avg lt, this day", viewed(avg="amount", lt=61, **TODAY),
         [view(-1, amount=900), view(0, amount=60)], {0: ENTERS, DAY: LEAVES}),
    Case("min lt", viewed(min="amount", lt=60, **WITHIN), PAID, {0: STAYS_OUT, 4_000: ENTERS, 14_000: LEAVES}),
    Case("min gte: over no values it is undefined, so false",
         viewed(min="amount", gte=60, **WITHIN), PAID,
         {0: ENTERS, 4_000: LEAVES, 10_000: STAYS_OUT, 14_000: STAYS_OUT}),
    Case("min eq, between_ago",
         viewed(min="amount", eq=60, **AGO), PAID, {10_000: ENTERS, 14_000: LEAVES, 20_000: STAYS_OUT}),
    Case("min gt, this day", viewed(min="amount", gt=50, **TODAY),
         [view(-1, amount=10), view(0, amount=60)], {0: ENTERS, DAY: LEAVES}),
    Case("min lte, since", viewed(min="amount", lte=50, **SINCE),
         [view(9_999, amount=10), view(10_000, amount=60), view(12_000, amount=50)],
         {10_000: STAYS_OUT, 12_000: ENTERS}),
    Case("max gt", viewed(max="amount", gt=50, **WITHIN), PAID, {0: ENTERS, 4_000: STAYS_IN, 10_000: LEAVES}),
    Case("max lte: over no values it is undefined, so false",
         viewed(max="amount", lte=50, **WITHIN), PAID, {4_000: STAYS_OUT, 10_000: ENTERS, 14_000: LEAVES}),
    Case("max eq, between_ago", viewed(max="amount", eq=50, **AGO), PAID, {20_000: ENTERS, 24_000: LEAVES}),
    Case("max lt, since", viewed(max="amount", lt=100, **SINCE),
         [view(9_999, amount=900), view(10_000, amount=60), view(12_000, amount=100)],
         {10_000: ENTERS, 12_000: LEAVES}),
    Case("max gte, this day", viewed(max="amount", gte=60, **TODAY),
         [view(-1, amount=900), view(0, amount=60)], {-1: ENTERS, 0: STAYS_IN, DAY: LEAVES}),
    Case("distinct gte 2: values, not events", viewed(distinct="channel", gte=2, **WITHIN),
         [*PAID, view(6_000, channel="app")], {0: STAYS_OUT, 4_000: ENTERS, 10_000: LEAVES}),
    Case("distinct gte 2: a value counts at its latest", viewed(distinct="channel", gte=2, **WITHIN),
         [*PAID, view(6_000, channel="web")], {10_000: STAYS_IN, 14_000: LEAVES}),
    Case("distinct lt 2: over no values it is 0",
         viewed(distinct="channel", lt=2, **WITHIN), PAID,
         {0: ENTERS, 4_000: LEAVES, 10_000: ENTERS, 14_000: STAYS_IN}),
    Case("distinct eq 0: an event without a value does not count",
         viewed(distinct="channel", eq=0, **WITHIN), PAID, {0: STAYS_OUT, 14_000: ENTERS}),
    Case("distinct gt 1, between_ago", viewed(distinct="channel", gt=1, **AGO), PAID, {14_000: ENTERS, 20_000: LEAVES}),
    Case("distinct eq 1, since", viewed(distinct="channel", eq=1, **SINCE),
         [view(9_999, channel="tv"), view(10_000, channel="web"), view(12_000, channel="app")],
         {10_000: ENTERS, 12_000: LEAVES}),
    Case("distinct lte 1, this day", viewed(distinct="channel", lte=1, **TODAY),
         [view(0, channel="web"), view(5, channel="app")], {0: ENTERS, 5: LEAVES, DAY: ENTERS}),
]  # fmt: skip

CHAIN: Node = {"sequence": [{"event": "view"}, {"event": "order"}], "within": "10s"}
PAIR: Node = {"sequence": [{"event": "view"}, {"event": "view"}], "within": "10s"}
LEFT: Node = viewed(within="20s", after="10s", not_followed_by={"event": "order"})
LEFT_TWICE: Node = viewed(within="20s", after="10s", not_followed_by={"event": "view"})
EITHER: Node = viewed(within="20s", after="10s", not_followed_by=[
    {"event": "order", "where": {"property": "channel", "eq": "web"}}, {"event": "view"},
])  # fmt: skip
PRO: Node = {"trait": "plan", "eq": "pro"}
NOT_PRO: Node = {"trait": "plan", "ne": "pro"}
CALLS = [
    Case("identify: from the call until exactly its ts + retention", PRO, [call(0, plan="pro")],
         {0: ENTERS, 20_000: LEAVES}),
    Case("identify: a later call of the trait counts instead", PRO,
         [call(0, plan="pro"), call(4_000, plan="free")], {0: ENTERS, 4_000: LEAVES}),
    Case("identify: an older one that comes late does not", PRO,
         [call(4_000, plan="pro"), call(6_000, 3_999, plan="free")], {4_000: ENTERS, 6_000: STAYS_IN, 24_000: LEAVES}),
    Case("identify: of two at one ms the later in the log counts", PRO,
         [call(4_000, plan="pro"), call(6_000, 4_000, plan="free"), call(8_000, 4_000, plan="pro")],
         {4_000: ENTERS, 6_000: LEAVES, 8_000: ENTERS, 24_000: LEAVES}),
    Case("identify: a call without the trait leaves it", PRO, [call(0, plan="pro"), call(4_000, renews=1)],
         {4_000: STAYS_IN, 20_000: LEAVES}),
    Case("identify: null clears it", PRO, [call(0, plan="pro"), call(4_000, plan=None)], {4_000: LEAVES}),
    Case("identify: what is no text clears it", PRO, [call(0, plan="pro"), call(4_000, plan=["pro"])], {4_000: LEAVES}),
    Case("identify: null that comes late clears what is older", PRO,
         [call(4_000, 1_000, plan="pro"), call(6_000, 2_000, plan=None), call(8_000, 1_500, plan="pro")],
         {4_000: ENTERS, 6_000: LEAVES, 8_000: STAYS_OUT}),
    Case("identify: once a newer call is no longer retained, an older one is not either", PRO,
         [call(4_000, plan="free"), call(6_000, 3_999, plan="pro")], {6_000: STAYS_OUT, 24_000: STAYS_OUT}),
    Case("identify: retention - 1 ms old on arrival counts for one ms", PRO, [call(19_999, 0, plan="pro")],
         {19_999: FOR_ONE_MS}),
    Case("identify: a negated operator is the complement, also before and after", NOT_PRO,
         [view(0), call(4_000, plan="pro")], {0: ENTERS, 4_000: LEAVES, 24_000: ENTERS}),
    Case("identify: is_set false", {"trait": "plan", "is_set": False}, [view(0), call(4_000, plan="x")],
         {0: ENTERS, 4_000: LEAVES, 24_000: ENTERS}),
    Case("identify: is_set", {"trait": "plan", "is_set": True}, [call(0, plan=""), call(4_000, plan=None)],
         {0: ENTERS, 4_000: LEAVES}),
    Case("identify: ignore_case", {"trait": "plan", "starts_with": "PR", "ignore_case": True}, [call(0, plan="pro")],
         {0: ENTERS}),
    Case("identify: within_last", {"trait": "renews", "within_last": "3s"}, [call(0, renews=T + 5_000)],
         {5_000: ENTERS, 8_000: LEAVES}),
    Case("identify: within_last ends with the retention", {"trait": "renews", "within_last": "30s"},
         [call(0, renews=T)], {0: ENTERS, 20_000: LEAVES}),
    Case("identify: within_next", {"trait": "renews", "within_next": "3s"}, [call(0, renews=T + 5_000)],
         {2_000: ENTERS, 5_000: LEAVES}),
    Case("identify: within_next that would begin after the retention", {"trait": "renews", "within_next": "3s"},
         [call(0, renews=T + 23_000)], {20_000: STAYS_OUT, 23_000: STAYS_OUT}),
    Case("identify: more_than_ago, put off by a later call", {"trait": "renews", "more_than_ago": "3s"},
         [call(0, renews=T), call(2_000, renews=T + 4_000)], {3_000: STAYS_OUT, 7_000: ENTERS, 22_000: LEAVES}),
    Case("identify: more_than_ago of a missing time is false", {"trait": "renews", "more_than_ago": "3s"},
         [call(0, renews=T), call(4_000, renews=None)], {3_000: ENTERS, 4_000: LEAVES}),
]  # fmt: skip

ORDER_OF_EVENTS = [
    Case("sequence: until the first step leaves the window",
         CHAIN, [view(0), order(4_000)], {0: STAYS_OUT, 4_000: ENTERS, 10_000: LEAVES}),
    Case("sequence: a later start prolongs",
         CHAIN, [view(0), view(3_000), order(4_000)], {10_000: STAYS_IN, 13_000: LEAVES}),
    Case("sequence: steps D - 1 ms apart are true for one ms", CHAIN, [view(0), order(9_999)], {9_999: FOR_ONE_MS}),
    Case("sequence: steps D apart never are", CHAIN, [view(0), order(10_000)], {10_000: STAYS_OUT}),
    Case("sequence: the wrong order is none", CHAIN, [order(0), view(1)], {0: STAYS_OUT, 1: STAYS_OUT}),
    Case("sequence: at one ms the order of arrival counts", CHAIN, [view(0), order(0)], {0: ENTERS, 10_000: LEAVES}),
    Case("sequence: at one ms the wrong order of arrival is none", CHAIN, [order(0), view(0)], {0: STAYS_OUT}),
    Case("sequence: a late first step a ms before the second",
         CHAIN, [order(4_000), view(6_000, ts=3_999)], {6_000: ENTERS, 13_999: LEAVES}),
    Case("sequence: a late first step at the second's ms came after it",
         CHAIN, [order(4_000), view(6_000, ts=4_000)], {6_000: STAYS_OUT}),
    Case("sequence: one event serves one step",
         PAIR, [view(0), view(4_000)], {0: STAYS_OUT, 4_000: ENTERS, 10_000: LEAVES}),
    Case("abandonment: from exactly ts + A until exactly ts + D", LEFT, [view(0)], {10_000: ENTERS, 20_000: LEAVES}),
    Case("abandonment: an answer a ms before A", LEFT, [view(0), order(9_999)], {10_000: STAYS_OUT}),
    Case("abandonment: an answer at A", LEFT, [view(0), order(10_000)], {10_000: STAYS_OUT, 20_000: STAYS_OUT}),
    Case("abandonment: an answer after A ends it", LEFT, [view(0), order(10_001)], {10_000: (OUT, IN, OUT)}),
    Case("abandonment: an answer at the same ms is one, whatever came first",
         LEFT, [order(0), view(0)], {10_000: STAYS_OUT}),
    Case("abandonment: what came a ms before is none", LEFT, [order(0), view(1)], {10_001: ENTERS, 20_001: LEAVES}),
    Case("abandonment: a late answer counts by its ts",
         LEFT, [view(0), order(15_000, ts=0)], {10_000: ENTERS, 15_000: LEAVES}),
    Case("abandonment: a late answer to nothing",
         LEFT, [view(0), order(15_000, ts=-1)], {15_000: STAYS_IN, 20_000: LEAVES}),
    Case("abandonment: a late first event, answered already",
         LEFT, [order(5_000), view(11_000, 4_000)], {14_000: STAYS_OUT}),
    Case("abandonment: a late first event after the answer",
         LEFT, [order(5_000), view(11_000, 5_001)], {15_001: ENTERS, 25_001: LEAVES}),
    Case("abandonment: an event does not follow itself", LEFT_TWICE, [view(0)], {10_000: ENTERS, 20_000: LEAVES}),
    Case("abandonment: the next one of its kind does",
         LEFT_TWICE, [view(0), view(4_000)], {10_000: STAYS_OUT, 14_000: ENTERS, 24_000: LEAVES}),
    Case("abandonment: two of one ms answer each other", LEFT_TWICE, [view(0), view(0)], {10_000: STAYS_OUT}),
    Case("abandonment, a list: one of them", EITHER, [view(0), order(4_000, channel="web")], {10_000: STAYS_OUT}),
    Case("abandonment, a list: neither",
         EITHER, [view(0), order(4_000, channel="app")], {10_000: ENTERS, 20_000: LEAVES}),
    Case("abandonment, a list: the other one",
         EITHER, [view(0), view(15_000)], {10_000: ENTERS, 15_000: LEAVES, 25_000: ENTERS}),
]  # fmt: skip

RECENT: Node = {"trait": "seen", "within_last": "10s"}
TRAITS = [
    Case("within_last: from the value until exactly D later", RECENT, [], {0: ENTERS, 10_000: LEAVES}, seen=0),
    Case("more_than_ago: from exactly D later on",
         {"trait": "seen", "more_than_ago": "10s"}, [], {0: STAYS_OUT, 10_000: ENTERS}, seen=0),
    Case("within_next: from exactly D before until the value",
         {"trait": "seen", "within_next": "10s"}, [], {10_000: ENTERS, 20_000: LEAVES}, seen=20_000),
    Case("a value that is missing is false", RECENT, [view(0)], {0: STAYS_OUT, 10_000: STAYS_OUT}),
    Case("not, of a value that is missing", {"not": RECENT}, [view(0)], {0: ENTERS, 10_000: STAYS_IN}),
]  # fmt: skip

HEADS = [
    Case("all: while every one is", {"all": [viewed(**WITHIN), {"event": "order", "within": "5s"}]},
         [view(0), order(4_000)], {0: STAYS_OUT, 4_000: ENTERS, 9_000: LEAVES, 10_000: STAYS_OUT}),
    Case("any: while one is", {"any": [viewed(**WITHIN), {"event": "order", "within": "5s"}]},
         [view(0), order(6_000)], {0: ENTERS, 10_000: STAYS_IN, 11_000: LEAVES}),
    Case("not: the complement, in the universe", {"not": viewed(**WITHIN)}, [view(0)], {0: STAYS_OUT, 10_000: ENTERS}),
    Case("not: until exactly the greatest ts + retention", {"not": viewed(**WITHIN)},
         [view(9, ts=0)], {10_000: ENTERS, RETENTION: LEAVES}),
    Case("audience: flips in the same ms", {"audience": "viewers"}, [view(0)], {0: ENTERS, 10_000: LEAVES}),
    Case("audience, under not", {"not": {"audience": "viewers"}}, [view(0)], {0: STAYS_OUT, 10_000: ENTERS}),
]  # fmt: skip

CASES: list[Case] = [*WINDOWS, *COUNTS, *AGGREGATES, *ORDER_OF_EVENTS, *CALLS, *TRAITS, *HEADS]

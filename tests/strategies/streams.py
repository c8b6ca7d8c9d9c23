"""Event streams in log order: rows of canonical events, crowded around the boundaries of what came before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.reference.values import duration_ms
from tests.strategies.conditions import CHANNELS, DURATIONS, NUMBERS, TAGS, TIMES, iso
from tests.strategies.documents import GROUPS, RETENTIONS, USERS

Row = dict[str, Any]

SPANS_MS = sorted({duration_ms(text) for text in (*DURATIONS, *RETENTIONS, "5s", "1s", "2s")})


@dataclasses.dataclass(frozen=True)
class _When:
    """When a row comes (after the row `back` rows before it), and how old it says it is."""

    back: int
    gap_ms: int
    age: str
    age_ms: int


def _gaps() -> st.SearchStrategy[int]:
    edges = st.builds(lambda span, off: span + off, st.sampled_from(SPANS_MS), st.integers(-1, 1))
    return st.one_of(st.just(0), st.integers(1, 3), edges)


def _whens() -> st.SearchStrategy[_When]:
    ages = st.sampled_from(["now", "now", "now", "late", "late", "text", "future", "absent", "odd"])
    return st.builds(_When, st.integers(1, 4), _gaps(), ages, _gaps())


def event_streams(
    max_size: int = 40, users: Sequence[str] = USERS, *, odd: bool = True
) -> st.SearchStrategy[list[Row]]:
    """Rows with `received_at` in ms (a few without); late, future, duplicate, unmodelled, badly typed ones among them.

    `odd=False` leaves out values of odd types, for what cannot hold them (a typed Arrow file).
    """
    one = st.tuples(_whens(), _bodies(users, odd), st.integers(0, 30))
    # the size is drawn by itself: lists alone are short, and short histories cross no boundary
    sizes = st.integers(0, max_size)
    return sizes.flatmap(lambda size: st.lists(one, min_size=size, max_size=size)).map(_timed)


def _timed(drawn: list[tuple[_When, Row, int]]) -> list[Row]:
    rows: list[Row] = []
    clocks = [START_MS]
    for when, body, special in drawn:
        clock = clocks[-min(when.back, len(clocks))] + when.gap_ms
        if special != 7:  # now and then a clock that would go back
            clock = max(clock, clocks[-1])
        row: Row = {"received_at": clock, **body, **_timestamp(when, clock)}
        if special == 8:
            del row["received_at"]  # the canonical timestamp moves the clock, or nothing does
        rows.append(row)
        clocks.append(max(clock, clocks[-1]))
    return rows


def _timestamp(when: _When, clock: int) -> Row:
    times: dict[str, Row] = {
        "now": {"timestamp": clock},
        "late": {"timestamp": clock - when.age_ms},
        "text": {"timestamp": iso(clock - when.age_ms)},
        "future": {"timestamp": clock + when.age_ms},
        "absent": {},
        "odd": {"timestamp": "yesterday"},
    }
    return times[when.age]


def _bodies(users: Sequence[str], odd: bool) -> st.SearchStrategy[Row]:
    # what comes first, or often, is drawn most: rings fill, thresholds are passed, ids repeat
    kinds = [
        *4 * [("track", "view")], *3 * [("track", "order")],
        ("page", "view"), *2 * [("identify", None)], ("track", "other"), ("screen", "view"),
    ]  # fmt: skip
    odd_users: list[Any] = [12, 12.0, "", None, {"id": 1}, True, "x" * 1025] if odd else ["", None]
    odd_ids: list[Any] = [7, "", "y" * 1025] if odd else [""]
    return st.builds(
        _body,
        st.sampled_from(kinds),
        st.sampled_from([*6 * list(users[:1]), *4 * list(users), *odd_users]),
        st.sampled_from([_ABSENT, _ABSENT, *users[:1], "anon"]),
        st.sampled_from([*GROUPS, *GROUPS, _ABSENT]),
        st.sampled_from([*6 * [_ABSENT], "m1", "m1", "m2", "m3", *odd_ids]),
        st.sampled_from([*5 * [_ABSENT], "web", "web", "app", "unknown", *([""] if odd else [])]),
        _properties(odd),
        _said(odd),
    )


#: Stands for a key that the row does not have.
_ABSENT = "\0absent"


def _body(
    kind: tuple[str, str | None], user: Any, anonymous: str, group: str, message: Any, source: str, properties: Row,
    said: Any,
) -> Row:
    fields = {
        "type": kind[0],
        "event": _ABSENT if kind[1] is None else kind[1],
        "user_id": user,
        "anonymous_id": anonymous,
        "group_id": group,
        "message_id": message,
        "source": source,
        "properties": properties,
        "traits": said if kind[0] == "identify" else _ABSENT,
    }
    return {name: value for name, value in fields.items() if value != _ABSENT}


def _properties(odd: bool) -> st.SearchStrategy[Row]:
    strange: list[Any] = [None]
    if odd:
        strange += [[], {}, {"a": 1}, "12", "12.0", 12.0, "true", True, 1e300, "NaN", "-0"]
    any_of = st.sampled_from(strange)

    def mostly(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return values | values | values | any_of

    return st.fixed_dictionaries({}, optional={
        "channel": mostly(st.sampled_from(CHANNELS)),
        "amount": mostly(st.sampled_from(NUMBERS)),
        "is_first": mostly(st.booleans()),
        "item": st.sampled_from(CHANNELS).map(lambda sku: {"sku": sku}) | any_of,
        "seen_at": mostly(st.sampled_from(TIMES).map(iso) | st.sampled_from(TIMES)),
        "tags": mostly(st.lists(st.sampled_from([*TAGS, None]), max_size=3)),
        "buyer": st.sampled_from(["u2", ""]),
        "account": st.sampled_from(GROUPS),
    })  # fmt: skip


def _said(odd: bool) -> st.SearchStrategy[Any]:
    """What identify calls say: some traits, at times null or of another type; or nothing at all."""
    any_of = st.sampled_from([None, None, *([[], {}, "12", 12.0, True, "x", 1e300] if odd else [])])

    def mostly(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return values | values | any_of

    stats = st.fixed_dictionaries({}, optional={"score": mostly(st.sampled_from(NUMBERS))})
    traits = st.fixed_dictionaries({}, optional={
        "plan": mostly(st.sampled_from(CHANNELS)),
        "stats": mostly(stats),
        "trial": mostly(st.booleans()),
        "renews": mostly(st.sampled_from(TIMES).map(iso) | st.sampled_from(TIMES)),
        "likes": mostly(st.lists(st.sampled_from([*TAGS, None]), max_size=3)),
    })  # fmt: skip
    nothing = st.sampled_from([_ABSENT, None, *([[], 7] if odd else [])])
    return traits | traits | traits | nothing

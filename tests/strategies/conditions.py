"""Conditions and filters over a small vocabulary, so that they meet what the streams hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.reference.values import duration_ms

Node = dict[str, Any]

#: Every head of the language.
ALL_HEADS = ("count", "trait", "windows", "time_traits", "aggregate", "sequence", "abandonment", "audience")

DURATIONS = ("1ms", "500ms", "1s", "2s", "5s", "10s", "1m30s")
CHANNELS = ("web", "ios", "Android", "straße", "")
TAGS = ("golf", "Tennis", "")
NUMBERS = (0, 1, 2.5, 12, -3)
TIMES = (START_MS - 5_000, START_MS, START_MS + 1_000, START_MS + 2_500)
ZONES = ("UTC", "Europe/Berlin", "Asia/Singapore")


def iso(ms: int) -> str:
    """A time as RFC 3339 text, to the ms."""
    seconds, fraction = divmod(ms - START_MS, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes + 16 * 60, 60)
    day = 30 + hour // 24
    return f"2025-11-{day:02}T{hour % 24:02}:{minute:02}:{second:02}.{fraction:03}Z"


def operator_nodes(declared: str, *, relative: bool = False) -> st.SearchStrategy[Node]:
    """One operator with its operand, of those the declared type has."""
    plain = {
        "string": _text_tests,
        "number": lambda: _ordered_tests(st.sampled_from(NUMBERS)),
        "boolean": lambda: _equality_tests(st.booleans()),
        "timestamp": lambda: _ordered_tests(st.sampled_from(TIMES).map(iso)),
        "list": _list_tests,
    }[declared]()
    choices = [plain, st.booleans().map(lambda wanted: {"is_set": wanted})]
    if relative and declared == "timestamp":
        relatives = st.sampled_from(["within_last", "more_than_ago", "within_next"])
        choices.append(st.builds(lambda op, span: {op: span}, relatives, st.sampled_from(DURATIONS)))
    return st.one_of(choices)


def _equality_tests(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Node]:
    some = st.lists(values, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda op, value: {op: value}, st.sampled_from(["eq", "ne"]), values),
        st.builds(lambda op, value: {op: value}, st.sampled_from(["in", "not_in"]), some),
    )


def _ordered_tests(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Node]:
    compared = st.builds(lambda op, value: {op: value}, st.sampled_from(["gt", "gte", "lt", "lte"]), values)
    pairs = st.tuples(values, values).map(lambda pair: {"between": sorted(pair)})
    return st.one_of(compared, pairs, _equality_tests(values))


def _with_case(node: Node, ignore_case: bool) -> Node:
    return {**node, "ignore_case": True} if ignore_case else node


def _text_tests() -> st.SearchStrategy[Node]:
    parts = st.sampled_from(["", "w", "WEB", "i", "ss", "ß", "droid", "straße"])
    patterns = st.sampled_from(["^w", "o", "[a-z]$", "^$", "A|w", "STRASSE", "(?i)WEB"])
    ops = st.sampled_from(["contains", "not_contains", "starts_with", "ends_with"])
    nodes = st.one_of(
        _equality_tests(st.sampled_from([*CHANNELS, "WEB", "12"])),
        st.builds(lambda op, value: {op: value}, ops, parts),
        patterns.map(lambda pattern: {"matches": pattern}),
    )
    return st.builds(_with_case, nodes, st.booleans())


def _list_tests() -> st.SearchStrategy[Node]:
    element = st.sampled_from([*TAGS, "GOLF"])
    some = st.lists(element, min_size=1, max_size=2)
    nodes = st.one_of(
        st.builds(lambda op, value: {op: value}, st.sampled_from(["has", "not_has"]), element),
        st.builds(lambda op, value: {op: value}, st.sampled_from(["has_any", "has_all"]), some),
    )
    return st.builds(_with_case, nodes, st.booleans())


def trees(leaves: st.SearchStrategy[Node], max_leaves: int) -> st.SearchStrategy[Node]:
    """Trees of all, any, not over leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(
                lambda head, nodes: {head: nodes},
                st.sampled_from(["all", "any"]),
                st.lists(inner, min_size=1, max_size=3),
            ),
            inner.map(lambda node: {"not": node}),
        ),
        max_leaves=max_leaves,
    )


def filters(columns: Mapping[str, Any]) -> st.SearchStrategy[Node]:
    """A filter over an event model's columns."""
    leaves = st.sampled_from(sorted(columns)).flatmap(
        lambda name: operator_nodes(columns[name]["type"]).map(lambda test: {"property": name, **test})
    )
    return trees(leaves, max_leaves=3)


def matches(model: Node) -> st.SearchStrategy[Node]:
    """An event model with a filter or none: one side of a count, a step, a follow-up."""
    columns = model.get("columns", {})
    bare = st.just({"event": model["id"]})
    if not columns:
        return bare
    return bare | filters(columns).map(lambda node: {"event": model["id"], "where": node})


def conditions(
    parent: Node, models: Sequence[Node], retention: Mapping[str, int], earlier: Sequence[str], heads: Sequence[str]
) -> st.SearchStrategy[Node]:
    """A condition over the parent's traits, its event models and, for `audience`, earlier audiences of it."""
    leaves: list[st.SearchStrategy[Node]] = []
    columns = parent.get("traits", {}).get("columns", {})
    if columns and "trait" in heads:
        leaves.append(st.sampled_from(sorted(columns)).flatmap(
            lambda name: operator_nodes(columns[name]["type"], relative="time_traits" in heads).map(
                lambda test: {"trait": name, **test}
            )
        ))  # fmt: skip
    if earlier and "audience" in heads:
        leaves.append(st.sampled_from(sorted(earlier)).map(lambda name: {"audience": name}))
    for model in models:
        leaves += _event_leaves(model, models, retention, heads)
    return trees(st.one_of(leaves), max_leaves=4)


def _event_leaves(
    model: Node, models: Sequence[Node], retention: Mapping[str, int], heads: Sequence[str]
) -> list[st.SearchStrategy[Node]]:
    spans = [text for text in DURATIONS if duration_ms(text) <= retention[model["id"]]]
    shared = [text for text in DURATIONS if duration_ms(text) <= min(retention.values())]
    window = _windows(spans) if "windows" in heads else st.sampled_from(spans).map(lambda d: {"within": d})
    leaves = []
    if "count" in heads:
        leaves.append(st.builds(lambda a, b, c: {**a, **b, **c}, matches(model), window, _counts()))
    if "aggregate" in heads and model.get("columns"):
        leaves.append(
            st.builds(lambda a, b, c: {**a, **b, **c}, matches(model), window, _aggregates(model["columns"]))
        )
    step = st.sampled_from(models).flatmap(matches)
    if "sequence" in heads:
        steps = st.lists(step, min_size=2, max_size=3)
        leaves.append(st.builds(lambda s, d: {"sequence": s, "within": d}, steps, st.sampled_from(shared)))
    if "abandonment" in heads and len(shared) > 1:
        pairs = st.sampled_from([(a, d) for a in shared for d in shared if duration_ms(a) < duration_ms(d)])
        ends = step | st.lists(step, min_size=1, max_size=2)
        leaves.append(st.builds(
            lambda first, pair, end: {**first, "after": pair[0], "within": pair[1], "not_followed_by": end},
            matches(model), pairs, ends,
        ))  # fmt: skip
    return leaves


def _counts() -> st.SearchStrategy[Node]:
    compared = st.sampled_from(["at_least", "at_most", "exactly"])
    return st.just({}) | st.one_of(
        st.integers(1, 4).map(lambda n: {"at_least": n}),
        st.builds(lambda op, n: {op: n}, compared, st.integers(0, 3)),
    ).filter(lambda node: node != {"at_least": 0})


def _aggregates(columns: Mapping[str, Any]) -> st.SearchStrategy[Node]:
    comparison = st.builds(
        lambda op, value: {op: value}, st.sampled_from(["gt", "gte", "lt", "lte", "eq"]), st.sampled_from(NUMBERS)
    )
    named = [("distinct", name) for name in columns]
    numeric = [name for name, column in columns.items() if column["type"] == "number"]
    named += [(op, name) for op in ("sum", "avg", "min", "max") for name in numeric]
    return st.builds(lambda pair, node: {pair[0]: pair[1], **node}, st.sampled_from(named), comparison)


def _windows(spans: Sequence[str]) -> st.SearchStrategy[Node]:
    choices = [
        st.sampled_from(spans).map(lambda d: {"within": d}),
        st.sampled_from(TIMES).map(lambda ms: {"since": iso(ms)}),
        st.builds(
            lambda unit, zone: {"this": unit, "tz": zone},
            st.sampled_from(["day", "week", "month"]),
            st.sampled_from(ZONES),
        ),
    ]
    pairs = [[a, b] for a in spans for b in spans if duration_ms(a) < duration_ms(b)]
    if pairs:
        choices.append(st.sampled_from(pairs).map(lambda pair: {"between_ago": pair}))
    return st.one_of(choices)

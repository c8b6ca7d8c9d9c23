"""From envelopes to hits: what a model takes, under which key, at which time, with which values."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.admission.hits import Decoded
from cluster.admission.plain import decode_plain
from cluster.admission.plan import EventPlan, presence_column, said_column
from cluster.admission.timestamps import Format
from cluster.definitions.parsing import parse_document
from cluster.limits import KEY_BYTES_MAX, MESSAGE_ID_BYTES_MAX
from cluster.wire.envelope import concat
from tests.cluster.admission.building import envelope, model, plan_of

SAID = {"plan": "string", "stats.score": "number"}
ORDER = {"type": "track", "event": "order", "user_id": "u1"}


def decode(plan: EventPlan, batch: pa.RecordBatch, *, replay: bool = False) -> Decoded:
    """Decode the fast way, checked against the plain way."""
    decoded = Decoder(plan, replay=replay).decode(batch)
    decoded.hits.validate(full=True)
    assert decoded.hits.schema.equals(plan.hits_schema)
    plain = decode_plain(plan, batch, replay=replay)
    assert decoded.hits.to_pylist() == plain.hits.to_pylist()
    assert decoded.rejected == plain.rejected
    assert decoded.invalid_values == plain.invalid_values
    return decoded


def one_value(path: str, kind: str, event: dict[str, Any] | bytes) -> Any:
    """Decode one event and give its only column."""
    decoded = decode(plan_of(model("m", event="order", columns={"x": (path, kind)})), envelope(event))
    return decoded.hits["c0"].to_pylist()[0]


def test_a_row_gives_one_hit_for_each_model_that_fits_it() -> None:
    plan = plan_of(model("orders", event="order"), model("any"), model("pages", type="page"))
    hits = decode(plan, envelope(ORDER, {**ORDER, "event": "view"}, {**ORDER, "type": "page"})).hits.to_pylist()
    assert [(hit["row"], hit["model"]) for hit in hits] == [(0, 0), (0, 1), (1, 1), (2, 2)]


def test_a_row_that_no_model_fits_is_no_model() -> None:
    decoded = decode(plan_of(model("m", event="order")), envelope({**ORDER, "event": "x"}, ORDER, {"user_id": "u"}))
    assert decoded.rejected == [(0, "no_model"), (2, "no_model")]
    assert decoded.row_count == 3


@pytest.mark.parametrize("event", [{"type": ["track"]}, {"event": {}}, {"event": 5}, {"event": None}])
def test_type_and_name_that_are_no_text_fit_no_named_model(event: dict[str, Any]) -> None:
    assert decode(plan_of(model("m", event="order")), envelope({**ORDER, **event}, ORDER)).rejected == [(0, "no_model")]


@pytest.mark.parametrize("user", [None, "", {}, [], ["u"], True, {"id": "u"}])
def test_what_is_no_text_or_number_is_no_key(user: object) -> None:
    decoded = decode(plan_of(model("m")), envelope({**ORDER, "user_id": user}, ORDER))
    assert decoded.rejected == [(0, "no_key")]


@pytest.mark.parametrize(
    ("user", "key"),
    [(7, "7"), (12.0, "12"), (9007199254740993, "9007199254740993"), ("🦊", "🦊"), ("0", "0"), (0, "0"),
     ("a\0b", "a\0b")],
)
def test_numbers_become_keys_as_text_and_exactly(user: object, key: str) -> None:
    assert decode(plan_of(model("m")), envelope({**ORDER, "user_id": user})).hits["key"].to_pylist() == [key]


def test_a_key_may_have_just_its_limit_in_bytes() -> None:
    longest = "é" * (KEY_BYTES_MAX // 2)
    decoded = decode(plan_of(model("m")), envelope(*({**ORDER, "user_id": key} for key in (longest, longest + "x"))))
    assert decoded.hits["key"].to_pylist() == [longest]
    assert decoded.rejected == [(1, "invalid")]


def test_a_message_id_over_its_limit_is_invalid_only_where_a_model_fits() -> None:
    long_id = {"message_id": "m" * (MESSAGE_ID_BYTES_MAX + 1)}
    decoded = decode(plan_of(model("m", event="order")), envelope({**ORDER, **long_id}, {"event": "x", **long_id}))
    assert decoded.rejected == [(0, "invalid"), (1, "no_model")]


def test_the_first_non_empty_path_of_a_foreign_key_wins() -> None:
    plan = plan_of(model("m", foreign_key=["user_id", "properties.customer", "anonymous_id"]))
    base = {**ORDER, "anonymous_id": "anon", "properties": {"customer": 42}}
    decoded = decode(plan, envelope(base, {**base, "user_id": ""}, {**base, "user_id": None, "properties": None}))
    assert decoded.hits["key"].to_pylist() == ["u1", "42", "anon"]


def test_models_with_different_foreign_keys_take_one_row_under_different_keys() -> None:
    plan = plan_of(model("a"), model("b", foreign_key="anonymous_id"), model("c", foreign_key="group_id"))
    decoded = decode(plan, envelope({**ORDER, "anonymous_id": "anon"}, {**ORDER, "group_id": "g"}))
    assert [(h["row"], h["model"], h["key"]) for h in decoded.hits.to_pylist()] == [
        (0, 0, "u1"), (0, 1, "anon"), (1, 0, "u1"), (1, 2, "g"),
    ]


def test_source_restricts_a_model_and_replay_lets_the_sourceless_fit() -> None:
    plan = plan_of(model("m", source="app"))
    rows = envelope(ORDER, {**ORDER, "source": "app"}, {**ORDER, "source": "web"}, {**ORDER, "source": "other"})
    assert decode(plan, rows).hits["row"].to_pylist() == [1]
    assert decode(plan, rows, replay=True).hits["row"].to_pylist() == [0, 1]


def test_what_the_envelope_says_of_the_source_goes_before_the_event() -> None:
    plan = plan_of(model("m"))
    decoded = decode(plan, envelope({**ORDER, "source": "app"}, source="web"))
    assert decoded.hits["source"].to_pylist() == [plan.sources.index("web")]


def test_sources_that_no_definition_names_are_told_apart() -> None:
    decoded = decode(plan_of(model("m")), envelope(ORDER, {**ORDER, "source": "x"}, {**ORDER, "source": "y"}))
    none, first, second = decoded.hits["source"].to_pylist()
    assert none == -1
    assert first < -1
    assert second < -1
    assert first != second


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("number", "12.5", 12.5), ("number", 9007199254740993, 9007199254740992.0), ("number", True, None),
        ("number", None, None), ("number", "1e400", None), ("string", 12.0, "12"), ("string", "", ""),
        ("string", False, "false"), ("boolean", "true", True), ("boolean", 1, None), ("boolean", False, False),
        ("timestamp", "2026-11-23T10:00:00.1239Z", 1795428000123), ("timestamp", 1795428000, 1795428000000),
        ("timestamp", 1795428000123.9, 1795428000123), ("timestamp", "2026-11-23", None),
        ("timestamp", "2026-11-23 10:00:00", 1795428000000), ("timestamp", "2026-11-23T10:00:00+0530", None),
        ("timestamp", "2026-11-23T10:00Z", None), ("timestamp", -(2**63), -(2**63)),
        ("list", ["a", 1, None, True], ["a", "1", "true"]), ("list", [], []), ("list", "a", None),
    ],
)
def test_values_are_coerced_to_the_declared_type(kind: str, raw: object, value: object) -> None:
    assert one_value("properties.x", kind, {**ORDER, "properties": {"x": raw}}) == value


@pytest.mark.parametrize("properties", [None, "text", 5, [1], {}, {"cart": None}, {"cart": "x"}, {"cart": [{"x": 1}]}])
def test_a_path_that_leads_nowhere_is_missing(properties: object) -> None:
    assert one_value("properties.cart.x", "string", {**ORDER, "properties": properties}) is None


def test_a_number_out_of_range_is_missing_and_its_event_is_still_taken() -> None:
    plan = plan_of(model("m", columns={"x": ("properties.x", "number")}))
    text = b'{"type": "track", "user_id": "u", "properties": {"x": 1e999}}'
    decoded = decode(plan, envelope(text, ORDER))
    assert decoded.hits["c0"].to_pylist() == [None, None]
    assert decoded.invalid_values == {"m": 1}


def test_keys_that_are_no_identifiers_and_paths_inside_read_objects_are_read() -> None:
    columns = {
        "a": ("properties.größe-1", "number"), "b": ("properties.tags", "list"), "c": ("properties.tags.x", "string"),
        "d": ('properties.q"t.deep', "string"), "e": ("properties", "string"),
    }
    plan = plan_of(model("m", columns=columns))
    decoded = decode(plan, envelope({**ORDER, "properties": {"größe-1": 3, "tags": {"x": "y"}, 'q"t': {"deep": "z"}}}))
    (hit,) = decoded.hits.to_pylist()
    assert [hit[f"c{index}"] for index in range(5)] == [3.0, None, "y", "z", None]


def test_invalid_values_are_counted_for_models_that_take_the_row_and_declare_the_column() -> None:
    amount = {"amount": ("properties.amount", "number")}
    plan = plan_of(model("a", event="order", columns=amount), model("b", columns=amount), model("c"))
    bad = {**ORDER, "properties": {"amount": "much"}}
    decoded = decode(plan, envelope(bad, {**bad, "event": "x"}, {**bad, "user_id": ""}, ORDER))
    assert decoded.invalid_values == {"a": 1, "b": 2}


def test_what_is_no_event_is_invalid_and_harms_no_other_row() -> None:
    plan = plan_of(model("m"))
    decoded = decode(plan, envelope(ORDER, b"{oops", b"5", b"{},{}", ORDER, b"[" * 5_000))
    assert decoded.hits["row"].to_pylist() == [0, 4]
    assert decoded.rejected == [(1, "invalid"), (2, "invalid"), (3, "invalid"), (5, "invalid")]


def test_a_column_of_unfit_rows_costs_no_hit_its_place() -> None:
    plan = plan_of(model("m", event="order", columns={"n": ("properties.n", "number")}))
    rows = [{**ORDER, "event": "order" if n % 5 == 2 else "other", "message_id": f"m{n}", "properties": {"n": n}}
            for n in range(20)]
    hits = decode(plan, envelope(*rows)).hits.to_pylist()
    assert [(h["row"], h["message_id"], h["c0"]) for h in hits] == [(n, f"m{n}", float(n)) for n in (2, 7, 12, 17)]


def test_an_sdk_event_is_read_at_its_own_names() -> None:
    plan = plan_of(model("m", source="web", foreign_key=["user_id", "anonymous_id"],
                         columns={"ref": ("context.page.referrer", "string")}))
    event = {"type": "track", "event": "order", "userId": None, "anonymousId": "anon", "messageId": "m1",
             "timestamp": "2026-11-23T10:00:00.000+00:00", "context": {"page": {"referrer": "r"}}}
    (hit,) = decode(plan, envelope(event, fmt=Format.SEGMENT, source="web", sent_at_ms=1795428000500)).hits.to_pylist()
    assert (hit["key"], hit["message_id"], hit["source"], hit["c0"]) == ("anon", "m1", 0, "r")
    assert (hit["ts_ms"], hit["ts_relative"]) == (-500, True)


@pytest.mark.parametrize("kind", ["page", "screen"])
def test_the_name_of_an_sdk_page_or_screen_is_its_event(kind: str) -> None:
    plan = plan_of(model("m", type=kind, event="Home"))
    rows = [{"type": kind, "name": "Home", "userId": "u"}, {"type": kind, "event": "Home", "userId": "u"}]
    assert decode(plan, envelope(*rows, fmt=Format.SEGMENT)).rejected == [(1, "no_model")]


def test_a_rudderstack_identify_keeps_its_traits_in_context() -> None:
    plan = plan_of(model("m", type="identify", columns={"plan": ("traits.plan", "string")}))
    rows = [{"type": "identify", "userId": "u", "context": {"traits": {"plan": "pro"}}},
            {"type": "identify", "userId": "u", "traits": {"plan": "own"}, "context": {"traits": {"plan": "pro"}}}]
    assert decode(plan, envelope(*rows, fmt=Format.RUDDERSTACK)).hits["c0"].to_pylist() == ["pro", "own"]
    assert decode(plan, envelope(*rows, fmt=Format.SEGMENT)).hits["c0"].to_pylist() == [None, "own"]


def test_a_model_that_reads_its_time_elsewhere_reads_it_absolutely() -> None:
    plan = plan_of(model("a"), model("b", timestamp="properties.at"))
    event = {"type": "track", "userId": "u", "timestamp": 1795428000000, "properties": {"at": 1795000000000}}
    hits = decode(plan, envelope(event, fmt=Format.SEGMENT, sent_at_ms=1795428000100)).hits.to_pylist()
    assert [(h["ts_ms"], h["ts_relative"]) for h in hits] == [(-100, True), (1795000000000, False)]


def test_formats_mixed_in_one_batch_keep_their_order() -> None:
    plan = plan_of(model("m", columns={"x": ("properties.x", "string")}))
    segment = {"type": "track", "userId": "s", "properties": {"x": "1"}}
    last = {**ORDER, "properties": {"x": 2}}
    rows = concat([envelope(ORDER, {}), envelope(segment, fmt=Format.SEGMENT), envelope(last)])
    decoded = decode(plan, rows)
    assert [(h["row"], h["key"], h["c0"]) for h in decoded.hits.to_pylist()] == [
        (0, "u1", None), (2, "s", "1"), (3, "u1", "2"),
    ]
    assert decoded.rejected == [(1, "no_model")]


def test_an_empty_batch_and_a_plan_without_models_give_no_hits() -> None:
    assert decode(plan_of(model("m")), envelope()).hits.num_rows == 0
    assert decode(plan_of(), envelope(ORDER)).rejected == [(0, "no_model")]


_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
    | st.sampled_from(["", "1", "true", "order", "web", "identify", "2026-11-23T10:00:00Z",
                       "2026-11-23T10:00:00.5+02:00", "2026-11-23 10:00:00", "1e999", 1795428000, 1795428000123,
                       10**30, -(2**63), "x" * 1025])
)
_OBJECTS = st.dictionaries(st.sampled_from(["x", "y", "traits"]), _SCALARS, max_size=3)
_VALUES = _SCALARS | st.lists(_SCALARS, max_size=3) | _OBJECTS
_TIMES = st.sampled_from(["2026-11-23T10:00:00Z", "2026-11-23T11:00:00.25Z"]) | _SCALARS


def _fields(names: list[str], always: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(always, optional=dict.fromkeys(names, _VALUES))


NATIVE_EVENTS = _fields(
    ["user_id", "anonymous_id", "message_id", "source", "properties", "traits", "context", "event"],
    {"type": st.sampled_from(["track", "track", "page", "identify", "alias"]) | _VALUES, "timestamp": _TIMES},
)
SDK_EVENTS = _fields(
    ["userId", "anonymousId", "messageId", "properties", "traits", "context", "event", "name", "originalTimestamp",
     "sentAt"],
    {"type": st.sampled_from(["track", "page", "identify"]) | _VALUES, "timestamp": _TIMES},
)
_COLUMNS = {
    f"{kind}_{place.replace('.', '_')}": (place, kind)
    for kind in ("string", "number", "boolean", "timestamp", "list")
    for place in ("properties.x", "traits.y", "context")
}
ODD_PLAN = plan_of(
    model("orders", event="order", columns=_COLUMNS), model("any", foreign_key=["user_id", "anonymous_id"]),
    model("who", type="identify", source="web", timestamp="traits.x", columns={"x": ("traits.x", "string")}),
    model("pages", type="page", foreign_key="properties.x"),
)


@given(st.lists(NATIVE_EVENTS, max_size=6), st.sampled_from([None, "web", "app", "other"]), st.booleans())
def test_fast_and_plain_agree_on_odd_native_events(
    events: list[dict[str, Any]], source: str | None, replay: bool
) -> None:
    decode(ODD_PLAN, envelope(*events, source=source), replay=replay)


@given(
    st.lists(SDK_EVENTS, max_size=6), st.sampled_from([Format.SEGMENT, Format.RUDDERSTACK, Format.HIGHTOUCH]),
    st.none() | st.integers(-(2**63), 2**63 - 1),
)
def test_fast_and_plain_agree_on_odd_sdk_events(
    events: list[dict[str, Any]], fmt: Format, sent_at_ms: int | None
) -> None:
    decode(ODD_PLAN, envelope(*events, fmt=fmt, source="web", sent_at_ms=sent_at_ms))


def test_events_survive_json_with_duplicate_fields() -> None:
    text = json.dumps(ORDER)[:-1].encode() + b', "properties": {"x": 1}, "properties": {"y": 2}, "user_id": "last"}'
    decoded = decode(plan_of(model("m", columns={"x": ("properties.x", "number")})), envelope(text))
    assert decoded.hits.to_pylist()[0]["key"] == "last"
    assert decoded.hits["c0"].to_pylist() == [None]


def identify_plan() -> EventPlan:
    """A parent with two traits that identify calls say, and a model of them that also reads all traits."""
    columns = {name: {"type": kind, "source": "identify", "path": f"traits.{name}"} for name, kind in SAID.items()}
    document = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"columns": columns}}],
        "event_models": [model("calls", type="identify"), model("any")],
    }
    return EventPlan(parse_document(document, "test.json", {}))


def says(plan: EventPlan, decoded: Decoded, trait: str) -> list[tuple[bool, Any]]:
    """For each hit: whether it says the trait, and what."""
    value, there = plan.columns_of_model[0][said_column(trait)], plan.presences_of_model[0][presence_column(trait)]
    return list(zip(decoded.hits[f"p{there}"].to_pylist(), decoded.hits[f"c{value}"].to_pylist(), strict=True))


@pytest.mark.parametrize("fmt", list(Format))
def test_null_is_said_and_what_is_absent_is_not(fmt: Format) -> None:
    call = {"type": "identify", "user_id": "u1", "userId": "u1"}
    traits: list[Any] = [{"plan": "pro"}, {"plan": None}, {}, None, [], {"plan": ["pro"]}, {"plan": 12}, {"x": 1}]
    plan = identify_plan()
    decoded = decode(plan, envelope(call, *({**call, "traits": each} for each in traits), fmt=fmt))
    assert says(plan, decoded, "plan") == [
        (False, None), (True, "pro"), (True, None), (False, None), (False, None), (False, None), (True, None),
        (True, "12"), (False, None),
    ]  # fmt: skip
    assert decoded.invalid_values == {"calls": 1}


def test_what_is_below_an_object_is_said_where_there_is_one() -> None:
    call = {"type": "identify", "user_id": "u1"}
    traits = [{"stats": stats} for stats in ({"score": 1}, {"score": None}, {}, None, 7)]
    plan = identify_plan()
    decoded = decode(plan, envelope(*({**call, "traits": each} for each in traits)))
    assert says(plan, decoded, "stats.score") == [(True, 1.0), (True, None), *3 * [(False, None)]]


def test_rudderstack_says_traits_in_its_context_too() -> None:
    call = {"type": "identify", "userId": "u1"}
    rows: list[Any] = [
        {"context": {"traits": {"plan": "pro"}}}, {"traits": {"plan": None}, "context": {"traits": {"plan": "pro"}}},
        {"context": {"traits": {"plan": None}}}, {"context": {"traits": None}}, {"context": None},
    ]  # fmt: skip
    plan = identify_plan()
    decoded = decode(plan, envelope(*({**call, **row} for row in rows), fmt=Format.RUDDERSTACK))
    assert says(plan, decoded, "plan") == [(True, "pro"), (True, "pro"), (True, None), (False, None), (False, None)]
    later = {"type": "track", "event": "x", "userId": "u1", "context": {"traits": {"plan": "pro"}}}
    assert decode(plan, envelope(later, fmt=Format.RUDDERSTACK)).hits["p0"].to_pylist() == [False]


@given(st.lists(st.tuples(st.sampled_from(["identify", "track"]), st.recursive(
    st.none() | st.text(max_size=2) | st.integers(-2, 2),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["plan", "stats", "score", "traits"]), inner, max_size=3), max_leaves=6,
), st.booleans()), max_size=6), st.sampled_from(list(Format)))  # fmt: skip
def test_presence_is_read_the_fast_way_as_the_plain_way(rows: list[tuple[str, Any, bool]], fmt: Format) -> None:
    events = []
    for kind, said, inside in rows:
        place = {"context": {"traits": said}} if inside else {"traits": said}
        events.append({"type": kind, "user_id": "u1", "userId": "u1", **place})
    decode(identify_plan(), envelope(*events, fmt=fmt))

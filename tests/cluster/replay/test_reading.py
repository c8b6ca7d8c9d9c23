"""Event files: the same events in any form give the same hits, at the same clock; bad files say where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.admission.plan import EventPlan
from cluster.errors import EventFileError
from cluster.replay import event_files
from cluster.replay.reading import ReplaySlice, read_events
from tests.cluster.admission.building import model, plan_of

ROWS: list[dict[str, Any]] = [
    {"type": "track", "event": "order", "user_id": "u1", "message_id": "m1", "timestamp": "2026-11-23T10:00:00.123Z",
     "properties": {"amount": 12.5, "channel": "web", "first": True, "cart": {"size": 3}, "tags": ["a", "b"]}},
    {"type": "track", "event": "view", "user_id": "u2", "timestamp": "2026-11-23T10:00:01Z", "properties": None},
    {"type": "page", "event": "Home", "anonymous_id": "anon", "timestamp": "2026-11-23T10:00:02Z"},
    {"type": "track", "event": "order", "user_id": "", "timestamp": "2026-11-23T09:00:00Z", "source": "app",
     "properties": {"amount": None, "channel": "", "first": False, "cart": None, "tags": []}},
    {"type": "track", "event": "order", "user_id": "u1", "source": "other",
     "properties": {"amount": 7.0, "channel": "app", "first": None, "cart": {"size": None}, "tags": None}},
    {"type": "track", "event": "order", "user_id": "u3", "timestamp": "2026-11-23T10:00:05.9999Z",
     "received_at": "2026-11-23T10:00:04Z"},
]
PLAN = plan_of(
    model("orders", event="order", columns={
        "amount": ("properties.amount", "number"), "amount_text": ("properties.amount", "string"),
        "channel": ("properties.channel", "string"), "first": ("properties.first", "boolean"),
        "size": ("properties.cart.size", "number"), "tags": ("properties.tags", "list"),
        "at": ("timestamp", "timestamp"), "nowhere": ("traits.x", "string"),
        "deeper": ("properties.channel.x", "string"),
    }),
    model("anyone", foreign_key=["user_id", "anonymous_id"], source="app"),
    model("pages", type="page", event="Home", foreign_key="anonymous_id",
          columns={"c": ("properties.channel", "string")}),
)
PROPERTIES = pa.struct([
    ("amount", pa.float64()), ("channel", pa.string()), ("first", pa.bool_()),
    ("cart", pa.struct([("size", pa.int32())])), ("tags", pa.list_(pa.string())),
])


def table(properties: pa.DataType = PROPERTIES, **types: pa.DataType) -> pa.Table:
    """Give ROWS as a table, `properties` as a struct or as JSON text."""
    names = ["type", "event", "user_id", "anonymous_id", "message_id", "timestamp", "received_at", "source"]
    arrays = {name: pa.array([row.get(name) for row in ROWS], pa.string()) for name in names}
    for name, kind in types.items():
        texts = arrays[name]
        arrays[name] = texts.cast(pa.timestamp("us", "UTC")).cast(kind) if "time" in str(kind) else texts.cast(kind)
    found = [row.get("properties") for row in ROWS]
    if properties == pa.string():
        found = [None if value is None else json.dumps(value) for value in found]
    return pa.table({**arrays, "properties": pa.array(found, properties), "unknown": pa.array(range(len(ROWS)))})


def as_arrow_file(made: pa.Table, path: Path) -> Path:
    with pa.ipc.new_file(path, made.schema) as writer:
        writer.write_table(made, max_chunksize=2)
    return path


def as_arrow_stream(made: pa.Table, path: Path) -> Path:
    with pa.ipc.new_stream(path, made.schema) as writer:
        writer.write_table(made)
    return path


def as_parquet(made: pa.Table, path: Path) -> Path:
    pq.write_table(made, path, row_group_size=4)
    return path


def ndjson(path: Path, text: str | bytes | None = None) -> Path:
    if text is None:
        text = "\n".join(map(json.dumps, ROWS))
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def everything(path: Path, plan: EventPlan = PLAN, until_ms: int | None = None) -> tuple[Any, ...]:
    """Give hits, rejected rows (numbered over the whole file), invalid values and clocks."""
    hits, rejected, invalid, rows, last = [], [], {}, 0, None
    for part in read_events(str(path), plan, until_ms=until_ms):
        part.decoded.hits.validate(full=True)
        hits += [{**hit, "row": hit["row"] + rows} for hit in part.decoded.hits.to_pylist()]
        rejected += [(row + rows, reason) for row, reason in part.decoded.rejected]
        for name, count in part.decoded.invalid_values.items():
            invalid[name] = invalid.get(name, 0) + count
        rows += part.decoded.row_count
        last = part
    return hits, rejected, invalid, rows, last and last.first_clock_ms, last and last.end_clock_ms


def slices_of(path: Path, **options: Any) -> list[ReplaySlice]:
    return list(read_events(str(path), PLAN, **options))


def refused(path: Path) -> str:
    with pytest.raises(EventFileError) as caught:
        slices_of(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_ndjson_gives_hits_with_their_clock(tmp_path: Path) -> None:
    hits, rejected, invalid, rows, first, end = everything(ndjson(tmp_path / "e.ndjson"))
    base = 1795428000000
    assert [(h["row"], h["model"], h["key"], h["clock_ms"] - base, h["ts_ms"] and h["ts_ms"] - base) for h in hits] == [
        (0, 0, "u1", 123, 123), (0, 1, "u1", 123, 123), (1, 1, "u2", 1000, 1000), (2, 2, "anon", 2000, 2000),
        (5, 0, "u3", 4000, 5999), (5, 1, "u3", 4000, 5999),
    ]
    assert rejected == [(3, "no_key"), (4, "no_timestamp")]
    assert (invalid, rows, first - base, end - base) == ({}, 6, 123, 4000)


@pytest.mark.parametrize("write", [as_arrow_file, as_arrow_stream, as_parquet])
@pytest.mark.parametrize("made", [
    table(), table(pa.string()), table(event=pa.dictionary(pa.int8(), pa.string())),
    table(user_id=pa.large_string(), source=pa.dictionary(pa.int32(), pa.string())),
    table(timestamp=pa.timestamp("us", "UTC"), received_at=pa.timestamp("ns", "Europe/Berlin")),
], ids=["struct", "json", "dictionary", "large", "instants"])
def test_every_form_of_a_file_gives_the_same(
    tmp_path: Path, write: Callable[[pa.Table, Path], Path], made: pa.Table
) -> None:
    assert everything(write(made, tmp_path / "e.bin")) == everything(ndjson(tmp_path / "e.ndjson"))


def test_maps_are_read_as_objects(tmp_path: Path) -> None:
    values = [[("channel", "web"), ("amount", "12.5"), ("channel", "last")], None, []]
    made = pa.table({
        "type": ["track"] * 3, "event": ["order"] * 3, "user_id": ["u"] * 3, "timestamp": [1795428000] * 3,
        "properties": pa.array(values, pa.map_(pa.string(), pa.string())),
    })
    hits = everything(as_arrow_file(made, tmp_path / "e.arrow"))[0]
    assert [(h["c0"], h["c2"]) for h in hits if h["model"] == 0] == [(12.5, "last"), (None, None), (None, None)]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_instants_of_any_unit_are_cut_downwards(tmp_path: Path, unit: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = pa.array([-1, 1795428000 * per_second + per_second - 1], pa.timestamp(unit))
    made = pa.table({"type": ["track"] * 2, "user_id": [1, 2], "timestamp": times})
    part = everything(as_parquet(made, tmp_path / "e.parquet") if unit != "s" else as_arrow_file(made, tmp_path / "e"))
    ms = {"s": (-1000, 0), "ms": (-1, 999), "us": (-1, 999), "ns": (-1, 999)}[unit]
    assert [(h["key"], h["ts_ms"]) for h in part[0]] == [("1", ms[0]), ("2", 1795428000000 + ms[1])]


@pytest.mark.parametrize(("values", "kind", "expected"), [
    (pa.array([1, 2**53 + 1], pa.int64()), "string", ["1", str(2**53 + 1)]),
    (pa.array([1.0, 2.5], pa.float32()), "string", ["1", "2.5"]),
    (pa.array([1.0, float("nan")]), "number", [1.0, None]),
    (pa.array([1, 200], pa.uint8()), "number", [1.0, 200.0]),
    (pa.array([1795428000, 1795428000123]), "timestamp", [1795428000000, 1795428000123]),
    (pa.array([1795428000.5, float("inf")]), "timestamp", [1795428000500, None]),
    (pa.array([2**63, 5], pa.uint64()), "timestamp", [None, 5000]),
    (pa.array(["7", "x"]), "number", [7.0, None]),
    (pa.array(["true", "x"]), "boolean", [True, None]),
    (pa.array(["2026-11-23T10:00:00Z", "2026-11-23"]), "timestamp", [1795428000000, None]),
    (pa.array([True, False]), "string", ["true", "false"]),
    (pa.array([True, False]), "number", [None, None]),
    (pa.array([["a", None], ["b"]]), "list", [["a"], ["b"]]),
    (pa.array([[1, 2], None]), "list", [["1", "2"], None]),
    (pa.array(["a", "b"]), "list", [None, None]),
    (pa.array([b"a", b"b"]), "string", [None, None]),
    (pa.array(["a", "a"]).dictionary_encode(), "string", ["a", "a"]),
    (pa.array([1, 1]).dictionary_encode(), "number", [1.0, 1.0]),
])
def test_columns_of_any_type_follow_the_rules_of_values(
    tmp_path: Path, values: pa.Array, kind: str, expected: list[Any]
) -> None:
    plan = plan_of(model("m", columns={"x": ("properties.x", kind)}))
    made = pa.table({"type": ["track"] * 2, "user_id": ["u"] * 2, "timestamp": [1, 2],
                     "properties": pa.StructArray.from_arrays([values], ["x"])})
    hits, _, invalid, *_ = everything(as_arrow_file(made, tmp_path / "e"), plan)
    assert [hit["c0"] for hit in hits] == expected
    missing = sum(value is None and raw is not None for value, raw in zip(expected, values.to_pylist(), strict=True))
    assert invalid == ({"m": missing} if missing else {})


def test_a_value_below_the_clock_counts_as_the_clock(tmp_path: Path) -> None:
    times = [None, 5000, 3000, None, 4000, 9000]
    text = "\n".join(json.dumps({"type": "track", "user_id": "u", "timestamp": at and at + 10**12}) for at in times)
    hits, rejected, *_, first, end = everything(ndjson(tmp_path / "e", text), plan_of(model("m")))
    assert [hit["clock_ms"] - 10**12 for hit in hits] == [5000, 5000, 5000, 9000]
    assert rejected == [(0, "no_timestamp"), (3, "no_timestamp")]
    assert (first, end) == (10**12 + 5000, 10**12 + 9000)


@pytest.mark.parametrize(("until", "rows"), [(4999, 1), (5000, 5), (8999, 5), (9000, 6), (0, 1)])
def test_reading_ends_at_the_first_row_above_until(tmp_path: Path, until: int, rows: int) -> None:
    times = [None, 5000, 3000, None, 4000, 9000]
    text = "\n".join(json.dumps({"type": "track", "user_id": "u", "timestamp": at and at + 10**12}) for at in times)
    path = ndjson(tmp_path / "e", text + "\n" + text)
    assert everything(path, plan_of(model("m")), until_ms=10**12 + until)[3] == (12 if rows == 6 else rows)


def test_slices_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, arrow = ndjson(tmp_path / "e.ndjson"), as_arrow_file(table(), tmp_path / "e.arrow")
    whole = everything(lines)
    for rows in (1, 2, 5):
        monkeypatch.setattr(event_files, "REPLAY_SLICE_ROWS", rows)
        assert everything(lines) == everything(arrow) == whole
        assert len(slices_of(lines)) == -(-len(ROWS) // rows)
    monkeypatch.setattr(event_files, "REPLAY_SLICE_BYTES_MAX", 1)
    assert everything(lines) == whole


def test_rows_without_any_time_give_no_clock(tmp_path: Path) -> None:
    (part,) = slices_of(ndjson(tmp_path / "e", '{"type": "track", "user_id": "u"}'))
    assert (part.first_clock_ms, part.end_clock_ms) == (None, None)
    assert part.decoded.rejected == [(0, "no_timestamp")]


@pytest.mark.parametrize("text", ["", "\n\n", " \r\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, text: str) -> None:
    assert slices_of(ndjson(tmp_path / "e.ndjson", text)) == []


def test_blank_lines_carriage_returns_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(row).encode() for row in ROWS) + b"\r\n"
    assert everything(ndjson(tmp_path / "a", text)) == everything(ndjson(tmp_path / "b"))


@pytest.mark.parametrize(
    "line", ['{"type": "track"', "5", "[1]", "null", "track", '{"a": 1} {"b": 2}', '{"a": 1},{"b": 2}']
)
def test_a_bad_line_stops_the_reading_by_its_number(tmp_path: Path, line: str) -> None:
    text = json.dumps(ROWS[0]) + "\n\n" + line + "\n" + json.dumps(ROWS[0])
    assert "line 3 is no JSON object" in refused(ndjson(tmp_path / "e.ndjson", text))


def test_a_missing_file_a_folder_and_a_strange_file_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "none.arrow")
    assert "cannot be opened" in refused(tmp_path)
    assert "no event file" in refused(ndjson(tmp_path / "e.csv", "type,event\ntrack,x\n"))


@pytest.mark.parametrize("write", [as_arrow_file, as_arrow_stream, as_parquet])
@pytest.mark.parametrize("keep", [10, 0.5, 0.9])
def test_a_file_cut_off_is_refused(
    tmp_path: Path, write: Callable[[pa.Table, Path], Path], keep: float
) -> None:
    path = write(table(), tmp_path / "e.bin")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    assert "damaged or cut off" in refused(path)


@pytest.mark.parametrize(("column", "values", "said"), [
    ("timestamp", [True], "column timestamp has type bool; allowed: a timestamp, a number or text"),
    ("user_id", [["u"]], "column user_id has type list"), ("event", [5], "column event has type int64; allowed: text"),
    ("properties", [5], "column properties has type int64; allowed: a struct, a map or JSON text"),
])
def test_a_column_of_a_useless_type_is_refused(tmp_path: Path, column: str, values: list[Any], said: str) -> None:
    assert said in refused(as_parquet(pa.table({"type": ["track"], column: values}), tmp_path / "e.parquet"))


def test_a_file_without_event_columns_is_refused(tmp_path: Path) -> None:
    assert "none of its columns is a field of an event; found name, age" in refused(
        as_arrow_file(pa.table({"name": ["x"], "age": [1]}), tmp_path / "e")
    )


@pytest.mark.parametrize("text", ["{oops", "no", '{"a": 1}, {"b": 2}'])
def test_json_text_that_is_none_is_refused_by_its_row(tmp_path: Path, text: str) -> None:
    made = pa.table({"type": ["track"] * 2, "event": ["order"] * 2, "user_id": ["u", "v"], "timestamp": [1, 2],
                     "properties": ["", text]})
    assert "row 2: column properties is read as JSON text" in refused(as_arrow_file(made, tmp_path / "e"))


@pytest.mark.parametrize("text", ["5", "[1]", '"x"', "null", " {} ", '{"channel": {"x": 1}}'])
def test_json_text_that_is_no_object_leads_nowhere(tmp_path: Path, text: str) -> None:
    made = pa.table({"type": ["track"], "event": ["order"], "user_id": ["u"], "timestamp": [1], "properties": [text]})
    hits = everything(as_arrow_file(made, tmp_path / "e"))[0]
    assert [hit["c2"] for hit in hits] == [None, None]

"""`usher replay` from files to files: the worked cases, order, ids, `--until`, and nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.definitions.evaluable import unsupported
from cluster.definitions.parsing import parse_document
from cluster.errors import DefinitionError, EventFileError, InputError, SnapshotError, UsherError
from cluster.model.transitions import transition_id
from cluster.replay.run import ReplayOptions, ReplaySummary, replay, time_of
from tests.conftest import START_MS

CASES = Path(__file__).parents[2] / "fixtures" / "semantics"

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "parent_models": [{"id": "users", "primary_key": "user_id", "traits": {"columns": {"ltv": {"type": "number"}}}}],
    "event_models": [{"id": "order", "parent": "users", "foreign_key": "user_id", "event": "order"}],
    "audiences": [
        {"id": "recent", "parent": "users", "where": {"event": "order", "within": "1m"}},
        {"id": "quiet", "parent": "users", "where": {"event": "order", "exactly": 0, "within": "1m"}},
        {"id": "rich", "parent": "users", "where": {"trait": "ltv", "gt": 300}},
    ],
}


def order(user: str, at_s: float, **more: Any) -> dict[str, Any]:
    received_at = START_MS + int(at_s * 1000)
    return {"type": "track", "event": "order", "user_id": user, "received_at": received_at, **more}


class Files:
    """A replay's files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.definitions = folder / "definitions.json"
        self.events = folder / "events.ndjson"
        self.traits = folder / "traits.parquet"
        self.definitions.write_text(json.dumps(DOCUMENT))
        pq.write_table(pa.table({"user_id": ["ann", "zoe"], "ltv": [500.0, 1.0]}), self.traits)

    def run(self, rows: list[dict[str, Any]], out: str = "out.ndjson", **more: Any) -> ReplaySummary:
        self.events.write_text("".join(json.dumps(row) + "\n" for row in rows))
        traits = more.pop("traits", (str(self.traits),))
        options = ReplayOptions((self.definitions,), self.events, self.folder / out, traits, **more)
        return replay(options)

    def transitions(self, out: str = "out.ndjson") -> list[dict[str, Any]]:
        path = self.folder / out
        if path.suffix == ".parquet":
            return pq.read_table(path).to_pylist()
        if path.suffix == ".arrow":
            with pa.memory_map(str(path)) as mapped:
                return pa.ipc.open_file(mapped).read_all().to_pylist()
        return [json.loads(line) for line in path.read_text().splitlines()]

    def left_behind(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"definitions.json", "events.ndjson", "traits.parquet"}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["at"] - START_MS, row["audience_id"], row["user_id"], row["kind"], row["cause"]) for row in rows]


def test_members_by_traits_enter_first_and_windows_end_by_time(files: Files) -> None:
    summary = files.run([order("ann", 0), order("bob", 90)])
    assert told(files.transitions()) == [
        (0, "quiet", "ann", "entered", "definition"),
        (0, "quiet", "ann", "exited", "event"),
        (0, "quiet", "zoe", "entered", "definition"),
        (0, "recent", "ann", "entered", "event"),
        (0, "rich", "ann", "entered", "definition"),
        (60_000, "quiet", "ann", "entered", "time"),
        (60_000, "recent", "ann", "exited", "time"),
        (90_000, "recent", "bob", "entered", "event"),
    ]
    assert (summary.events, summary.accepted, summary.transitions) == (2, 2, 8)


@pytest.mark.parametrize("ending", ["ndjson", "parquet", "arrow"])
def test_every_format_holds_the_same_transitions(files: Files, ending: str) -> None:
    users = ['quote"', "back\\slash", "emoji 🛒", "line\u2028end", "ann"]
    rows = [order(user, number) for number, user in enumerate(users)]
    files.run(rows, "reference.parquet")
    files.run(rows, f"out.{ending}")
    found = files.transitions(f"out.{ending}")
    assert found == files.transitions("reference.parquet")
    assert {row["user_id"] for row in found} == {*users, "zoe"}
    assert list(found[0]) == [
        "transition_id", "audience_id", "audience_version", "user_id", "kind", "at", "n", "cause",
    ]  # fmt: skip


def test_ids_are_those_of_the_cluster_and_rows_are_in_order(files: Files) -> None:
    files.run([order(f"u{number % 7}", number * 13) for number in range(40)])
    rows = files.transitions()
    assert [row["transition_id"] for row in rows] == [
        transition_id(row["audience_id"], row["audience_version"], row["user_id"], row["at"], row["n"]) for row in rows
    ]
    keys = [(row["at"], row["audience_id"], row["user_id"], row["n"]) for row in rows]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_in_and_out_within_one_instant_are_both_kept_and_numbered(files: Files) -> None:
    files.run([order("ann", 0)])
    numbers = [(row["kind"], row["n"]) for row in files.transitions() if row["audience_id"] == "quiet"][:2]
    assert numbers == [("entered", 0), ("exited", 1)]


def test_a_later_until_makes_the_changes_due_up_to_then(files: Files) -> None:
    files.run([order("ann", 0)], until=str(START_MS + 59_999))
    assert ("recent", "exited") not in [(row["audience_id"], row["kind"]) for row in files.transitions()]
    files.run([order("ann", 0)], until="2025-11-30T16:01:00Z")
    assert ("recent", "exited") in [(row["audience_id"], row["kind"]) for row in files.transitions()]


def test_an_earlier_until_ends_the_reading_at_the_first_row_above_it(files: Files) -> None:
    summary = files.run([order("ann", 0), order("bob", 10), order("cat", 5)], until=str(START_MS + 9_000))
    assert summary.events == 1
    assert "bob" not in {row["user_id"] for row in files.transitions()}


def test_rows_are_counted_once_by_what_became_of_them(files: Files) -> None:
    rows = [
        order("ann", 0, message_id="m"),
        order("ann", 1, message_id="m"),
        order("ann", 2, timestamp=START_MS - 40 * 86_400_000),
        order("", 3),
        order("ann", 4, event="other"),
        {"type": "track", "event": "order", "user_id": "ann"},
    ]
    summary = files.run(rows)
    assert summary.accepted == 1
    assert dict(summary.rejected) == {"duplicate": 1, "too_late": 1, "no_key": 1, "no_model": 1, "no_timestamp": 1}
    assert summary.accepted + sum(summary.rejected.values()) == summary.events == 6


def test_without_a_row_that_has_a_time_there_are_no_transitions(files: Files) -> None:
    summary = files.run([{"type": "track", "event": "order", "user_id": "ann"}])
    assert files.transitions() == []
    assert dict(summary.rejected) == {"no_timestamp": 1}


def test_the_json_object_has_exactly_the_keys_of_the_contract(files: Files) -> None:
    files.run([order("ann", 0)])
    arguments = ["replay", "--definitions", str(files.definitions), "--events", str(files.events)]
    arguments += ["--traits", f"users={files.traits}", "--out", str(files.folder / "o.arrow"), "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert list(json.loads(result.stdout)) == [
        "events", "accepted", "rejected", "transitions", "read_s", "evaluate_s", "write_s", "peak_rss_bytes",
    ]  # fmt: skip


# --- bad input: a clear error, and no file ---------------------------------------------------------


def broken_traits(files: Files) -> dict[str, Any]:
    pq.write_table(pa.table({"user_id": ["ann"], "other": [1.0]}), files.traits)
    return {}


def unsupported_source(files: Files) -> dict[str, Any]:
    source = {"id": "shop", "kind": "file"}
    files.definitions.write_text(json.dumps({**DOCUMENT, "sources": [source]}))
    return {}


BAD: list[tuple[type[UsherError], str, Any]] = [
    (InputError, "ending", lambda files: {"out": "out.csv"}),
    (InputError, "folder", lambda files: {"out": "nowhere/out.arrow"}),
    (InputError, "no time", lambda files: {"until": "tomorrow"}),
    (InputError, "twice", lambda files: {"traits": (str(files.traits), f"users={files.traits}")}),
    (SnapshotError, "ltv", broken_traits),
    (InputError, "no parent model 'shops'", lambda files: {"traits": (f"shops={files.traits}",)}),
    (SnapshotError, "names no file", lambda files: {"traits": ("gone.parquet",)}),
    (DefinitionError, "files are not read as a source", unsupported_source),
]


@pytest.mark.parametrize(("kind", "says", "spoil"), BAD, ids=[says for _, says, _ in BAD])
def test_bad_input_leaves_no_file(files: Files, kind: type[UsherError], says: str, spoil: Any) -> None:
    with pytest.raises(kind, match=says):
        files.run([order("ann", 0)], **spoil(files))
    assert files.left_behind() == set()


def test_a_bad_line_at_the_end_keeps_the_result_of_the_run_before(files: Files) -> None:
    files.run([order("ann", 0)])
    before = files.transitions()
    files.events.write_text(json.dumps(order("ann", 0)) + "\n[1]\n")
    with pytest.raises(EventFileError, match="line 2"):
        replay(ReplayOptions((files.definitions,), files.events, files.folder / "out.ndjson", (str(files.traits),)))
    assert files.transitions() == before
    assert files.left_behind() == {"out.ndjson"}


def test_with_several_parents_each_file_names_its_own(files: Files) -> None:
    second = {"id": "shops", "primary_key": "shop_id", "traits": {"columns": {"size": {"type": "number"}}}}
    parents = [*DOCUMENT["parent_models"], second]
    files.definitions.write_text(json.dumps({**DOCUMENT, "parent_models": parents}))
    with pytest.raises(InputError, match="PARENT=FILE"):
        files.run([order("ann", 0)])
    files.run([order("ann", 0)], traits=(f"users={files.traits}",))
    assert ("rich", "ann") in [(row["audience_id"], row["user_id"]) for row in files.transitions()]


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1764518400000", START_MS),
        ("5", 5),
        ("2025-11-30T16:00:00Z", START_MS),
        ("2025-11-30T17:00:00+01:00", START_MS),
    ],
)
def test_until_is_rfc_3339_or_ms(text: str, at_ms: int) -> None:
    assert time_of(text) == at_ms


# --- the worked cases ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(1, 9))
def test_worked_case(number: int, tmp_path: Path) -> None:
    folder = CASES / f"case-{number}"
    document = json.loads((folder / "definitions.json").read_text())
    later = {fault.found.split()[-1] for fault in unsupported(parse_document(document, "case", {}))}
    document["audiences"] = [audience for audience in document["audiences"] if audience["id"] not in later]
    evaluated = {audience["id"] for audience in document["audiences"]}
    definitions = tmp_path / "definitions.json"
    definitions.write_text(json.dumps(document))
    out = tmp_path / "out.ndjson"
    replay(ReplayOptions((definitions,), folder / "events.ndjson", out, (str(folder / "traits.parquet"),)))
    found = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [json.loads(line) for line in (folder / "expected.ndjson").read_text().splitlines()]
    assert evaluated
    assert without_pairs(found) == without_pairs([row for row in expected if row["audience_id"] in evaluated])


def without_pairs(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What is left of each (user, audience, instant) once in-and-out pairs are dropped, in order."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["at"], row["audience_id"], row["user_id"]), []).append(row)
    return sorted((*key, group[-1]["kind"]) for key, group in groups.items() if len(group) % 2)

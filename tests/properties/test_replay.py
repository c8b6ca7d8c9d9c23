"""`usher replay` over real files is the reference's replay: transitions, their order, and the counts of rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from cluster.model.transitions import transition_id
from cluster.replay.run import ReplayOptions, ReplaySummary, replay
from tests.conftest import START_MS
from tests.properties.test_fixtures import CASES, COMPARED, lines
from tests.reference import evaluator as reference
from tests.strategies import Scenario, scenarios
from tests.strategies.conditions import iso

FIELDS = ("at", "audience_id", "user_id", "n", "kind", "cause", "audience_version")


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path = path / "events.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table_of(rows: Sequence[Any]) -> pa.Table:
    """Rows as a typed table: times as text, properties as JSON text, as an export of a warehouse has them."""
    texts = ("type", "event", "user_id", "anonymous_id", "group_id", "message_id", "source")
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in texts}
    times = [row.get("timestamp") for row in rows]
    columns["timestamp"] = pa.array([iso(time) if isinstance(time, int) else time for time in times], pa.string())
    columns["received_at"] = pa.array([row.get("received_at") for row in rows], pa.int64())
    for name in ("properties", "traits"):
        columns[name] = pa.array([json.dumps(row.get(name, {})) for row in rows], pa.string())
    return pa.table(columns)


def write_parquet(path: Path, rows: Sequence[Any]) -> Path:
    pq.write_table(table_of(rows), path / "events.parquet", row_group_size=7)
    return path / "events.parquet"


def write_arrow(path: Path, rows: Sequence[Any]) -> Path:
    table = table_of(rows)
    with pa.OSFile(str(path / "events.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return path / "events.arrow"


def run(
    document: Any, traits: Any, write: Callable[[Path, Sequence[Any]], Path], rows: Sequence[Any], until_ms: int | None
) -> tuple[ReplaySummary, list[dict[str, Any]]]:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        (path / "definitions.json").write_text(json.dumps(document))
        for parent, table in traits.items():
            pq.write_table(table, path / f"{parent}.parquet")
        options = ReplayOptions(
            definitions=(path / "definitions.json",),
            events=write(path, rows),
            out=path / "out.ndjson",
            traits=tuple(f"{parent}={path / parent}.parquet" for parent in traits),
            until=None if until_ms is None else str(until_ms),
        )
        return replay(options), lines(options.out)




def check(scenario: Scenario, write: Callable[[Path, Sequence[Any]], Path], until_ms: int | None) -> None:
    note(repr(scenario))
    expected = reference.replay(scenario.document, scenario.events, scenario.traits, until_ms)
    summary, found = run(scenario.document, scenario.traits, write, scenario.events, until_ms)
    assert [[each[name] for name in FIELDS] for each in found] == [
        [each[name] for name in FIELDS] for each in expected.transitions
    ]
    counted = Counter(summary.rejected) + Counter(events=summary.events, accepted=summary.accepted)
    assert counted == Counter(expected.counts)


untils = st.none() | st.sampled_from([-1, 0, 1_000, 5_000, 400_000]).map(lambda ms: START_MS + ms)


@given(scenarios(), untils)
@settings(max_examples=40)
def test_replay_of_lines_is_the_reference(scenario: Scenario, until_ms: int | None) -> None:
    check(scenario, write_lines, until_ms)


@given(scenarios(odd=False), untils, st.sampled_from([write_parquet, write_arrow]))
@settings(max_examples=40)
def test_replay_of_tables_is_the_reference(
    scenario: Scenario, until_ms: int | None, write: Callable[[Path, Sequence[Any]], Path]
) -> None:
    check(scenario, write, until_ms)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_replay_gives_the_worked_case(case: Path) -> None:
    document = json.loads((case / "definitions.json").read_text())
    traits = {"users": pq.read_table(case / "traits.parquet")}
    _, found = run(document, traits, write_lines, lines(case / "events.ndjson"), None)
    expected = lines(case / "expected.ndjson")
    assert [{name: each[name] for name in COMPARED} for each in reference.without_instant_pairs(found)] == [
        {name: each[name] for name in COMPARED} for each in expected
    ]
    identity = ("audience_id", "audience_version", "user_id", "at", "n")
    assert [each["transition_id"] for each in found] == [
        transition_id(*(each[name] for name in identity)) for each in found
    ]

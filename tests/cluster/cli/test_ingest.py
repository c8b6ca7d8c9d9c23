"""`usher ingest` against a real edge: what is sent arrives, what is said is true, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from tests.cluster.client.hosting import hosted
from tests.cluster.edge.serving import Site


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with hosted() as site:
        yield site


def ingest(site: Site, tmp_path: Path, *arguments: str) -> Result:
    env = {"COLUMNS": "200", "USHER_URL": site.url, "USHER_API_KEY": site.controller.api_keys["ingest"]}
    return CliRunner().invoke(app, ["ingest", *arguments, "--data-dir", str(tmp_path / "data")], env=env)


def events(folder: Path, count: int = 5) -> str:
    path = folder / "events.ndjson"
    rows: list[Any] = [{"userId": f"{folder.name}-u{i}", "event": "order", "channel": "web"} for i in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n{\n")
    return str(path)


def test_events_arrive_once_and_refused_rows_are_shown(here: Site, tmp_path: Path) -> None:
    file = events(tmp_path)
    result = ingest(here, tmp_path, file)
    assert result.exit_code == 0, result.stderr
    assert "5 events accepted, 0 duplicates, 1 rejected of 6 rows in 1 file" in result.stdout
    assert f"{file}:6" in result.stdout
    again = json.loads(ingest(here, tmp_path, file, "--json").stdout)
    assert (again["skipped"], again["rows"], again["accepted"]) == (6, 0, 0)
    restarted = json.loads(ingest(here, tmp_path, file, "--json", "--restart").stdout)
    assert (restarted["duplicates"], restarted["accepted"], restarted["rejected"]) == (5, 0, {"invalid_json": 1})


def test_columns_are_mapped_and_values_set(here: Site, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(f"customer,created,channel\n{tmp_path.name},2026-11-23T10:00:00Z,web\n")
    options = ("--map", "user_id=customer", "--map", "timestamp=created", "--set", "event=order")
    shown = ingest(here, tmp_path, str(path), *options, "--dry-run")
    assert shown.exit_code == 0
    assert f'"user_id": "{tmp_path.name}"' in shown.stdout
    assert '"properties": {"channel": "web"}' in shown.stdout
    result = ingest(here, tmp_path, str(path), *options, "--json")
    assert json.loads(result.stdout)["accepted"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.ndjson",), 1, "none.ndjson"),
        (("{file}", "--set", "colour=red"), 2, "--set colour=red"),
        (("{file}", "--map", "user_id"), 2, "--map user_id"),
        (("{file}", "--format", "xml"), 2, "xml"),
    ],
)
def test_wrong_use_is_told_with_its_exit_code(
    here: Site, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    file = events(tmp_path)
    result = ingest(here, tmp_path, *(argument.format(file=file) for argument in arguments))
    assert result.exit_code == code
    assert message in result.stderr


def test_a_read_key_may_not_send(here: Site, tmp_path: Path) -> None:
    env = {"USHER_URL": here.url, "USHER_API_KEY": here.controller.api_keys["read"]}
    result = CliRunner().invoke(app, ["ingest", events(tmp_path), "--data-dir", str(tmp_path)], env=env)
    assert result.exit_code == 1
    assert "ingest" in result.stderr

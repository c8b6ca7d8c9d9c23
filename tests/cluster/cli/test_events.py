"""`usher events` against a real edge: what was sent shows, and the suggestion is a document that validates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from cluster.client.blocking import Client
from tests.cluster.client.hosting import hosted
from tests.cluster.edge.serving import Site


@pytest.fixture(scope="module")
def here() -> Iterator[Site]:
    with hosted() as site:
        with Client(site.url, site.controller.api_keys["ingest"]) as client:
            client.events.send([
                {"type": "track", "event": "order", "user_id": f"u{i}", "properties": {"amount": i}} for i in range(3)
            ])  # fmt: skip
            client.events.send([{"type": "dance", "event": "Tango", "user_id": "u"}, {"type": "track"}])
        yield site


def usher(site: Site, *arguments: str, role: Any = "admin") -> Result:
    env = {"COLUMNS": "200", "USHER_URL": site.url, "USHER_API_KEY": site.controller.api_keys[role]}
    return CliRunner().invoke(app, ["events", *arguments], env=env)


def test_events_are_shown_by_name(here: Site) -> None:
    result = usher(here)
    assert result.exit_code == 0, result.stderr
    assert "order" in result.stdout
    rows = {row["name"]: row for row in json.loads(usher(here, "--json").stdout)["events"]}
    assert (rows["order"]["count"], rows["order"]["models"]) == (3, ["track"])
    assert rows["Tango"]["models"] == []
    unknown = json.loads(usher(here, "--json", "--unknown").stdout)["events"]
    assert "order" not in {row["name"] for row in unknown}


def test_one_event_is_shown_with_its_fields_and_a_sample(here: Site) -> None:
    shown = usher(here, "order").stdout
    assert "properties.amount" in shown
    assert '"user_id"' in shown
    assert "No event called nothing" in usher(here, "nothing").stderr


def test_a_suggestion_is_a_document_that_validates(here: Site, tmp_path: Path) -> None:
    out = tmp_path / "events.yaml"
    result = usher(here, "order", "--suggest", "--out", str(out))
    assert result.exit_code == 0, result.stderr
    assert "1 event model" in result.stderr
    text = out.read_text()
    assert "path: properties.amount" in text
    users = "parent_models: [{id: users, primary_key: user_id}]\n"
    (tmp_path / "users.yaml").write_text(users)
    validated = CliRunner().invoke(app, ["validate", str(out), str(tmp_path / "users.yaml")], env={"COLUMNS": "200"})
    assert validated.exit_code == 0, validated.stderr
    assert usher(here, "--suggest").stdout.startswith("version: 1")
    assert usher(here, "--out", str(out)).exit_code == 2


def test_samples_take_the_role_admin(here: Site) -> None:
    result = usher(here, role="edit")
    assert result.exit_code == 1

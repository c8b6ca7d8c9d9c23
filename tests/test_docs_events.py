"""docs/events.md is true: its documents are sound, its commands and their options exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli.main import app
from cluster.definitions.parsing import parse_documents

TEXT = (Path(__file__).parents[1] / "docs" / "events.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_sound_document(example: str) -> None:
    variables = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "value")
    assert parse_documents([("events.yaml", example)], variables, {}).event_models


@pytest.mark.parametrize("command", ["ingest", "events"])
def test_every_option_that_is_named_is_one_of_the_command(command: str) -> None:
    help_ = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).stdout
    lines = [line for line in re.findall(r"`?(usher [^`\n]*)", TEXT) if line.startswith(f"usher {command}")]
    assert lines
    for line in lines:
        for option in re.findall(r"--[a-z-]+", line.partition("#")[0]):
            assert option in help_, option

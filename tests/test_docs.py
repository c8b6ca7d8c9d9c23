"""Every condition that docs/conditions.md shows is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cluster.definitions.parsing import parse_document

TEXT = (Path(__file__).parents[1] / "docs" / "conditions.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
COLUMNS = {name: {"path": f"properties.{name}", "type": kind}
           for name, kind in (("channel", "string"), ("amount", "number"))}  # fmt: skip
TRAITS = {"ltv": {"type": "number"}, "last_seen": {"type": "timestamp"}, "tier": {"type": "string"}}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_sound_condition(example: str) -> None:
    model = {"parent": "users", "type": "track", "foreign_key": "user_id", "columns": COLUMNS}
    source = {"kind": "parquet", "path": "users.parquet"}
    parse_document(
        {
            "version": 1,
            "parent_models": [
                {"id": "users", "primary_key": "user_id", "traits": {"source": source, "columns": TRAITS}}
            ],
            "event_models": [{**model, "id": name, "event": name} for name in ("order", "view")],
            "audiences": [
                {"id": "vip", "parent": "users", "where": {"trait": "ltv", "gt": 1000}},
                {"id": "shown", "parent": "users", "where": yaml.safe_load(example)},
            ],
        },
        "docs/conditions.md",
        {},
    )


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6

"""docs/destinations.md is true: its tables are the kinds' own, its examples are sound."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from destinations.contract import Destination
from destinations.registry import OWN
from destinations.tables import identifiers_table, settings_table, shared_table
from tests.destinations.google.keys import key_file

PAGE = (Path(__file__).parents[2] / "docs" / "destinations.md").read_text()
SECTION = {text.split("\n", 1)[0]: text for text in re.split(r"^## ", PAGE, flags=re.MULTILINE)}
SECRETS = {"${GOOGLE_KEY_JSON}": key_file()}


def filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: filled(inner) for name, inner in value.items()}
    return SECRETS.get(value, value) if isinstance(value, str) else value


def test_keys_that_all_have_are_told_once() -> None:
    assert shared_table() in PAGE


@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_every_kind_has_its_section_with_its_own_tables(kind: Destination) -> None:
    section = SECTION[kind.kind]

    assert settings_table(kind) in section
    assert identifiers_table(kind) in section
    assert f"| [`{kind.kind}`](#{kind.kind}) |" in PAGE
    assert kind.api_version in section


@pytest.mark.parametrize("kind", OWN.values(), ids=OWN)
def test_the_example_of_every_kind_is_sound(kind: Destination) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", SECTION[kind.kind], re.DOTALL)

    assert examples
    for example in examples:
        for destination in yaml.safe_load(example)["destinations"]:
            own = {name: value for name, value in destination.items() if name not in ("id", "kind")}
            assert destination["kind"] == kind.kind
            kind.settings_model.model_validate(filled(own))

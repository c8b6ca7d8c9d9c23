"""docs/traits.md is true: every YAML in it is a sound document, and it names every kind and reason that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cluster.definitions.parsing import parse_documents
from cluster.definitions.trait_sources import TRAIT_SOURCES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "traits.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
ENVIRONMENT = {
    "LAKE_SECRET": "lake-secret", "CATALOG_TOKEN": "catalog-token", "SHOP_DATABASE": "postgresql://u:word@h/shop",
}  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_is_a_sound_document(example: str) -> None:
    definitions = parse_documents([("traits.yaml", example)], ENVIRONMENT, {})
    assert all(parent.sources for parent in definitions.parent_models.values())


def test_every_kind_is_described() -> None:
    kinds = {
        source.kind
        for example in EXAMPLES
        for parent in parse_documents([("traits.yaml", example)], ENVIRONMENT, {}).parent_models.values()
        for source in parent.sources
    }
    assert kinds | {"arrow"} == set(TRAIT_SOURCES)


def test_every_reason_of_a_failure_is_in_the_table() -> None:
    code = "".join(path.read_text() for path in (ROOT / "actors" / "traits").rglob("*.py"))
    reasons = set(re.findall(r'reason="(\w+)"', code)) | set(re.findall(r'self\._\w+\(error, "(\w+)"', code))
    described = set(re.findall(r"`(\w+)`", TEXT.partition("## When a source fails")[2]))
    assert reasons - described - {"unreadable", "reserved_name"} == set()

"""docs/stitching.md is true: its YAML is sound, and it names every bound and every reason that there is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import get_args

from actors.evaluator.stitching.links import QUIET, Verdict
from cluster.cli.status import _REFUSED
from cluster.definitions.model import Stitching
from cluster.definitions.parsing import parse_documents

TEXT = (Path(__file__).parents[1] / "docs" / "stitching.md").read_text()


def test_its_example_is_a_sound_document_with_stitching() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    definitions = parse_documents([("stitching.yaml", "version: 1\n" + example)], {}, {})
    assert definitions.stitched_parent is not None


def test_every_reason_and_every_bound_is_in_its_tables() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    reasons = set(get_args(Verdict)) - QUIET
    assert reasons == set(_REFUSED)
    assert named == reasons | {field.name for field in dataclasses.fields(Stitching)}
    for field in dataclasses.fields(Stitching):
        assert f"| `{field.name}` | {field.default:,} |" in TEXT

"""The worked cases of semantics.md, as far as this release evaluates their audiences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.properties import engine
from tests.reference.evaluator import without_instant_pairs

CASES = sorted((Path(__file__).parents[1] / "fixtures" / "semantics").glob("case-*"))
COMPARED = ("at", "audience_id", "user_id", "kind", "cause")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def evaluated_part(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with the audiences that this release evaluates, found one by one."""
    from cluster.definitions.evaluable import unsupported
    from cluster.definitions.parsing import parse_document

    named = {audience["id"]: audience for audience in document["audiences"]}

    def evaluated(audience: Mapping[str, Any]) -> bool:
        needed = {audience["id"]: audience}
        waiting = [audience]
        while waiting:
            for name in references(waiting.pop()["where"]):
                if name not in needed:
                    needed[name] = named[name]
                    waiting.append(named[name])
        return not unsupported(parse_document({**document, "audiences": list(needed.values())}, "case.json", {}))

    return {**document, "audiences": [audience for audience in document["audiences"] if evaluated(audience)]}


def references(node: Any) -> set[str]:
    """The audiences that a condition names."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["audience"]} if "audience" in node else set()
    return own.union(*map(references, node.values()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_engine_gives_the_expected_transitions(case: Path) -> None:
    document = evaluated_part(json.loads((case / "definitions.json").read_text()))
    kept = {audience["id"] for audience in document["audiences"]}
    assert len(kept) >= 5
    traits = {"users": pq.read_table(case / "traits.parquet")}
    run = engine.replay(document, lines(case / "events.ndjson"), traits)
    assert run is not None
    found = [{name: each[name] for name in COMPARED} for each in without_instant_pairs(run.transitions)]
    expected = [
        {name: each[name] for name in COMPARED}
        for each in lines(case / "expected.ndjson")
        if each["audience_id"] in kept
    ]
    assert found == expected

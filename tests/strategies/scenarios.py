"""A scenario: all that one run takes, and ways to cut its stream into batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.strategies.conditions import ALL_HEADS, Node
from tests.strategies.documents import audiences, documents, event_models, trait_tables
from tests.strategies.streams import Row, event_streams


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One document, its snapshots by parent, a stream, and how many ms after its last clock the run ends."""

    document: Mapping[str, Any]
    traits: Mapping[str, pa.Table]
    events: Sequence[Row]
    tail_ms: int = 0

    def __repr__(self) -> str:
        """Show what can be pasted into a test: tables as rows."""
        traits = {parent: table.to_pylist() for parent, table in self.traits.items()}
        rows = "".join(f"\n  {row}," for row in self.events)
        return f"Scenario(\n document={self.document},\n traits={traits},\n events=[{rows}],\n tail_ms={self.tail_ms})"


@st.composite
def scenarios(
    draw: st.DrawFn, heads: Sequence[str] = ALL_HEADS, max_events: int = 40, *, odd: bool = True
) -> Scenario:
    """A document of the given heads with a stream for it."""
    document = draw(documents(heads))
    return Scenario(
        document,
        draw(trait_tables(document)),
        draw(event_streams(max_events, odd=odd)),
        draw(st.sampled_from([0, 1, 4_999, 10_000, 400_000])),
    )


def cuts(count: int) -> st.SearchStrategy[list[int]]:
    """Places, ascending, at which a stream of `count` rows is cut into batches."""
    return st.sets(st.integers(0, count), max_size=5).map(sorted)


@st.composite
def steps(draw: st.DrawFn, scenario: Scenario) -> list[tuple[str, int, Any]]:
    """A live history: (`batch`, ms after the clock, rows), (`tick`, ms, None), (`traits`, ms, (parent, table)) and
    (`definitions`, ms, document). The scenario's rows come in order; their `received_at` is not looked at.
    """
    gaps = st.sampled_from([0, 0, 1, 500, 999, 1_000, 1_001, 5_000, 90_000])
    least_ms = 1  # the ms of a publication is its own
    events, history = list(scenario.events), []
    document = dict(scenario.document)
    for _ in range(draw(st.integers(1, 10))):
        kind = draw(st.sampled_from(["batch", "batch", "batch", "tick", "traits", "definitions"]))
        value: Any = None
        if kind == "batch":
            count = draw(st.integers(1, 6))
            value, events = events[:count], events[count:]
            kind = kind if value else "tick"
        elif kind == "traits":
            tables = draw(trait_tables(document))
            if not tables:
                continue
            value = draw(st.sampled_from(sorted(tables.items(), key=lambda item: item[0])))
        elif kind == "definitions":
            value = document = draw(changed(document))
        history.append((kind, max(least_ms, draw(gaps)), value))
        least_ms = 1 if kind == "definitions" else 0
    return history


@st.composite
def changed(draw: st.DrawFn, document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with audiences added, changed and gone; at times with other event models."""
    new = dict(document)
    if draw(st.integers(0, 2)) == 0:
        new["event_models"] = draw(event_models(document["parent_models"]))
    fresh = {audience["id"]: audience for audience in draw(audiences(new))}
    if new["event_models"] == document["event_models"]:
        kept = [audience for audience in document["audiences"] if draw(st.booleans())]
        fresh |= {audience["id"]: audience for audience in kept}
    return {**new, "audiences": _sound([fresh[name] for name in sorted(fresh)])}


def _sound(audiences: Sequence[Node]) -> list[Node]:
    """Those that refer to audiences of their parent alone; what they refer to comes earlier."""
    parents: dict[str, str] = {}
    for audience in audiences:
        if all(parents.get(name) == audience["parent"] for name in references(audience["where"])):
            parents[audience["id"]] = audience["parent"]
    return [audience for audience in audiences if audience["id"] in parents]


def references(node: Any) -> set[str]:
    """The audiences that a condition names."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["audience"]} if "audience" in node else set()
    return own.union(*map(references, node.values()))

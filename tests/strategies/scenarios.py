"""A scenario: all that one run takes, and ways to cut its stream into batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.strategies.conditions import EVALUATED_HEADS
from tests.strategies.documents import documents, trait_tables
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
    draw: st.DrawFn, heads: Sequence[str] = EVALUATED_HEADS, max_events: int = 25, *, odd: bool = True
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

"""An event's cost follows the conditions that it matches: pages hold few leaves beside those of its own filter."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.evaluator.compiling import compile_program
from actors.evaluator.layout import NARROW, NARROW_MAX, PLAIN, SIMPLE, ProgramArrays
from actors.evaluator.structures import PAGE_LEAVES_MAX, SIMPLE_LEAVES_MAX
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import publish


def compiled(conditions: list[dict[str, Any]]) -> ProgramArrays:
    document = {
        "version": 1,
        "parent_models": [{"id": "users", "primary_key": "user_id"}],
        "event_models": [{
            "id": "view", "parent": "users", "type": "track", "event": "view", "foreign_key": "user_id",
            "timestamp": "timestamp", "retention": "90d",
            "columns": {"campaign": {"path": "properties.campaign", "type": "string"}},
        }],
        "audiences": [
            {"id": f"a{i}", "parent": "users", "where": {"event": "view", **condition}}
            for i, condition in enumerate(conditions)
        ],
    }  # fmt: skip
    return compile_program(publish(None, parse_document(document, "<test>", {}))).arrays


def of_campaign(campaign: int, seconds: int) -> dict[str, Any]:
    return {"where": {"property": "campaign", "eq": f"c{campaign}"}, "within": f"{seconds}s"}


def test_campaigns_of_one_model_share_no_page_where_they_are_many() -> None:
    arrays = compiled([of_campaign(campaign, 60 + n) for campaign in range(20) for n in range(10)])
    assert np.diff(arrays.page_leaves).max() <= PAGE_LEAVES_MAX
    assert (np.bincount(arrays.struct_page) <= 1).all()


def test_few_conditions_of_a_model_lie_together() -> None:
    arrays = compiled([of_campaign(campaign, 60) for campaign in range(5)])
    assert np.diff(arrays.page_leaves).tolist() == [5]
    assert arrays.page_plain.tolist() == [NARROW]


def test_a_page_is_narrow_while_offsets_reach_as_far_as_its_windows() -> None:
    for span_ms, kind in ((NARROW_MAX, NARROW), (NARROW_MAX + 1, SIMPLE)):
        arrays = compiled([{"within": "60s"}, {"within": f"{span_ms}ms"}])
        assert arrays.page_plain.tolist() == [kind]


def test_very_many_leaves_of_one_filter_are_looked_at_by_their_bits() -> None:
    arrays = compiled([of_campaign(0, 60 + n) for n in range(SIMPLE_LEAVES_MAX + 1)])
    [page] = np.flatnonzero(np.diff(arrays.page_leaves))
    assert arrays.page_plain[page] == PLAIN

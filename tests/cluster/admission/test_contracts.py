"""Contracts: what is broken is counted by rule, what blocks is not taken, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission import contracts
from cluster.admission.contracts import OTHER_RULE, Violation
from cluster.admission.decoder import Decoder
from cluster.admission.hits import Decoded
from cluster.admission.plain import decode_plain
from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.wire.envelope import concat
from tests.cluster.admission.building import envelope, model, plan_of

COLUMNS = {"amount": ("properties.amount", "number"), "channel": ("properties.channel", "string")}
SCHEMA = {
    "type": "object", "required": ["channel"],
    "properties": {"amount": {"type": "number", "minimum": 0}, "channel": {"enum": ["web", "app"]},
                   "items": {"items": {"type": "string"}}},
}  # fmt: skip


def order(**properties: Any) -> dict[str, Any]:
    return {"type": "track", "event": "order", "user_id": "u", "properties": properties}


def plan(mode: str = "warn", *others: dict[str, Any], **contract: Any) -> EventPlan:
    own = model("order", event="order", columns=COLUMNS, contract={"mode": mode, **contract})
    return plan_of(own, *others)


def decode(plan: EventPlan, *events: Any) -> Decoded:
    batch = envelope(*events)
    decoded, slow = Decoder(plan).decode(batch), decode_plain(plan, batch)
    assert decoded.hits.to_pylist() == slow.hits.to_pylist()
    assert (decoded.rejected, decoded.invalid_values) == (slow.rejected, slow.invalid_values)
    assert decoded.violations == slow.violations
    return decoded


def test_a_required_column_is_missing_when_it_has_no_value_of_its_type() -> None:
    events = [order(amount=1), order(amount="much"), order(amount=None), order(), order(amount="2.5")]
    decoded = decode(plan(required=["amount"]), *events)
    assert decoded.violations == [Violation("order", "amount is missing", 3, 1)]
    assert decoded.hits.num_rows == 5


def test_a_schema_is_about_properties_and_its_rules_are_told_by_place_and_keyword() -> None:
    events = [
        order(channel="web"), order(), order(channel="tv", amount=-1), order(channel="web", items=["a", 1]),
        {**order(), "properties": None}, {**order(), "properties": "x"}, order(channel="web", amount="1"),
    ]  # fmt: skip
    assert decode(plan(schema=SCHEMA), *events).violations == [
        Violation("order", "/: required", 3, 1),
        Violation("order", "/amount: minimum", 1, 2),
        Violation("order", "/amount: type", 1, 6),
        Violation("order", "/items/*: type", 1, 3),
    ]


@pytest.mark.parametrize("mode", ["allow", "warn", "block"])
def test_only_block_keeps_an_event_from_its_model(mode: str) -> None:
    decoded = decode(plan(mode, required=["amount"]), order(), order(amount=1))
    assert decoded.hits["row"].to_pylist() == ([1] if mode == "block" else [0, 1])
    assert decoded.rejected == ([(0, "contract")] if mode == "block" else [])
    assert decoded.violations == [Violation("order", "amount is missing", 1, 0)]


def test_another_model_may_take_what_one_blocks_and_then_the_row_is_not_rejected() -> None:
    both = plan("block", model("any"), required=["amount"])
    decoded = decode(both, order(), order(amount=2))
    assert [(hit["row"], hit["model"]) for hit in decoded.hits.to_pylist()] == [(0, 1), (1, 0), (1, 1)]
    assert decoded.rejected == []


def test_a_graver_reason_than_the_contract_is_told_first() -> None:
    other = model("keyed", event="order", foreign_key="properties.key")
    found = decode(plan("block", other, required=["amount"]), order(key="k" * 2_000), order())
    assert found.rejected == [(0, "invalid"), (1, "contract")]


def test_rules_of_several_formats_are_counted_together_by_their_first_row() -> None:
    one = envelope(order(amount=1), order())
    sdk = envelope({"type": "track", "event": "order", "userId": "u"}, fmt=Format.SEGMENT)
    decoded = Decoder(plan(required=["amount"])).decode(concat([one, sdk]))
    assert decoded.violations == [Violation("order", "amount is missing", 2, 1)]


def test_rules_beyond_the_bound_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "RULES_MAX", 2)
    schema = {"additionalProperties": {"type": "string"}}
    events = [order(**{name: 1}) for name in "abcde"]
    rules = {violation.rule: violation.events for violation in decode(plan(schema=schema), *events).violations}
    assert rules == {"/a: type": 1, "/b: type": 1, OTHER_RULE: 3}


properties = st.fixed_dictionaries({}, optional={
    "amount": st.none() | st.sampled_from([0, -1, 2.5, "3", "x", True, [1]]),
    "channel": st.none() | st.sampled_from(["web", "tv", 7]),
    "items": st.lists(st.sampled_from(["a", 1, None]), max_size=2),
})  # fmt: skip


@given(st.lists(properties, max_size=8), st.sampled_from(["warn", "block"]), st.booleans(), st.booleans())
def test_the_fast_way_is_the_plain_way(
    events: list[dict[str, Any]], mode: str, with_schema: bool, with_columns: bool
) -> None:
    contract: dict[str, Any] = {"schema": SCHEMA} if with_schema else {}
    contract |= {"required": ["amount", "channel"]} if with_columns else {}
    decode(plan(mode, model("any"), **contract), *(order(**one) for one in events))

"""Suggested models: sound documents that take the events they were made of."""

from __future__ import annotations

from typing import Any

from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.definitions.parsing import parse_document
from cluster.definitions.suggesting import suggest
from tests.cluster.admission.building import envelope
from tests.cluster.edge.test_sightings import PLAN, counted

EVENTS: list[dict[str, Any]] = [
    {"type": "track", "event": "Order Completed!", "user_id": "u", "anonymous_id": "a", "properties": {
        "amount": 5, "currency": "EUR", "paid_at": "2026-11-23T10:00:00Z", "gift": False, "skus": ["a"],
        "customer": {"email": "a@example.com", "currency": "USD"}, "mixed": 1}},
    {"type": "track", "event": "Order Completed!", "user_id": "u", "properties": {"mixed": "x"}},
    {"type": "page", "event": "home", "user_id": "u"},
    {"type": "screen", "event": "Cart", "anonymous_id": "a", "properties": {"n": 1}},
    {"type": "identify", "user_id": "u", "traits": {"email": "a@example.com", "plan": "pro"}},
    {"type": "track", "event": "order", "user_id": "u"},
    {"type": "alias", "user_id": "u"},
]  # fmt: skip


def seen() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = counted(PLAN, *(envelope(event) for event in EVENTS)).report()["events"]
    return rows


def test_models_are_suggested_for_what_none_takes_and_are_sound() -> None:
    document = suggest(seen(), {})
    said = {
        "email": {"type": "string", "source": "identify", "pii": True},
        "plan": {"type": "string", "source": "identify"},
    }
    assert document["parent_models"] == [{"id": "users", "primary_key": "user_id", "traits": {"columns": said}}]
    assert {model["id"]: model for model in document["event_models"]} == {
        "order_completed": {
            "id": "order_completed", "parent": "users", "event": "Order Completed!",
            "foreign_key": ["user_id", "anonymous_id"],
            "columns": {
                "mixed": {"path": "properties.mixed", "type": "string"},
                "amount": {"path": "properties.amount", "type": "number"},
                "currency": {"path": "properties.currency", "type": "string"},
                "paid_at": {"path": "properties.paid_at", "type": "timestamp"},
                "gift": {"path": "properties.gift", "type": "boolean"},
                "skus": {"path": "properties.skus", "type": "list"},
                "email": {"path": "properties.customer.email", "type": "string", "pii": True},
                "properties_customer_currency": {"path": "properties.customer.currency", "type": "string"},
            },
        },
        "screen_cart": {
            "id": "screen_cart", "parent": "users", "type": "screen", "event": "Cart", "foreign_key": "anonymous_id",
            "columns": {"n": {"path": "properties.n", "type": "number"}},
        },
        "identify": {"id": "identify", "parent": "users", "type": "identify", "foreign_key": "user_id"},
    }  # fmt: skip
    definitions = parse_document(document, "suggested.yaml", {})
    taken = Decoder(EventPlan(definitions)).decode(envelope(EVENTS[0], EVENTS[3], EVENTS[4])).hits
    assert sorted(taken["row"].to_pylist()) == [0, 1, 2]


def test_ids_differ_from_those_there_are_and_parents_are_those_there_are() -> None:
    document = suggest(seen(), {"parent_models": [{"id": "people"}], "event_models": [{"id": "order_completed"}]})
    assert "parent_models" not in document
    first = document["event_models"][0]
    [calls] = [model for model in document["event_models"] if model.get("type") == "identify"]
    assert calls["columns"]["plan"] == {"path": "traits.plan", "type": "string"}
    assert (first["id"], first["parent"]) == ("order_completed_2", "people")


def test_names_that_are_asked_for_get_a_model_though_one_takes_them() -> None:
    assert [model["event"] for model in suggest(seen(), {}, ["order"])["event_models"]] == ["order"]

"""Rows as events: fields renamed, the others properties, values as decoders take them, ids that never change."""

from __future__ import annotations

import datetime as dt
import decimal
import json
from typing import Any

import pytest

from cluster.ingest.shaping import NotAnEvent, Shape


def event(row: dict[str, Any], shape: Shape | None = None, number: int = 0, file: str = "f") -> dict[str, Any]:
    made: dict[str, Any] = json.loads((shape or Shape()).event(row, file, number))
    return made


def bare(row: dict[str, Any], shape: Shape | None = None) -> dict[str, Any]:
    made = event(row, shape)
    made.pop("message_id")
    return made


def test_columns_that_are_no_field_become_properties_and_a_given_property_wins() -> None:
    row = {"userId": "u1", "event": "order", "amount": 5, "channel": "web", "properties": {"channel": "app"}}
    assert bare(row) == {
        "user_id": "u1", "event": "order", "type": "track", "properties": {"amount": 5, "channel": "app"},
    }  # fmt: skip


def test_columns_are_renamed_and_values_set() -> None:
    shape = Shape({"user_id": "customer", "timestamp": "created"}, {"event": "order_completed", "source": "archive"})
    assert bare({"customer": 7, "created": "2026-11-23T10:00:00Z", "event": "x"}, shape) == {
        "user_id": 7, "timestamp": "2026-11-23T10:00:00Z", "event": "order_completed", "source": "archive",
        "type": "track",
    }  # fmt: skip


def test_values_are_what_json_can_hold() -> None:
    at = dt.datetime(2026, 11, 23, 10, 0, 0, 123_000, dt.UTC)
    row = {
        "timestamp": at, "day": dt.date(2026, 11, 23), "price": decimal.Decimal("12.50"),
        "count": decimal.Decimal("3.00"), "tags": ["a", None], "odd": float("nan"), "nested": {"at": at, "b": b"x"},
        "map": [("k", 1)], "missing": None,
    }  # fmt: skip
    assert bare(row) == {
        "timestamp": "2026-11-23T10:00:00.123000+00:00", "type": "track",
        "properties": {"day": "2026-11-23T00:00:00Z", "price": 12.5, "count": 3, "tags": ["a", None], "odd": None,
                       "nested": {"at": "2026-11-23T10:00:00.123000+00:00", "b": "b'x'"}, "map": {"k": 1}},
    }  # fmt: skip


def test_objects_may_be_json_text_and_what_is_none_is_refused() -> None:
    assert bare({"properties": '{"a": 1}', "context": [("ip", "::1")]}) == {
        "type": "track", "properties": {"a": 1}, "context": {"ip": "::1"},
    }  # fmt: skip
    for bad in ("{", "[1]", "7", 7, ["a"]):
        with pytest.raises(NotAnEvent, match="traits_is_no_object"):
            event({"traits": bad})


def test_a_message_id_is_kept_or_made_of_file_row_and_content() -> None:
    assert event({"messageId": "m1"})["message_id"] == "m1"
    first = event({"user_id": "u"})["message_id"]
    assert event({"user_id": "u"})["message_id"] == first
    others = [event({"user_id": "v"}), event({"user_id": "u"}, number=1), event({"user_id": "u"}, file="g")]
    assert len({first, *(one["message_id"] for one in others)}) == 4

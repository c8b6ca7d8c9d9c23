"""Snowplow's tracker protocol: what the events of captured requests become, and what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from cluster.errors import WireError
from cluster.limits import JSON_DEPTH_MAX, REQUEST_EVENTS_MAX
from cluster.wire.snowplow import Asked, SnowplowRequest, read_payload, read_query

FIXTURES = Path(__file__).parents[2] / "fixtures" / "ingest" / "snowplow"
CAPTURED = sorted(FIXTURES.glob("*.json"))
SCHEMA = "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4"
MADE, SENT = 1_795_439_181_393, 1_795_439_182_000


def payload(*events: Any, schema: str = SCHEMA) -> bytes:
    return json.dumps({"schema": schema, "data": events}).encode()


def read(body: bytes, query: Mapping[str, str] | None = None, **asked: Any) -> SnowplowRequest:
    numbers = count(1)
    return read_payload(body, Asked(query or {}, **asked), lambda: f"made-{next(numbers)}")


def events(read: SnowplowRequest) -> list[dict[str, Any]]:
    return [json.loads(text) for texts in read.texts.values() for text in texts]


def event(fields: dict[str, Any], query: Mapping[str, str] | None = None, **asked: Any) -> dict[str, Any]:
    found = read(payload({"p": "web", "tv": "t-1", **fields}), query, **asked)
    assert found.rejected == 0
    (only,) = events(found)
    return only


def self_describing(data: Any, schema: str = "iglu:com.example/order_completed/jsonschema/1-0-2") -> str:
    return json.dumps({"schema": "iglu:x/unstruct_event/jsonschema/1-0-0", "data": {"schema": schema, "data": data}})


def packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_every_captured_event_is_read(path: Path) -> None:
    captured = json.loads(path.read_text())
    for request in captured["requests"]:
        query = dict(parse_qsl(request["query"], keep_blank_values=True))
        sent = json.loads(request["body"])["data"] if request["body"] else [query]
        body = request["body"].encode()
        found = read(body, query) if body else read_query(Asked(query), lambda: "made")
        assert found.rejected == 0
        assert set(found.texts) == {fields.get("aid", "") for fields in sent}
        assert [e["messageId"] for e in events(found)] == [fields["eid"] for fields in sent]
        for got, fields in zip(events(found), sent, strict=True):
            assert got.get("userId") == fields.get("uid")
            assert got["type"] == ("page" if fields["e"] == "pv" else "track")


def captured_event(name: str) -> dict[str, Any]:
    request = json.loads((FIXTURES / f"snowplow-tracker-{name}.json").read_text())["requests"][0]
    (only,) = events(read(request["body"].encode()))
    return only


@pytest.mark.parametrize(("name", "total"), [("self-describing", 129.9), ("self-describing-plain", 12)])
def test_a_self_describing_event_is_named_by_its_schema(name: str, total: float) -> None:
    got = captured_event(name)
    assert (got["type"], got["event"]) == ("track", "order_completed")
    assert got["properties"]["total"] == total
    about = got["context"]["snowplow"]
    assert (about["vendor"], about["version"]) == ("com.example.shop", "1-0-2")
    assert got["context"]["app"] == {"name": "shop-web"}


def test_entities_are_lists_by_name_and_the_first_of_each_alone() -> None:
    context = captured_event("entities")["context"]
    assert [product["sku"] for product in context["product"]] == ["SKU-1", "SKU-2"]
    assert context["entity"]["product"] == {"sku": "SKU-1", "price": 29.95}
    assert context["user"] == [{"plan": "pro", "email": "ada@example.com"}]


def test_a_page_view_and_a_page_ping_say_where() -> None:
    page = {"url": "https://a.example/x", "page": "X", "refr": "https://b.example"}
    where = {"url": "https://a.example/x", "title": "X", "referrer": "https://b.example"}
    view = event({"e": "pv", **page})
    assert (view["type"], view["name"], view["properties"]) == ("page", "page_view", where)
    assert view["context"]["page"] == where
    ping = event({"e": "pp", "pp_mix": "0", "pp_max": "12", "pp_miy": "3.5", "pp_may": "far", **page})
    assert (ping["type"], ping["event"]) == ("track", "page_ping")
    assert ping["properties"] == {**where, "x_min": 0, "x_max": 12, "y_min": 3.5, "y_max": "far"}


@pytest.mark.parametrize("kind", ["se", "ev"])
def test_a_structured_event_is_named_by_its_action(kind: str) -> None:
    fields = {"e": kind, "se_ca": "shop", "se_ac": "add", "se_la": "shoe", "se_pr": "red", "se_va": "1.50"}
    got = event(fields)
    assert (got["type"], got["event"]) == ("track", "add")
    values = {"category": "shop", "action": "add", "label": "shoe", "property": "red", "value": 1.5}
    assert got["properties"] == values


def test_old_commerce_events_have_their_numbers() -> None:
    whole = event({"e": "tr", "tr_id": "o-1", "tr_tt": "30", "tr_cu": "EUR"})
    assert (whole["event"], whole["properties"]) == ("transaction", {"id": "o-1", "total": 30, "currency": "EUR"})
    item = event({"e": "ti", "ti_id": "o-1", "ti_sk": "s", "ti_pr": "9.99", "ti_qu": "2"})
    assert (item["event"], item["properties"]["price"], item["properties"]["quantity"]) == ("transaction_item", 9.99, 2)


def test_who_it_was() -> None:
    assert event({"e": "pv", "uid": 7, "duid": "d", "eid": "e-1"}).items() >= {
        "userId": "7", "anonymousId": "d", "messageId": "e-1",
    }.items()  # fmt: skip
    assert event({"e": "pv", "uid": "", "nuid": "n"})["anonymousId"] == "n"
    assert event({"e": "pv", "tnuid": "n"}, network_id="cookie")["anonymousId"] == "n"
    assert event({"e": "pv"}, network_id="cookie")["anonymousId"] == "cookie"
    assert event({"e": "pv", "eid": None})["messageId"] == "made-1"
    hidden = event({"e": "pv", "nuid": "n", "ip": "10.0.0.1"}, network_id="cookie", anonymous=True)
    assert "anonymousId" not in hidden
    assert "10.0.0.1" not in json.dumps(hidden)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ttm": str(MADE), "dtm": "1", "stm": str(SENT)}, {"originalTimestamp": MADE}),
        ({"dtm": str(MADE), "stm": str(SENT)}, {"originalTimestamp": MADE, "sentAt": SENT}),
        ({"dtm": MADE, "stm": SENT}, {"originalTimestamp": MADE, "sentAt": SENT}),
        ({"dtm": str(SENT), "stm": str(SENT)}, {}),
        ({"dtm": str(SENT), "stm": str(MADE)}, {}),
        ({"dtm": str(MADE)}, {}),
        ({"dtm": "yesterday", "stm": "9" * 40}, {}),
    ],
)
def test_its_time(fields: dict[str, Any], said: dict[str, int]) -> None:
    got = event({"e": "pv", **fields})
    assert {key: got[key] for key in ("originalTimestamp", "sentAt") if key in got} == said
    assert "timestamp" not in got


def test_events_of_one_request_come_in_the_order_they_were_made() -> None:
    made = [{"e": "pv", "eid": name, "dtm": str(MADE + at)} for name, at in (("c", 3), ("a", 1), ("b", 2), ("b2", 2))]
    assert [got["messageId"] for got in events(read(payload(*made)))] == ["a", "b", "b2", "c"]


def test_the_query_goes_before_the_body_and_unknown_keys_stay() -> None:
    got = event({"e": "pv", "aid": "body", "uid": "u", "new_key": "x", "res": "10x20"}, {"uid": "from-query"})
    assert got["userId"] == "from-query"
    assert got["context"]["snowplow"] == {"p": "web", "new_key": "x", "res": "10x20"}


def test_base64_of_either_alphabet_with_or_without_padding() -> None:
    text = self_describing({"note": "ÿÿ>>??~~"})
    for encoded in (packed(text), packed(text).rstrip("="), base64.b64encode(text.encode()).decode()):
        assert event({"e": "ue", "ue_px": encoded})["properties"] == {"note": "ÿÿ>>??~~"}
    assert event({"e": "ue", "ue_px": packed(text), "ue_pr": self_describing({"note": "plain"})})["properties"] == {
        "note": "ÿÿ>>??~~"
    }


def test_nan_of_the_python_tracker_is_null() -> None:
    got = event({"e": "ue", "ue_pr": self_describing({"a": float("nan"), "b": 1})})
    assert got["properties"] == {"a": None, "b": 1}


DEEP = "[" * (JSON_DEPTH_MAX + 1) + "]" * (JSON_DEPTH_MAX + 1)


@pytest.mark.parametrize(
    "bad",
    [
        {"e": "xx"}, {"e": None}, {}, {"e": "se", "se_ca": "c"}, {"e": "se", "se_ac": "a"}, {"e": "ue"}, 7, None, [],
        {"e": "ue", "ue_px": "%%%"}, {"e": "ue", "ue_px": packed("{")}, {"e": "ue", "ue_pr": '{"data":{"schema":1}}'},
        {"e": "ue", "ue_pr": self_describing([1])}, {"e": "ue", "ue_pr": self_describing({}, "order")},
        {"e": "ue", "ue_px": base64.b64encode(b"\xff\xfe").decode()}, {"e": "pv", "cx": "!"},
        {"e": "pv", "co": '{"data":[{"schema":"nothing","data":{}}]}'},
        {"e": "ue", "ue_pr": self_describing({"deep": json.loads(DEEP)})},
    ],
)  # fmt: skip
def test_a_bad_event_is_refused_alone(bad: Any) -> None:
    found = read(payload({"e": "pv", "eid": "good"}, bad, {"e": "pv", "eid": "fine"}))
    assert [got["messageId"] for got in events(found)] == ["good", "fine"]
    assert found.rejected == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"), (b"[]", 400, "invalid_request"), (b'{"data":[]}', 400, "invalid_request"),
        (payload(schema="iglu:x/y/jsonschema/1-0-0"), 400, "invalid_request"), (b"\xff", 400, "invalid_json"),
        (DEEP.encode(), 400, "invalid_request"), (payload(*[{}] * (REQUEST_EVENTS_MAX + 1)), 413, "too_many_events"),
    ],
)  # fmt: skip
def test_what_is_no_payload_is_refused_whole(body: bytes, status: int, code: str) -> None:
    with pytest.raises(WireError) as caught:
        read(body)
    assert (caught.value.status, caught.value.code) == (status, code)

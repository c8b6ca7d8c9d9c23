"""Snowplow's paths: captured requests byte for byte, whose they are, answers that no tracker asks again for."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.limits import BODY_BYTES_MAX
from tests.cluster.edge.serving import DOCUMENT, Site, at_site
from tests.cluster.edge.test_segment import raw_exchange
from tests.cluster.wire.test_snowplow import CAPTURED, payload

PATH = "/com.snowplowanalytics.snowplow/tp2"
BOUGHT = {"e": "se", "se_ca": "shop", "se_ac": "bought", "uid": "u1", "aid": "shop-web", "p": "web", "tv": "t"}
GIF = 43


def at_shop(check: Callable[[Site], Awaitable[None]], *app_ids: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["sources"] += [
        {"id": f"snowplow{number}", "kind": "http", "app_id": app_id} for number, app_id in enumerate(app_ids)
    ]
    at_site(check, document=document)


async def post(site: Site, body: bytes, path: str = PATH, **headers: str) -> tuple[int, Any, Any]:
    headers = {"Content-Type": "application/json", **headers}
    return await site.call("POST", path, None, data=io.BytesIO(body), headers=headers)


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_a_captured_request_is_answered_as_the_collector_does(path: Path) -> None:
    captured = json.loads(path.read_text())

    async def check(site: Site) -> None:
        for request in captured["requests"]:
            status, answer = await raw_exchange(site.server.port, request)
            assert status == 200
            assert answer == b"ok" if request["method"] == "POST" else len(answer) == GIF
        assert len(site.evaluators[0].raw) == sum(
            len(json.loads(request["body"])["data"]) if request["body"] else 1 for request in captured["requests"]
        )
        assert set(site.server.metrics.events) <= {"accepted", "duplicate", "no_key"}

    at_shop(check, "*")


def test_an_application_names_its_source() -> None:
    async def check(site: Site) -> None:
        other = {**BOUGHT, "aid": "blog"}
        nameless = {key: value for key, value in BOUGHT.items() if key != "aid"}
        status, answer, _ = await post(site, payload(BOUGHT, other, nameless))
        assert (status, answer) == (200, "ok")
        sources = site.server.watcher.current.decoder.plan.sources
        found = sorted(sources[hit["source"]] for hit in site.evaluators[0].hits)
        assert found == ["snowplow0", "snowplow1", "snowplow1"]

    at_shop(check, "shop-web", "*")


def test_what_no_source_takes_is_counted_and_refused_where_nothing_else_came() -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await post(site, payload({**BOUGHT, "aid": "blog"}))
        assert (status, answer["code"]) == (403, "forbidden")
        assert "'blog'" in answer["message"]
        assert (await post(site, payload(BOUGHT, {**BOUGHT, "aid": "blog"})))[0] == 200
        assert site.server.metrics.events == {"accepted": 1, "unknown_application": 2}

    at_shop(check, "shop-web")


def test_a_pixel_is_an_event() -> None:
    async def check(site: Site) -> None:
        query = "e=se&se_ca=shop&se_ac=bought+it&uid=u%201&aid=shop-web&p=web&tv=t"
        for path in ("/i", "/ice.png", PATH):
            async with site.http.get(f"{site.url}{path}?{query}") as response:
                assert (response.status, response.content_type) == (200, "image/gif")
                assert len(await response.read()) == GIF
                assert "no-store" in response.headers["Cache-Control"]
        assert {json.loads(raw)["event"] for raw in site.evaluators[0].raw} == {"bought it"}
        assert set(site.evaluators[0].keys) == {"u 1"}
        assert (await site.call("GET", "/i?aid=shop-web", None))[0] == 400

    at_shop(check, "*")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no json", {}), (b"{}", {}), (payload(*[{}] * 50_001), {}),
        (b"{}", {"Content-Encoding": "rot13"}), (b"\x1f\x8b?", {"Content-Encoding": "gzip"}),
        (gzip.compress(b" " * (BODY_BYTES_MAX + 1)), {"Content-Encoding": "gzip"}),
    ],
    ids=["no-json", "no-payload", "many", "encoding", "broken-gzip", "bomb"],
)  # fmt: skip
def test_what_can_never_be_taken_is_400(body: bytes, headers: dict[str, str]) -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await post(site, body, **headers)
        assert status == 400
        assert answer["code"]
        assert answer["message"]

    at_shop(check, "*")


def test_what_is_full_is_503() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 1_000}]
        assert (await post(site, payload(BOUGHT)))[0] == 503

    at_shop(check, "*")


def test_bad_events_are_counted_and_refuse_nobody() -> None:
    async def check(site: Site) -> None:
        assert (await post(site, payload({"e": "nothing"}, BOUGHT, {"e": "ue", "ue_px": "?"})))[0] == 200
        assert site.server.metrics.events == {"accepted": 1, "invalid": 2}

    at_shop(check, "*")


def test_browsers_may_send_cookies() -> None:
    async def check(site: Site) -> None:
        asked = {"Origin": "https://shop.example", "Access-Control-Request-Headers": "content-type, sp-anonymous"}
        status, _, headers = await site.call("OPTIONS", PATH, None, headers=asked)
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://shop.example")
        assert headers["Access-Control-Allow-Credentials"] == "true"
        anonymous = {key: value for key, value in BOUGHT.items() if key != "uid"}
        answer = await post(site, payload(anonymous), Cookie="sp=network-1", Origin="https://shop.example")
        assert (answer[0], answer[2]["Access-Control-Allow-Origin"]) == (200, "https://shop.example")
        assert site.evaluators[0].keys == ["network-1"]
        await post(site, payload(anonymous), Cookie="sp=network-1", **{"SP-Anonymous": "*"})
        assert site.evaluators[0].keys == ["network-1"]

    at_shop(check, "*")

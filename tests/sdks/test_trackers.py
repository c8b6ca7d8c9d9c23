"""Snowplow's trackers, of Python, Node and browsers: every event read as it was meant, refused ones sent again once."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any

import pytest
import snowplow_tracker as snowplow

from tests.cluster.edge.serving import Site, at_site
from tests.sdks import javascript
from tests.sdks.receiving import LONG_AGO, NEAR_MS, model, statuses, taken
from tests.sdks.test_browsers import browse

pytestmark = pytest.mark.timeout(400)  # the first one may wait for npm

PATH = "/com.snowplowanalytics.snowplow/tp2"
LONG_AGO_MS = round(LONG_AGO.timestamp() * 1000)
BOUGHT = {"channel": "web", "amount": 12.5, "note": "Füße 🎈"}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "settings": {"partitions": 16},
    "sources": [{"id": "shop", "kind": "http", "app_id": "shop-web"}],
    "parent_models": [{"id": "users", "primary_key": "user_id"}],
    "event_models": [
        model("viewed", "page", "page_view", url=("properties.url", "string"), title=("properties.title", "string"),
               referrer=("context.page.referrer", "string")),
        model("added", "track", "add_to_basket", category=("properties.category", "string"),
               label=("properties.label", "string"), value=("properties.value", "number")),
        model("bought", "track", "bought", channel=("properties.channel", "string"),
               amount=("properties.amount", "number"), note=("properties.note", "string"),
               sku=("context.entity.product.sku", "string"), vendor=("context.snowplow.vendor", "string")),
    ],
    "audiences": [
        {"id": "buyers", "name": "Buyers", "parent": "users", "where": {"event": "bought", "within": "5m"}},
    ],
}  # fmt: skip


def by_python(url: str, method: str, application: str = "shop-web") -> int:
    """Send three events; gives how often the tracker says that some were not taken."""
    failures: list[int] = []
    tracker = snowplow.Snowplow.create_tracker(
        namespace=f"{url} {method}", endpoint=url, method=method, app_id=application,
        emitter_config=snowplow.EmitterConfiguration(
            batch_size=10, on_failure=lambda sent, unsent: failures.append(len(unsent))
        ),
    )  # fmt: skip
    tracker.set_subject(snowplow.Subject().set_user_id("ann").set_domain_user_id("visitor-1"))
    tracker.track(snowplow.PageView("https://shop.example/shoes", "Shoes", "https://b.example"))
    tracker.track(snowplow.StructuredEvent("shop", "add_to_basket", "SKU-1", "red", 12.5))
    tracker.track(snowplow.SelfDescribing(
        snowplow.SelfDescribingJson("iglu:com.example/bought/jsonschema/1-0-2", BOUGHT),
        context=[snowplow.SelfDescribingJson("iglu:com.example/product/jsonschema/1-0-0", {"sku": "SKU-1"})],
        true_timestamp=LONG_AGO_MS,
    ))  # fmt: skip
    tracker.flush()
    return len(failures)


async def by_node(url: str, method: str, application: str = "shop-web") -> int:
    answer = await javascript.run(
        "trackers.mjs", url=url, application=application, method=method, userId="ann", trueMs=LONG_AGO_MS
    )
    failed: int = answer["failed"]
    return failed


async def track(site: Site, runtime: str, method: str, **more: str) -> int:
    if runtime == "node":
        return await by_node(site.url, method, **more)
    return await asyncio.to_thread(by_python, site.url, method, **more)


def check_story(site: Site) -> None:
    found = sorted(taken(site))
    assert [(event.model, event.key, event.values) for event in found] == [
        ("added", "ann", {"category": "shop", "label": "SKU-1", "value": 12.5}),
        ("bought", "ann", {**BOUGHT, "sku": "SKU-1", "vendor": "com.example"}),
        ("viewed", "ann", {
            "url": "https://shop.example/shoes", "title": "Shoes", "referrer": "https://b.example",
        }),
    ]  # fmt: skip
    for event in found:
        due_ms = time.time() * 1000 - LONG_AGO_MS if event.model == "bought" else 0
        assert abs(event.age_ms - due_ms) < NEAR_MS, event
    assert site.server.metrics.events == {"accepted": 3}


def at_shop(test: Any) -> None:
    at_site(test, document=copy.deepcopy(DOCUMENT))


@pytest.mark.parametrize("method", ["post", "get"])
@pytest.mark.parametrize("runtime", ["python", "node"])
def test_every_event_arrives_as_it_was_meant(runtime: str, method: str) -> None:
    async def check(site: Site) -> None:
        assert await track(site, runtime, method) == 0
        check_story(site)

    at_shop(check)


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_what_was_refused_for_now_is_sent_again_and_counts_once(runtime: str) -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 1_000}]
        assert await track(site, runtime, "post") == 1
        async with asyncio.timeout(60):
            while 200 not in statuses(site, PATH):
                await asyncio.sleep(0.02)
        assert statuses(site, PATH) == [200, 503]
        check_story(site)

    at_shop(check)


@pytest.mark.parametrize("runtime", ["python", "node"])
def test_an_application_that_nobody_takes_is_told_once(runtime: str) -> None:
    async def check(site: Site) -> None:
        assert await track(site, runtime, "post", application="blog") == 1
        assert statuses(site, PATH) == [403]
        assert site.server.metrics.events == {"unknown_application": 3}

    at_shop(check)


def test_a_page_delivers_what_its_visitor_does() -> None:
    async def check(site: Site) -> None:
        assert await browse(site, "snowplow") == []
        found = {event.model: event for event in taken(site)}
        assert set(found) == {"viewed", "added", "bought"}
        assert {event.key for event in found.values()} == {"ann"}
        assert found["bought"].values == {**BOUGHT, "sku": "SKU-1", "vendor": "com.example"}
        assert found["viewed"].values["title"] == "Shop"
        assert site.server.metrics.events == {"accepted": 3}

    at_shop(check)

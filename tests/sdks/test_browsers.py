"""The SDKs of browsers, in a real headless Chromium, from a page of another origin: preflights, settings, events."""

from __future__ import annotations

import pytest

from tests.cluster.edge.serving import Site
from tests.sdks import javascript
from tests.sdks.receiving import NEAR_MS, WRITE_KEY, at_shop, taken

pytestmark = pytest.mark.timeout(400)  # the first one may wait for npm


async def browse(site: Site, sdk: str) -> list[str]:
    """Let a page send three events; gives the errors that the browser shows."""
    answer = await javascript.run("browser.mjs", sdk=sdk, url=site.url, key=WRITE_KEY, events=3)
    if "unavailable" in answer:
        pytest.skip(f"Chromium does not start here, browsers are NOT tested: {answer['unavailable']}")
    errors: list[str] = answer["errors"]
    return errors


@pytest.mark.parametrize("sdk", ["segment", "rudderstack"])
def test_a_page_delivers_what_its_visitor_does(sdk: str) -> None:
    async def check(site: Site) -> None:
        assert await browse(site, sdk) == []
        found = taken(site)
        assert sorted((event.model, event.key) for event in found) == [
            ("bought", "ann"), ("home", "ann"), ("identified", "ann"),
        ]  # fmt: skip
        values = {event.model: event.values for event in found}
        assert values == {
            "identified": {"plan": "pro", "seats": 3.0},
            "home": {"section": "shoes"},
            "bought": {"channel": "web", "amount": 12.5},
        }
        assert all(event.source == "shop" and abs(event.age_ms) < NEAR_MS for event in found)
        assert site.server.metrics.events == {"accepted": 3}

    at_shop(check)


@pytest.mark.parametrize("sdk", ["segment", "rudderstack"])
def test_a_page_sends_again_what_was_refused_for_now(sdk: str) -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 1_000}]
        await browse(site, sdk)
        assert sorted(event.model for event in taken(site)) == ["bought", "home", "identified"]
        assert site.server.metrics.events == {"accepted": 3}

    at_shop(check)

"""The SDKs of servers: every call read as it was meant, and sent again when and only when it should be."""

from __future__ import annotations

import asyncio

import pytest

from tests.cluster.edge.serving import Site
from tests.sdks.receiving import STORY, at_shop, check_story, send, statuses

pytestmark = pytest.mark.timeout(400)  # the first one may wait for npm

SDKS = ("python segment", "python rudderstack", "node segment", "node rudderstack")
BOUGHT = [STORY[1]]


@pytest.mark.parametrize("sdk", SDKS)
def test_every_call_arrives_as_it_was_meant(sdk: str) -> None:
    async def check(site: Site) -> None:
        assert await send(site, sdk, STORY) == []
        check_story(site)

    at_shop(check)


@pytest.mark.parametrize("sdk", SDKS)
def test_what_was_refused_for_now_is_sent_again_and_counts_once(sdk: str) -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 1_000}]
        assert await send(site, sdk, BOUGHT) == []
        assert statuses(site, "/v1/batch") == [200, 503]
        assert site.server.metrics.events == {"accepted": 1}

    at_shop(check)


@pytest.mark.parametrize("sdk", SDKS)
def test_an_unknown_write_key_is_told_once_and_not_asked_again(sdk: str) -> None:
    async def check(site: Site) -> None:
        assert await send(site, sdk, BOUGHT, key="nobody") != []
        assert statuses(site, "/v1/batch") == [401]
        assert site.evaluators[0].calls == []

    at_shop(check)


#: RudderStack's for Node waits for its answer for ever.
@pytest.mark.parametrize("sdk", SDKS[:3])
def test_what_was_stored_but_not_answered_in_time_counts_once(sdk: str) -> None:
    async def check(site: Site) -> None:
        evaluator = site.evaluators[0]
        evaluator.gate = asyncio.Event()
        sending = asyncio.ensure_future(send(site, sdk, BOUGHT, timeout_s=1))
        async with asyncio.timeout(60):
            while len(evaluator.calls) < 2:
                await asyncio.sleep(0.01)
        evaluator.gate.set()
        assert await sending == []
        assert evaluator.hits[0]["message_id"] == evaluator.hits[1]["message_id"]
        assert site.server.metrics.events["duplicate"] >= 1
        assert len(evaluator.seen) == 1

    at_shop(check)

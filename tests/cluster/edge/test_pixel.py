"""RudderStack's pixel: an event in a query, a GIF in any case."""

from __future__ import annotations

import json

import pytest

from tests.cluster.edge.serving import WRITE_KEY, Site, at_site

GIF = b"GIF89a"


async def ask(site: Site, target: str) -> int:
    async with site.http.get(f"{site.url}{target}") as response:
        assert response.content_type == "image/gif"
        assert (await response.read()).startswith(GIF)
        assert "no-store" in response.headers["Cache-Control"]
        return response.status


def test_a_query_is_an_event() -> None:
    async def check(site: Site) -> None:
        query = "userId=u1&anonymousId=%22a%201%22&event=bought&properties.channel=web&context.page.url=x&event=twice"
        assert await ask(site, f"/pixel/v1/track?writeKey={WRITE_KEY}&{query}") == 200
        assert await ask(site, f"/pixel/v1/page?writeKey={WRITE_KEY}&userId=u2&name=") == 200
        track, page = (json.loads(raw) for raw in site.evaluators[0].raw)
        assert (track["type"], track["event"]) == ("track", "bought")
        assert (track["userId"], track["anonymousId"]) == ("u1", "a 1")
        assert (track["properties"], track["context"]) == ({"channel": "web"}, {"page": {"url": "x"}})
        assert (page["type"], page["name"]) == ("page", "Unknown Page")
        assert track["messageId"] != page["messageId"]
        assert "writeKey" not in track
        assert [hit["c0"] for hit in site.evaluators[0].hits] == ["web", None]
        assert site.server.metrics.events == {"accepted": 2}

    at_site(check)


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/pixel/v1/track?userId=u&event=e", 401, "unauthorized"),
        ("/pixel/v1/track?writeKey=nobody&event=e", 401, "unauthorized"),
        (f"/pixel/v1/track?writeKey={WRITE_KEY}&userId=u", 400, "invalid_request"),
        (f"/pixel/v1/page?writeKey={WRITE_KEY}&{'a.' * 30}b=1", 400, "invalid_request"),
    ],
)
def test_what_is_none_is_counted_and_still_answered_by_an_image(target: str, status: int, reason: str) -> None:
    async def check(site: Site) -> None:
        assert await ask(site, target) == status
        assert site.server.metrics.refusals == {reason: 1}
        assert site.evaluators[0].calls == []

    at_site(check)


def test_keys_that_are_text_and_object_at_once_do_no_harm() -> None:
    async def check(site: Site) -> None:
        start = f"/pixel/v1/track?writeKey={WRITE_KEY}&userId=u&event=e&"
        for rest in ("properties=x&properties.a=1", "properties.a=1&properties=x", "=1&.=2&..=3", "userId.a=1"):
            assert await ask(site, start + rest) == 200

    at_site(check)

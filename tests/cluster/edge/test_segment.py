"""The SDKs' paths: captured requests byte for byte, answers SDKs can live with, browsers, the real Python SDK."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import segment.analytics as analytics_package  # type: ignore[import-untyped]

from cluster.limits import BODY_BYTES_MAX
from tests.cluster.edge.serving import FIXTURES, START_MS, WRITE_KEY, Site, at_site

BASIC = "Basic " + base64.b64encode(f"{WRITE_KEY}:".encode()).decode()
CAPTURED = sorted(
    path for vendor in ("segment", "rudderstack", "hightouch") for path in (FIXTURES / vendor).glob("*.json")
)
#: Fixtures in which one id comes twice on purpose, or a request is a retry of one before.
REPEATING = ("retry", "same-message-id")


async def raw_exchange(port: int, request: dict[str, Any]) -> tuple[int, bytes]:
    """Send a captured request as it was, and give status and body."""
    body = base64.b64decode(request["body_base64"]) if "body_base64" in request else request["body"].encode()
    head = f"{request['method']} {request['target']} {request['http_version']}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request["headers"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode("latin-1") + b"\r\n" + body)
    status = int((await reader.readline()).split()[1])
    length = 0
    while (line := await reader.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    answer = await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()
    return status, answer


@pytest.mark.parametrize("path", CAPTURED, ids=lambda path: path.stem)
def test_a_captured_request_is_answered_200_and_every_event_is_logged(path: Path) -> None:
    captured = json.loads(path.read_text())

    async def check(site: Site) -> None:
        ids = []
        for request in captured["requests"]:
            assert await raw_exchange(site.server.port, request) == (200, b'{"success":true}')
            text = request["body"].replace("NaN", "null").replace("-Infinity", "null").replace("Infinity", "null")
            ids += [event["messageId"] for event in json.loads(text)["batch"]]
        logged = [json.loads(raw)["messageId"] for raw in site.evaluators[0].raw]
        assert logged == ids
        if not any(mark in path.stem for mark in REPEATING):
            assert site.server.metrics.events.get("duplicate", 0) == 0

    at_site(check)


async def post(site: Site, path: str, content: Any, **headers: str) -> tuple[int, Any, Any]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return await site.call("POST", path, None, data=body, headers={"Authorization": BASIC, **headers})


@pytest.mark.parametrize("start", ["/v1", ""])
@pytest.mark.parametrize("kind", ["track", "page", "screen", "identify", "group", "alias"])
def test_single_events_go_by_full_name_and_by_letter(start: str, kind: str) -> None:
    async def check(site: Site) -> None:
        event = {"userId": "u1", "event": "bought", "groupId": "g", "previousId": "p"}
        for path in (f"{start}/{kind}", f"{start}/{kind[0]}"):
            assert (await post(site, path, event))[:2] == (200, {"success": True})
        assert [json.loads(raw)["type"] for raw in site.evaluators[0].raw] == [kind, kind]

    at_site(check)


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/batch", "/b", f"/beacon/v1/batch?writeKey={WRITE_KEY}"])
def test_batches_go_by_every_name(path: str) -> None:
    async def check(site: Site) -> None:
        content = {"batch": [{"type": "track", "event": "bought", "userId": "u1"}, {"type": "track", "event": "x"}]}
        status, answer, _ = await site.call(
            "POST", path, None, data=json.dumps({**content, **({} if "beacon" in path else {"writeKey": WRITE_KEY})}),
            headers={"Content-Type": "text/plain"},
        )  # fmt: skip
        assert (status, answer) == (200, {"success": True})
        assert site.evaluators[0].keys == ["u1"]
        assert site.server.metrics.events == {"accepted": 1, "no_key": 1}

    at_site(check)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"not json", {}, 400, "invalid_json"),
        (b"", {}, 400, "invalid_json"),
        (b"[]", {}, 400, "invalid_request"),
        ({"events": []}, {}, 400, "invalid_request"),
        ({"batch": {}}, {}, 400, "invalid_request"),
        (gzip.compress(b" " * (BODY_BYTES_MAX + 1), mtime=0), {"Content-Encoding": "gzip"}, 413, "body_too_large"),
        (b"\x1f\x8b corrupt", {"Content-Encoding": "gzip"}, 400, "invalid_encoding"),
        (gzip.compress(b'{"batch":[]}', mtime=0)[:-8], {"Content-Encoding": "gzip"}, 400, "invalid_encoding"),
        ({"batch": []}, {"Authorization": "Basic bm9ib2R5Og=="}, 401, "unauthorized"),
        ({"batch": [], "writeKey": "other"}, {}, 401, "write_key_mismatch"),
        ({"batch": []}, {"Authorization": ""}, 401, "unauthorized"),
    ],
)
def test_errors_have_code_and_message_at_the_top(
    content: Any, headers: dict[str, str], status: int, code: str
) -> None:
    async def check(site: Site) -> None:
        found, answer, answer_headers = await post(site, "/v1/batch", content, **headers)
        assert (found, answer["code"], answer["success"]) == (status, code, False)
        assert answer["message"]
        assert answer_headers["Content-Type"].startswith("application/json")
        assert site.evaluators[0].calls == []

    at_site(check)


def test_a_refusing_evaluator_makes_503_in_the_sdks_shape() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "full", "retry_after_ms": 1_000}]
        status, answer, headers = await post(site, "/v1/track", {"userId": "u1", "event": "bought"})
        assert (status, answer["code"], headers["Retry-After"]) == (503, "overloaded", "1")

    at_site(check)


def test_an_unknown_event_path_is_404_in_the_sdks_shape() -> None:
    async def check(site: Site) -> None:
        status, answer, _ = await post(site, "/v1/nothing", {})
        assert (status, answer["code"]) == (404, "not_found")

    at_site(check)


def test_one_event_without_ids_does_not_refuse_its_batch() -> None:
    async def check(site: Site) -> None:
        batch = [{"type": "track", "event": "e", "userId": f"u{n}"} for n in range(500)]
        del batch[77]["userId"]
        assert (await post(site, "/v1/batch", {"batch": batch}))[:2] == (200, {"success": True})
        assert len(site.evaluators[0].keys) == 499

    at_site(check)


def test_nan_counts_as_null_not_as_an_error() -> None:
    async def check(site: Site) -> None:
        body = b'{"batch":[{"type":"track","event":"e","userId":"u1","properties":{"a":NaN,"b":-Infinity}}]}'
        assert (await post(site, "/v1/batch", body))[0] == 200
        assert json.loads(site.evaluators[0].raw[0])["properties"] == {"a": None, "b": None}

    at_site(check)


@pytest.mark.parametrize("path", ["/v1/t", "/v1/batch", "/t", "/beacon/v1/batch", "/v1/unknown", "/api/v1/events"])
def test_a_preflight_is_204_and_echoes_what_is_asked(path: str) -> None:
    async def check(site: Site) -> None:
        asked = {
            "Origin": "https://shop.example.com",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, x-retry-count",
        }
        status, body, headers = await site.call("OPTIONS", path, None, headers=asked)
        assert (status, body) == (204, "")
        assert headers["Access-Control-Allow-Origin"] == "https://shop.example.com"
        assert headers["Access-Control-Allow-Headers"] == "authorization, x-retry-count"
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert int(headers["Access-Control-Max-Age"]) >= 600
        assert headers["Vary"] == "Origin"

    at_site(check)


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [("/v1/track", BASIC, 200), ("/v1/track", "Basic eDo=", 401), ("/v1/nothing", BASIC, 404)],
)
def test_every_answer_to_a_page_names_its_origin(path: str, authorization: str, status: int) -> None:
    async def check(site: Site) -> None:
        found, _, headers = await post(
            site, path, {"userId": "u1", "event": "e"}, Origin="https://a.example", Authorization=authorization
        )
        assert found == status
        assert headers["Access-Control-Allow-Origin"] == "https://a.example"

    at_site(check)


def test_the_api_proper_names_no_origin() -> None:
    async def check(site: Site) -> None:
        _, _, headers = await site.call("GET", "/api/v1/status", headers={"Origin": "https://a.example"})
        assert "Access-Control-Allow-Origin" not in headers

    at_site(check)


def test_browser_sdks_find_their_settings() -> None:
    async def check(site: Site) -> None:
        status, settings, _ = await site.call("GET", f"/v1/projects/{WRITE_KEY}/settings", None)
        assert status == 200
        host = f"127.0.0.1:{site.server.port}/v1"
        assert settings["integrations"]["Segment.io"] == {"apiKey": WRITE_KEY, "apiHost": host}
        assert (await site.call("GET", "/v1/projects/nobody/settings", None))[0] == 401
        _, source, _ = await site.call("GET", f"/sourceConfig/?writeKey={WRITE_KEY}", None)
        assert source["source"]["enabled"] is True
        assert (source["source"]["id"], source["source"]["destinations"]) == ("web", [])

    at_site(check)


def test_telemetry_is_thanked_for_and_ignored() -> None:
    async def check(site: Site) -> None:
        assert (await site.call("POST", "/v1/m", None, data=b"anything"))[:2] == (200, {"success": True})
        assert site.evaluators[0].calls == []

    at_site(check)


def test_the_real_python_sdk_delivers_once_and_reports_no_error() -> None:
    async def check(site: Site) -> None:
        errors: list[Any] = []

        def use_sdk() -> None:
            client = analytics_package.Client(
                WRITE_KEY, host=site.url, on_error=lambda error, items: errors.append(error), max_retries=0
            )
            for number in range(120):
                client.track(f"u{number}", "bought", {"channel": "web"})
            client.identify("u1", {"plan": "pro"})
            client.flush()
            client.join()

        await asyncio.get_running_loop().run_in_executor(None, use_sdk)
        assert errors == []
        assert site.server.metrics.events == {"accepted": 121}
        assert len(site.evaluators[0].raw) == 121
        assert START_MS

    at_site(check)

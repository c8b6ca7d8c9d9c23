"""Hostile requests against a running edge: never a 5xx, never silence, and everybody else is served as before."""

from __future__ import annotations

import asyncio
import base64
import copy
import gzip

import pytest

from tests.cluster.edge.serving import DOCUMENT, WRITE_KEY, Site, at_site, track
from tests.cluster.edge.test_segment import BASIC
from tests.strategies.hostile import ATOMS

LARGE_BYTES = 100 * 1024 * 1024
SNOWPLOW = "/com.snowplowanalytics.snowplow/tp2"
_PAYLOAD = b'{"schema":"iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4","data":[%b]}'
#: What an atom is put into, by path; `%b` is its place.
SHAPES: dict[str, tuple[bytes, ...]] = {
    "/v1/batch": (b"%b", b'{"batch":%b}', b'{"batch":[%b]}', b'{"batch":[{"type":"track","event":"e","userId":%b}]}',
                  b'{"batch":[{"type":"track","event":"e","userId":"u","properties":{"channel":%b}}],"sentAt":%b}'),
    "/v1/track": (b"%b", b'{"event":"e","userId":"u","properties":%b}', b'{"event":%b,"userId":"u","timestamp":%b}'),
    "/api/v1/events": (b"%b", b"[%b]", b'[{"type":"track","event":"e","user_id":%b,"timestamp":%b}]'),
    SNOWPLOW: (b"%b", _PAYLOAD % b"%b", _PAYLOAD % b'{"e":"pv","uid":"u","aid":"a","url":%b,"cx":%b}'),
}  # fmt: skip


def at_shop(check: object) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["sources"].append({"id": "snowplow", "kind": "http", "app_id": "*"})
    at_site(check, document=document)  # type: ignore[arg-type]


def bodies(path: str) -> list[bytes]:
    plain = [shape.replace(b"%b", atom) for shape in SHAPES[path] for atom in ATOMS]
    if path != SNOWPLOW:
        return plain
    packed = (base64.b64encode(b'{"data":%b}' % atom) for atom in ATOMS)
    return plain + [_PAYLOAD % (b'{"e":"ue","uid":"u","ue_px":"%b"}' % text) for text in packed]


@pytest.mark.parametrize("path", sorted(SHAPES))
def test_every_broken_body_is_answered_and_counted(path: str) -> None:
    async def check(site: Site) -> None:
        answered = set()
        native = site.headers("ingest")["Authorization"]
        headers = {"Authorization": native if path.startswith("/api") else BASIC}
        for body in bodies(path):
            metrics = site.server.metrics
            before, refusals = sum(metrics.events.values()), dict(metrics.refusals)
            status, answer, _ = await site.call("POST", path, None, data=body, headers=headers)
            answered.add(status)
            assert status in (200, 400), (body[:200], answer)
            if status == 400:
                assert metrics.refusals == {**refusals, answer["code"]: refusals.get(answer["code"], 0) + 1}
            elif path == "/v1/track":
                assert sum(metrics.events.values()) == before + 1, body[:200]
        assert answered == {200, 400}
        assert (await site.send([track()]))[1]["accepted"] == 1

    at_shop(check)


@pytest.mark.parametrize("path", sorted(SHAPES))
def test_a_hundred_megabytes_are_refused_before_they_are_read(path: str) -> None:
    async def check(site: Site) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
        native = site.headers("ingest")["Authorization"]
        head = f"POST {path} HTTP/1.1\r\nHost: u\r\nAuthorization: {native if path.startswith('/api') else BASIC}\r\n"
        writer.write(f"{head}Content-Length: {LARGE_BYTES}\r\n\r\n".encode() + b"{" * 1_000)
        status = int((await reader.readline()).split()[1])
        assert status == (400 if path == SNOWPLOW else 413)
        writer.close()
        await writer.wait_closed()

    at_shop(check)


def test_a_hundred_megabytes_in_a_hundred_kilobytes_are_refused() -> None:
    async def check(site: Site) -> None:
        bomb = gzip.compress(b" " * LARGE_BYTES, 1)
        headers = {"Content-Encoding": "gzip", "Authorization": BASIC}
        status, answer, _ = await site.call("POST", "/v1/batch", None, data=bomb, headers=headers)
        assert (status, answer["code"]) == (413, "body_too_large")
        assert site.server.metrics.refusals == {"body_too_large": 1}
        assert WRITE_KEY not in str(answer)

    at_shop(check)

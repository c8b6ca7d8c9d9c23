"""Whatever comes: every decoder takes it or refuses it with a reason, event by event, and nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.errors import WireError
from cluster.limits import BODY_BYTES_MAX
from cluster.wire import native
from cluster.wire.events import ReadEvents
from cluster.wire.inflate import inflate
from cluster.wire.segment import KIND_OF_PATH, read_request
from cluster.wire.snowplow import Asked, read_payload, read_query
from tests.cluster.admission.building import model, plan_of
from tests.strategies import hostile

_PLACES = ("properties.x", "traits.x", "context", "user_id", "context.snowplow.tv")
_KINDS = ("string", "number", "boolean", "timestamp", "list")
_COLUMNS = {f"{kind}_{place.replace('.', '_')}": (place, kind) for kind in _KINDS for place in _PLACES}
PLAN = plan_of(
    model("orders", event="order", columns=_COLUMNS),
    model("any", foreign_key=["user_id", "anonymous_id"], timestamp="properties.x"),
    model("pages", type="page", foreign_key="properties.x"),
    model("held", event="order", foreign_key="anonymous_id",
          contract={"mode": "block", "schema": {"properties": {"x": {"type": "number"}}}}),
)  # fmt: skip
DECODER = Decoder(PLAN)
EXAMPLES = settings(max_examples=120)
KINDS = sorted(set(KIND_OF_PATH.values()))


def numbered() -> str:
    return "made"


def check(read: ReadEvents, sent: int | None = None) -> None:
    """Every event went on or has a reason, and those that went on are decoded, each into hits or a reason."""
    raw = read.raw
    assert len(raw) == len(read.indices)
    assert all(reason for _, reason in read.rejected)
    assert sorted([*read.indices, *(index for index, _ in read.rejected)]) == list(
        range(len(raw) + len(read.rejected))
    )
    if sent is not None:
        assert len(raw) + len(read.rejected) == sent
    if not len(raw):
        return
    for text in raw.texts:
        text.decode("utf-8")  # what the log keeps can be read by anybody
    decoded = DECODER.decode(read.envelope)
    refused = dict(decoded.rejected)
    assert all(refused.values())
    taken = set(decoded.hits["row"].to_pylist())
    assert taken | set(refused) == set(range(len(raw)))
    assert not taken & set(refused)
    decoded.hits.validate(full=True)


def refused(error: WireError) -> None:
    assert error.status in (400, 413, 415)
    assert error.code
    assert str(error)


@EXAMPLES
@given(
    hostile.batches | hostile.events | hostile.mutants("segment", "rudderstack", "hightouch") | st.binary(max_size=40),
    st.sampled_from(KINDS), st.sampled_from([None, 1, 2, 3]),
)  # fmt: skip
def test_sdk_requests(body: bytes, kind: str, fmt: int | None) -> None:
    try:
        read = read_request(body, kind, numbered)
    except WireError as error:
        refused(error)
        return
    check(read.events(source="web", fmt=fmt))


@EXAMPLES
@given(hostile.payloads | hostile.jsons | hostile.mutants("snowplow") | st.binary(max_size=40),
       st.dictionaries(st.sampled_from(hostile.KEYS), st.text(max_size=5), max_size=2), st.booleans())  # fmt: skip
def test_snowplow_payloads(body: bytes, query: dict[str, str], anonymous: bool) -> None:
    try:
        read = read_payload(body, Asked(query, "cookie", anonymous), numbered)
    except WireError as error:
        refused(error)
        return
    total = sum(len(texts) for texts in read.texts.values()) + read.rejected
    try:
        sent = len(json.loads(body)["data"])
    except (ValueError, RecursionError):
        sent = total  # read leniently: Python cannot tell how many there were
    assert total == sent
    for application in read.texts:
        check(read.events(application, "web"))


@EXAMPLES
@given(
    st.dictionaries(st.sampled_from(hostile.KEYS), st.text(max_size=20) | hostile.packed.map(bytes.decode), max_size=6)
)
def test_snowplow_queries(query: dict[str, str]) -> None:
    try:
        read = read_query(Asked(query), numbered)
    except WireError as error:
        refused(error)
        assert "e" not in query
        return
    assert sum(len(texts) for texts in read.texts.values()) + read.rejected == 1
    for application in read.texts:
        check(read.events(application, "web"))


NATIVE: dict[str, Any] = {
    "application/json": hostile.event_lists | hostile.events,
    "application/x-ndjson": st.lists(hostile.events, max_size=4).map(b"\n".join),
    "application/msgpack": hostile.msgpacks | st.binary(max_size=40),
    "application/vnd.apache.arrow.stream": hostile.arrows | st.binary(max_size=40),
}


@pytest.mark.parametrize("content_type", sorted(NATIVE))
def test_native_requests(content_type: str) -> None:
    @EXAMPLES
    @given(NATIVE[content_type])
    def check_one(body: bytes) -> None:
        try:
            read = native.read_events(body, content_type, source="web")
        except WireError as error:
            refused(error)
            return
        check(read)

    check_one()


@EXAMPLES
@given(hostile.zipped(hostile.batches))
def test_zipped_bodies(zipped: tuple[str, bytes]) -> None:
    encoding, body = zipped
    try:
        plain = inflate(body, encoding, BODY_BYTES_MAX)
        read = read_request(plain, "batch", numbered)
    except WireError as error:
        refused(error)
        return
    check(read.events(source="web"))

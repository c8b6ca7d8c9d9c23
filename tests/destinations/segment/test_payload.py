"""Calls are those that Segment's own library makes, and fit what it sends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from segment.analytics.client import Client
from segment.analytics.consumer import BATCH_SIZE_LIMIT, MAX_MSG_SIZE

from destinations.contract import Unusable
from destinations.outcomes import Delivered, Permanent
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value, Verb
from destinations.requests import Response
from destinations.segment.definition import SegmentDestination
from destinations.segment.payload import BATCH_BYTES_MAX, CALL_BYTES_MAX, message_id
from destinations.segment.settings import SegmentSettings

KIND = SegmentDestination()
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "changes")
AT_MS = 1_795_428_000_123
NAMED = {"userId": "u-1", "email": "test@example.com"}


def settings(**changed: Any) -> SegmentSettings:
    return SegmentSettings.model_validate({"write_key": "key", **changed})


def record(verb: Verb = "add", identifiers: dict[str, Any] = NAMED, traits: Any = None) -> Record:
    kind = "entered" if verb == "add" else "exited"
    return Record("t" * 32, "vip", 1, "u", dict(identifiers), kind, AT_MS, 0, "event", traits or {}, verb)  # type: ignore[arg-type]


def sealed(checked: SegmentSettings, *records: Record) -> SealedBatch:
    return SealedBatch("b", "promo", KIND.encode(checked, Batch("b", "promo", records)), records)


def calls(checked: SegmentSettings, *records: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sealed(checked, *records).body)
    return found


@pytest.mark.parametrize("verb", ["add", "remove"])
def test_calls_are_those_of_segments_own_library(verb: Verb) -> None:
    one = record(verb, traits={"ltv": 5, "none": None})
    identify, track = calls(settings(), one)
    client = Client("key", send=False)
    when = datetime.fromtimestamp(AT_MS / 1000, UTC)
    common = {"user_id": "u-1", "timestamp": when}

    _, wanted_identify = client.identify(
        traits=identify["traits"], context=dict(identify["context"]), message_id=message_id(one, "id"), **common
    )
    _, wanted_track = client.track(
        event="Audience Entered" if verb == "add" else "Audience Exited", properties=track["properties"],
        context=dict(track["context"]), message_id=message_id(one, "tr"), **common,
    )  # fmt: skip

    for ours, theirs in ((identify, wanted_identify), (track, wanted_track)):
        ours["context"].pop("library")
        theirs["context"].pop("library")
        for empty in ("integrations", "anonymousId"):
            assert not theirs.pop(empty)
        assert datetime.fromisoformat(ours.pop("timestamp")) == datetime.fromisoformat(theirs.pop("timestamp"))
        assert ours == theirs


def test_calls_follow_the_convention_of_segments_audiences() -> None:
    identify, track = calls(settings(), record())

    assert identify["traits"] == {"email": "test@example.com", "vip": True}
    assert track["event"] == "Audience Entered"
    assert track["properties"] == {"audience_key": "vip", "vip": True, "transition_id": "t" * 32}
    assert track["context"]["traits"] == {"email": "test@example.com"}
    assert track["context"]["personas"]["computation_class"] == "audience"
    left, out = calls(settings(), record("remove"))
    assert (left["traits"]["vip"], out["event"], out["properties"]["vip"]) == (False, "Audience Exited", False)


def test_one_sort_of_call_may_be_left_out() -> None:
    assert [call["type"] for call in calls(settings(send="identify"), record())] == ["identify"]
    assert [call["type"] for call in calls(settings(send="track"), record())] == ["track"]
    assert KIND.limits(settings()).records_max == 1_250
    assert KIND.limits(settings(send="track")).records_max == 2_500


def test_message_ids_are_stable_short_and_another_for_whatever_differs() -> None:
    ids = {
        message_id(one, part)
        for one in (record(), record("remove"), record(identifiers={"userId": "u-2"}))
        for part in ("id", "tr")
    }

    assert len(ids) == 6
    assert max(map(len, ids)) < 100
    assert message_id(record(), "id") == message_id(record(identifiers=dict(reversed(NAMED.items()))), "id")
    assert not any("u-1" in id_ or "example" in id_ for id_ in ids)


def test_a_record_too_large_for_a_call_is_refused_and_harms_no_other() -> None:
    large = record(traits={"text": "x" * MAX_MSG_SIZE})
    batch = sealed(settings(), record(), large)

    request = KIND.build(settings(), batch, Attempt(1, SHAPE))
    judgement = KIND.judge(settings(), batch, request, Response(200, {}, b"", 1))

    assert len(json.loads(batch.body)) == 2
    assert judgement.outcomes == (Delivered(), Permanent("a call is larger than 32 KB: leave out traits"))
    assert KIND.size_bytes(settings(), large) == 0


def test_limits_are_those_of_segments_own_library() -> None:
    assert CALL_BYTES_MAX == MAX_MSG_SIZE
    assert BATCH_BYTES_MAX == BATCH_SIZE_LIMIT


def test_every_attempt_says_when_it_is_sent_and_has_the_same_calls() -> None:
    batch = sealed(settings(), record())

    one, two = (json.loads(KIND.build(settings(), batch, Attempt(now, SHAPE)).body) for now in (AT_MS, AT_MS + 60_000))

    assert (one["sentAt"], two["sentAt"]) == ("2026-11-23T10:00:00.123Z", "2026-11-23T10:01:00.123Z")
    assert one["batch"] == two["batch"]


def test_hosts_and_the_key() -> None:
    request = KIND.build(settings(region="eu"), sealed(settings(), record()), Attempt(1, SHAPE))

    assert request.url == "https://events.eu1.segmentapis.com/v1/batch"
    assert request.headers["authorization"] == "Basic a2V5Og=="


@pytest.mark.parametrize(("raw", "identifiers"), [
    ({"external_id": 7.0, "email": "A@B.co"}, {"userId": "7", "email": "a@b.co"}),
    ({"external_id": "u", "anonymous_id": "a"}, {"userId": "u", "anonymousId": "a"}),
    ({"anonymous_id": "a", "email": "none"}, {"anonymousId": "a"}),
    ({"email": "a@b.co"}, Unusable("no value for external_id or anonymous_id")),
])  # fmt: skip
def test_a_call_needs_an_id(raw: dict[str, Value], identifiers: Any) -> None:
    assert KIND.identify(settings(), raw) == identifiers


def test_an_address_that_changes_is_told_and_removes_nobody() -> None:
    old = {"userId": "u", "email": "a@b.co"}

    assert KIND.replaced(settings(), old, {"userId": "u", "email": "c@d.co"}) == {}
    assert KIND.replaced(settings(), old, {"userId": "v", "email": "a@b.co"}) == old

"""Events are those that Amplitude's own library makes, and its answers mean what that library takes them to mean."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from amplitude import BaseEvent
from amplitude.config import Config
from amplitude.exception import InvalidAPIKeyError
from amplitude.http_client import Response as SdkResponse
from amplitude.processor import ResponseProcessor
from hypothesis import given
from hypothesis import strategies as st

from destinations.amplitude.definition import AmplitudeDestination
from destinations.amplitude.events import judge
from destinations.amplitude.settings import AmplitudeSettings
from destinations.outcomes import Credentials, Delivered, Divide, Outcome, Permanent, Resend, Retry
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Verb
from destinations.requests import Response

KIND = AmplitudeDestination()
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "changes")
AT_MS = 1_795_428_000_123
USERS = [f"user-{number}" for number in range(4)]


def settings(**changed: Any) -> AmplitudeSettings:
    return AmplitudeSettings.model_validate({"api_key": "key", "send": "event", **changed})


def record(user: str = "user-0", verb: Verb = "add", traits: Any = None) -> Record:
    return Record("t" * 32, "vip", 1, user, {"user_id": user}, "entered", AT_MS, 0, "event", traits or {}, verb)


def sealed(*records: Record) -> SealedBatch:
    return SealedBatch("b", "promo", KIND.encode(settings(), Batch("b", "promo", records)), records)


def test_events_are_those_of_amplitudes_own_library() -> None:
    (ours,) = json.loads(sealed(record(traits={"ltv": 5, "long": "x" * 2_000, "none": None})).body)

    theirs = BaseEvent(
        event_type=ours["event_type"], user_id="user-0", time=AT_MS, insert_id=ours["insert_id"],
        event_properties={**ours["event_properties"], "long": "x" * 2_000}, user_properties=ours["user_properties"],
    ).get_event_body()  # fmt: skip

    assert ours == theirs
    assert ours["user_properties"] == {"$set": {"audience_vip": True}}
    assert ours["event_properties"]["audience"] == "vip"


def test_an_exit_says_so() -> None:
    (left,) = json.loads(sealed(record(verb="remove")).body)

    assert (left["event_type"], left["user_properties"]) == ("Audience Exited", {"$set": {"audience_vip": False}})
    batch = Batch("b", "promo", (record(),))
    (bare,) = json.loads(KIND.encode(settings(property_prefix=None, entered_event="In"), batch))
    assert ("user_properties" in bare, bare["event_type"]) == (False, "In")


def test_the_key_is_in_the_body_that_is_sent_and_not_in_the_one_that_is_stored() -> None:
    batch = sealed(record())

    request = KIND.build(settings(region="eu"), batch, Attempt(1, SHAPE))

    assert b"key" not in batch.body
    assert json.loads(request.body)["api_key"] == "key"
    assert json.loads(request.body)["options"] == {"min_id_length": 1}
    assert request.url == "https://api.eu.amplitude.com/2/httpapi"


class Storage:
    """What the library's processor keeps for later: each event with the wait in ms."""

    def __init__(self) -> None:
        self.kept: list[tuple[BaseEvent, int]] = []

    def push(self, event: BaseEvent, delay: int = 0) -> tuple[bool, str]:
        self.kept.append((event, delay))
        return True, ""


def meant_by_the_library(status: int, body: dict[str, Any]) -> list[str]:
    """What becomes of each event: `done`, `never`, `later` or `again`; or that the key is bad."""
    events = [BaseEvent(event_type="e", user_id=user) for user in USERS]
    called: list[BaseEvent] = []
    config = Config(api_key="key", callback=lambda event, code, message: called.append(event))
    config.logger = logging.getLogger("amplitude-test")
    config.logger.setLevel(logging.CRITICAL)
    storage, processor = Storage(), ResponseProcessor()
    processor.setup(config, storage)
    try:
        processor.process_response(SdkResponse(SdkResponse.get_status(status), body), events)
    except InvalidAPIKeyError:
        return ["credentials"] * len(events)
    kept = {id(event): "later" if delay else "again" for event, delay in storage.kept}
    done = "done" if 200 <= status < 300 else "never"
    return [kept.get(id(event), done) for event in events]


def meant_by_us(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "done"
        case Permanent():
            return "never"
        case Credentials():
            return "credentials"
        case Retry():
            return "later" if outcome.after_ms else "again"
        case Divide() | Resend():
            return "again"
        case _:
            return "?"


INDEXES = st.lists(st.sampled_from(range(len(USERS))), max_size=3)
BODIES_400 = st.fixed_dictionaries(
    {"error": st.sampled_from(["Invalid or missing fields", "Invalid API key: x"])},
    optional={
        "events_with_invalid_fields": st.dictionaries(st.sampled_from(["time", "x"]), INDEXES, max_size=2),
        "events_with_missing_fields": st.dictionaries(st.just("user_id"), INDEXES),
        "events_with_invalid_id_lengths": st.dictionaries(st.just("user_id"), INDEXES),
        "silenced_events": INDEXES,
    },
)


def compare(status: int, body: dict[str, Any]) -> tuple[list[str], list[str]]:
    batch = sealed(*(record(user) for user in USERS))
    ours = judge(batch, Response(status, {}, json.dumps(body).encode(), 1)).outcomes
    return [meant_by_us(outcome) for outcome in ours], meant_by_the_library(status, body)


@given(body=BODIES_400)
def test_a_400_means_for_each_event_what_the_library_takes_it_to_mean(body: dict[str, Any]) -> None:
    ours, theirs = compare(400, body)

    if set(theirs) == {"again"}:
        # Nothing is named: the library would send the same again and again, we give up.
        assert set(ours) == {"never"}
    else:
        assert ours == theirs


@given(throttled=INDEXES, used_up=st.lists(st.sampled_from(USERS), max_size=2))
def test_a_429_means_for_each_event_what_the_library_takes_it_to_mean(throttled: list[int], used_up: list[str]) -> None:
    body = {"throttled_events": throttled, "exceeded_daily_quota_users": dict.fromkeys(used_up, 1)}

    ours, theirs = compare(429, body)

    # Those that Amplitude did not name, the library sends at once; we wait with them.
    assert ours == ["later" if meant == "again" else meant for meant in theirs]


@pytest.mark.parametrize("status", [200, 408, 413, 500, 502, 503, 504])
def test_other_answers_mean_what_the_library_takes_them_to_mean(status: int) -> None:
    ours, theirs = compare(status, {"code": status})

    assert ours == theirs

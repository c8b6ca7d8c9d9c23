from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from destinations.amplitude.cohorts import BUSY_MS, cohort_name
from destinations.amplitude.definition import AmplitudeDestination
from destinations.amplitude.settings import AmplitudeSettings
from destinations.contract import Unusable
from destinations.outcomes import Credentials, Delivered, Divide, Gone, Judgement, Learned, Permanent, Resend, Retry
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Verb
from destinations.requests import Request, Response

KIND = AmplitudeDestination()
OWN = {"api_key": "key", "secret_key": "secret", "app_id": 414, "owner": "jo@shop.example"}
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "state")
SETTINGS = AmplitudeSettings.model_validate(OWN)
LEARNED = {"cohort_id": "c1", "project": SETTINGS.project}


def sealed(verb: Verb = "add", count: int = 2) -> SealedBatch:
    records = tuple(
        Record("t", "vip", 1, f"u{n}", {"user_id": f"u{n}"}, "entered", 1, 0, "event", {}, verb) for n in range(count)
    )
    return SealedBatch("b", "promo", KIND.encode(SETTINGS, Batch("b", "promo", records)), records)


def built(verb: Verb, learned: dict[str, Any]) -> Request:
    return KIND.build(SETTINGS, sealed(verb), Attempt(1, SHAPE, learned))


def judged(verb: Verb, status: int, body: Any, learned: dict[str, Any] = LEARNED) -> Judgement:
    answer = Response(status, {}, json.dumps(body).encode(), 1)
    return KIND.judge(SETTINGS, sealed(verb), built(verb, learned), answer)


@pytest.mark.parametrize(("verb", "operation"), [("add", "ADD"), ("remove", "REMOVE")])
def test_a_cohort_that_is_known_is_changed(verb: Verb, operation: str) -> None:
    request = built(verb, LEARNED)

    assert request.url == "https://amplitude.com/api/3/cohorts/membership"
    assert request.headers["authorization"] == "Basic a2V5OnNlY3JldA=="
    assert json.loads(request.body) == {
        "cohort_id": "c1", "skip_invalid_ids": True,
        "memberships": [{"ids": ["u0", "u1"], "id_type": "BY_NAME", "operation": operation}],
    }  # fmt: skip


def test_the_first_users_make_the_cohort_and_go_again_as_a_change() -> None:
    request = built("add", {})

    assert request.url.endswith("/api/3/cohorts/upload")
    assert json.loads(request.body) == {
        "name": "VIPs (Usher promo)", "app_id": 414, "id_type": "BY_USER_ID", "ids": ["u0", "u1"],
        "owner": "jo@shop.example", "published": True, "skip_invalid_ids": True,
    }  # fmt: skip
    for key in ("cohort_id", "cohortId"):
        judgement = judged("add", 200, {key: "c9"}, {})
        assert judgement.learned == {"cohort_id": "c9", "project": SETTINGS.project, "searched": None}
        assert judgement.outcomes == (Resend("the cohort was made"),) * 2


def test_without_a_cohort_there_is_nobody_to_remove() -> None:
    assert built("remove", {}).method == "GET"
    judgement = judged("remove", 200, {"cohorts": []}, {})
    assert judgement.outcomes == (Delivered(), Delivered())
    assert judgement.notes == ("there is no cohort yet: nobody to remove",)


def test_a_cohort_whose_making_was_not_answered_is_looked_for() -> None:
    for judgement in (judged("add", 500, {}, {}), judged("add", 200, {}, {}), judged("add", 200, [], {})):
        assert judgement.learned == {"searched": None}
        assert {type(outcome) for outcome in judgement.outcomes} == {Retry}
    assert judged("add", 500, {}).learned == {}


def test_ids_that_amplitude_does_not_know_are_refused_or_need_no_removal() -> None:
    result = {"skipped_ids": ["u1"], "id_type": "BY_NAME", "operation": "ADD"}
    body = {"cohort_id": "c1", "memberships_result": [result]}

    assert judged("add", 200, body).outcomes == (
        Delivered(), Permanent("Amplitude does not know the user: it has no event of theirs"),
    )  # fmt: skip
    assert judged("remove", 200, body).outcomes == (Delivered(), Delivered())
    assert {type(outcome) for outcome in judged("add", 200, {"memberships_result": None}).outcomes} == {Retry}


@pytest.mark.parametrize(("status", "kind"), [
    (400, Divide), (401, Credentials), (403, Credentials), (404, Gone), (413, Divide), (429, Retry), (500, Retry),
])  # fmt: skip
def test_statuses(status: int, kind: type[object]) -> None:
    judgement = judged("add", status, {"error": {"message": "u0 is bad", "code": 1}})

    assert {type(outcome) for outcome in judgement.outcomes} == {kind}
    assert "u0" not in str(judgement)
    assert judgement.learned == ({"cohort_id": None} if kind is Gone else {})
    assert status != 429 or judgement.outcomes[0].after_ms == BUSY_MS  # type: ignore[union-attr]


def test_the_cohort_is_looked_for_by_its_name_once() -> None:
    attempt = Attempt(1, SHAPE)
    request = KIND.next_step(SETTINGS, attempt, "open")
    assert request is not None

    def learn(*cohorts: Any) -> Any:
        body = json.dumps({"cohorts": list(cohorts)}).encode()
        return KIND.judge_step(SETTINGS, attempt, "open", request, Response(200, {}, body, 1))

    assert learn({"id": "x", "name": "other"}, 5) == Learned({"searched": SETTINGS.project})
    assert learn({"id": "c7", "name": cohort_name(SHAPE)}).learned["cohort_id"] == "c7"
    assert learn({"id": "c7", "name": cohort_name(SHAPE), "archived": True}) == Learned({"searched": SETTINGS.project})
    assert KIND.next_step(SETTINGS, Attempt(1, SHAPE, {"searched": SETTINGS.project}), "open") is None
    assert KIND.next_step(SETTINGS, Attempt(1, SHAPE, {**LEARNED, "project": "another"}), "open") is not None


@pytest.mark.parametrize(("changed", "message"), [
    ({"secret_key": None}, "needs secret_key"), ({"app_id": None, "owner": None}, "needs app_id and owner"),
    ({"app_id": "414"}, "integer"), ({"region": "ap"}, "us"), ({"entered_event": " "}, "pattern"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AmplitudeSettings.model_validate({**OWN, **changed})


def test_one_edit_of_a_cohort_at_a_time_and_five_of_a_project() -> None:
    (limit,) = KIND.concurrency_limits(SETTINGS, SHAPE)
    (other,) = KIND.concurrency_limits(AmplitudeSettings.model_validate({**OWN, "timeout": "3s"}), SHAPE)

    assert (KIND.limits(SETTINGS).in_flight_max, limit.amount, limit.scope) == (1, 5, other.scope)


def test_syncs_that_cannot_work_are_refused() -> None:
    found = KIND.sync_faults(SETTINGS, fields=frozenset({"device_id"}), on_exit="remove", deliver="state")
    events = AmplitudeSettings.model_validate({"api_key": "key", "send": "event"})

    assert [fault.key for fault in found] == ["identifiers"]
    (fault,) = KIND.sync_faults(events, fields=frozenset({"device_id"}), on_exit="remove", deliver="state")
    assert fault.key == "deliver"
    assert KIND.identify(SETTINGS, {"device_id": "d"}) == Unusable("no usable value for external_id")

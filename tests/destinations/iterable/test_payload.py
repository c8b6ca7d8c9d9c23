"""Bodies fit the published contract; identifiers are those of the project."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from destinations.contract import Unusable
from destinations.iterable.definition import IterableDestination
from destinations.iterable.lists import project_scope
from destinations.iterable.settings import IterableSettings
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value, Verb
from tests.destinations.iterable import schema

KIND = IterableDestination()
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email"}), "remove", "state")


def settings(**changed: Any) -> IterableSettings:
    return IterableSettings.model_validate({"api_key": "key", **changed})


def built(checked: IterableSettings, verb: Verb, identifiers: dict[str, Any], traits: Any = None) -> tuple[str, Any]:
    record = Record("t", "vip", 1, "u", identifiers, "entered", 1, 0, "event", traits or {}, verb)
    body = KIND.encode(checked, Batch("b", "promo", (record,)))
    learned = {"list_id": 7, "project": project_scope(checked)}
    request = KIND.build(checked, SealedBatch("b", "promo", body, (record,)), Attempt(1, SHAPE, learned))
    return request.shown_url, json.loads(request.body)


@pytest.mark.parametrize("project", ["email", "user_id", "hybrid"])
@pytest.mark.parametrize("traits", [{}, {"ltv": 5, "none": None, "tags": ["a"]}])
def test_bodies_fit_the_contract(project: str, traits: dict[str, Any]) -> None:
    identifiers = {"email": "a@b.co"} if project == "email" else {"userId": "u-1"}

    url, body = built(settings(project=project), "add", identifiers, traits)
    jsonschema.validate(body, schema.SUBSCRIBE)
    assert url == "https://api.iterable.com/api/lists/subscribe"
    assert body["subscribers"][0].get("dataFields") == ({"ltv": 5, "tags": ["a"]} if traits else None)

    url, body = built(settings(project=project, region="eu"), "remove", identifiers, traits)
    jsonschema.validate(body, schema.UNSUBSCRIBE)
    assert url == "https://api.eu.iterable.com/api/lists/unsubscribe"


def test_an_exit_never_leaves_the_whole_channel() -> None:
    assert built(settings(), "remove", {"email": "a@b.co"})[1]["channelUnsubscribe"] is False


def test_profiles_are_made_where_the_settings_say() -> None:
    def only_existing(**changed: Any) -> Any:
        return built(settings(**changed), "add", {"userId": "u"})[1].get("updateExistingUsersOnly")

    assert only_existing(project="user_id", create_users=False) is True
    assert only_existing(project="hybrid") is False
    assert only_existing() is None


@pytest.mark.parametrize(("project", "raw", "identifiers"), [
    ("email", {"email": " A@B.co ", "external_id": "u"}, {"email": "a@b.co"}),
    ("user_id", {"email": "a@b.co", "external_id": 7.0}, {"userId": "7"}),
    ("hybrid", {"email": "a@b.co", "external_id": "u"}, {"userId": "u"}),
    ("hybrid", {"email": "a@b.co", "external_id": "\u00fc"}, {"email": "a@b.co"}),
    ("hybrid", {"email": "none"}, Unusable("not usable: email")),
    ("user_id", {"email": "a@b.co"}, Unusable("no value for any identifier")),
])  # fmt: skip
def test_a_subscriber_is_named_as_the_project_does(project: str, raw: dict[str, Value], identifiers: Any) -> None:
    assert KIND.identify(settings(project=project), raw) == identifiers


def test_a_sync_whose_identifiers_the_project_does_not_know_is_refused() -> None:
    def faults(project: str, *fields: str) -> list[str]:
        found = KIND.sync_faults(
            settings(project=project), fields=frozenset(fields), on_exit="remove", deliver=None
        )
        return [fault.message for fault in found]

    assert faults("email", "email", "external_id") == ["external_id does not go with project: email"]
    assert faults("hybrid", "email", "external_id") == []


@pytest.mark.parametrize(("changed", "message"), [
    ({"create_users": False}, "projects by address make every profile"), ({"region": "de"}, "us"),
    ({"list_ids": {"vip": "seven"}}, "integer"), ({"api_key": ""}, "at least 1"), ({"subscribers_max": 0}, "greater"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**changed)


def test_the_careful_rate_gives_way_to_the_settings() -> None:
    (careful,), (own,) = KIND.rate_limits(settings(), SHAPE), KIND.rate_limits(settings(rate_limit="30/s"), SHAPE)

    assert (careful.amount, own.amount, careful.scope) == (5, 30, own.scope)

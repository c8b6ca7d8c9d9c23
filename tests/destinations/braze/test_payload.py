from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from destinations.braze.definition import BrazeDestination
from destinations.braze.settings import BrazeSettings
from destinations.contract import Unusable
from destinations.records import Batch, Record, SyncShape, Value, Verb

KIND = BrazeDestination()
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"external_id"}), "remove", "state")
AT_MS = 1_795_428_000_123


def settings(**changed: Any) -> BrazeSettings:
    return BrazeSettings.model_validate({"rest_endpoint": "rest.iad-01.braze.com", "api_key": "key", **changed})


def body(checked: BrazeSettings, verb: Verb = "add", traits: dict[str, Any] | None = None) -> Any:
    kind = "entered" if verb == "add" else "exited"
    record = Record("t1", "vip", 1, "u", {"external_id": "u-1"}, kind, AT_MS, 0, "event", traits or {}, verb)  # type: ignore[arg-type]
    return json.loads(KIND.encode(checked, Batch("b", "promo", (record,))))


def test_an_attribute_an_audience_is_true_and_false() -> None:
    assert body(settings()) == {
        "attributes": [{"external_id": "u-1", "_update_existing_only": True, "audience_vip": True}]
    }
    assert body(settings(attribute_prefix="in "), "remove")["attributes"][0]["in vip"] is False
    assert body(settings(on_exit_value="null"), "remove")["attributes"][0]["audience_vip"] is None


def test_one_list_of_audiences_gains_and_loses() -> None:
    assert body(settings(send="array"))["attributes"][0]["audiences"] == {"add": ["vip"]}
    assert body(settings(send="array", array_attribute="a"), "remove")["attributes"][0]["a"] == {"remove": ["vip"]}


def test_events_are_named_and_carry_the_transition() -> None:
    (entered,) = body(settings(send="event"), "add", {"ltv": 5})["events"]

    assert entered == {
        "external_id": "u-1", "name": "Audience Entered", "time": "2026-11-23T10:00:00.123Z",
        "properties": {"audience": "vip", "cause": "event", "transition_id": "t1", "ltv": 5},
        "_update_existing_only": True,
    }  # fmt: skip
    assert body(settings(send="event", exited_event="Out"), "remove")["events"][0]["name"] == "Out"


@pytest.mark.parametrize("send", ["attribute", "event"])
def test_only_an_entry_may_make_a_profile(send: str) -> None:
    def existing_only(verb: Verb) -> bool:
        ((entry,),) = body(settings(send=send, create_users=True), verb).values()
        return bool(entry["_update_existing_only"])

    assert (existing_only("add"), existing_only("remove")) == (False, True)


def test_traits_go_along_but_never_over_what_is_ours() -> None:
    traits = {"tier": "gold", "gone": None, "external_id": "other", "audience_vip": False, "_update_existing_only": 0}

    assert body(settings(), "add", traits) == {
        "attributes": [
            {"tier": "gold", "external_id": "u-1", "audience_vip": True, "_update_existing_only": True},
        ]
    }


@pytest.mark.parametrize(("raw", "identifiers"), [
    ({"external_id": "u-1", "email": "a@b.co"}, {"external_id": "u-1"}),
    ({"external_id": "x" * 988, "braze_id": "b"}, {"braze_id": "b"}),
    ({"alias": "n", "email": "a@b.co"}, {"user_alias": {"alias_name": "n", "alias_label": "shop"}}),
    ({"email": " A@B.co ", "phone": "030 1234567"}, {"email": "a@b.co"}),
    ({"email": "none", "phone": "030 1234567"}, {"phone": "+49301234567"}),
    ({"external_id": 42.0}, {"external_id": "42"}),
])  # fmt: skip
def test_a_profile_is_named_by_the_first_identifier(raw: dict[str, Value], identifiers: dict[str, Any]) -> None:
    assert KIND.identify(settings(alias_label="shop", phone_region="DE"), raw) == identifiers


def test_nobody_is_dropped_with_the_names_of_fields() -> None:
    assert KIND.identify(settings(), {"email": "none", "phone": "1"}) == Unusable("not usable: email, phone")
    assert KIND.identify(settings(), {"email": None}) == Unusable("no value for any identifier")


@pytest.mark.parametrize(("text", "host"), [
    ("rest.iad-01.braze.com", "https://rest.iad-01.braze.com"), ("https://rest.fra-02.braze.eu/", "https://rest.fra-02.braze.eu"),
    ("rest.au-01.braze.com", "https://rest.au-01.braze.com"),
])  # fmt: skip
def test_endpoints_of_every_instance(text: str, host: str) -> None:
    assert settings(rest_endpoint=text).rest_endpoint == host


@pytest.mark.parametrize(("key", "value"), [
    ("rest_endpoint", "rest.iad-01.braze.com.evil.example"), ("rest_endpoint", "http://rest.iad-01.braze.com"),
    ("rest_endpoint", "dashboard-01.braze.com"), ("api_key", ""), ("send", "cohort"), ("attribute_prefix", "$own"),
    ("entered_event", ""), ("create_users", "yes"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        settings(**{key: value})


def test_syncs_that_cannot_work_are_refused() -> None:
    def faults(checked: BrazeSettings, fields: str, deliver: str | None) -> list[str]:
        found = KIND.sync_faults(checked, fields=frozenset({fields}), on_exit="remove", deliver=deliver)
        return [fault.key for fault in found]

    assert faults(settings(), "alias", None) == ["identifiers"]
    assert faults(settings(send="event"), "email", "state") == ["deliver"]
    assert faults(settings(), "email", "changes") == faults(settings(alias_label="l"), "alias", None) == []
    assert (KIND.deliver_default(settings()), KIND.deliver_default(settings(send="event"))) == ("state", "changes")


def test_the_workspaces_limit_is_shared_by_its_key() -> None:
    (one,), (two,) = KIND.rate_limits(settings(), SHAPE), KIND.rate_limits(settings(timeout="3s"), SHAPE)

    assert (one.amount, one.per_ms, one.scope) == (3_000, 3_000, two.scope)

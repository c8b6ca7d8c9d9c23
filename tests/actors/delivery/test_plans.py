from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.delivery.changes import Change
from actors.delivery.plans import SyncPlan, plan_syncs, to_records
from destinations.registry import KINDS
from tests.actors.delivery.world import definitions

URL = "https://example.com/hook"


def planned(**keys: Any) -> SyncPlan:
    return plan_syncs(definitions(URL, **keys), (0,), (), KINDS)["promo"]


def change(user: str) -> Change:
    return Change(0, 1, "hide_promo", 3, user, "entered", 1_000, 2, "event")


def test_what_a_sync_does_not_say_is_its_kinds_default() -> None:
    config = planned().config

    assert (config.deliver, config.on_exit, config.batch_records, config.batch_age_ms) == ("changes", "remove", 100, 5)
    assert not config.paused


def test_a_syncs_own_figures_win_within_the_kinds_limits() -> None:
    config = planned(sync={"batch_size": 50_000, "batch_age_ms": 200, "deliver": "state"}).config

    assert (config.deliver, config.batch_records, config.batch_age_ms) == ("state", 10_000, 200)


def test_a_body_about_one_change_keeps_batches_of_one() -> None:
    assert planned(sync={"batch_size": 50}, body={"user": "{{ user_id }}"}).config.batch_records == 1


def test_an_audience_in_preparation_or_a_draft_cannot_be_asked_for_members() -> None:
    assert planned().available
    assert not plan_syncs(definitions(URL), (0,), ("hide_promo",), KINDS)["promo"].available
    assert not planned(status="draft").available
    assert not planned(status="archived").available
    assert not planned(status="archived").config.paused
    assert planned(status="paused").available
    assert planned(status="paused").config.paused


def test_a_fingerprint_notices_a_secret_and_needs_the_salt() -> None:
    first = planned().fingerprint(b"salt")

    assert planned().fingerprint(b"salt") == first
    assert planned().fingerprint(b"other") != first
    assert planned(secret="whsec_AAAA").fingerprint(b"salt") != first
    assert planned(headers={"x": "1"}).fingerprint(b"salt") != planned(headers={"x": "2"}).fingerprint(b"salt")


def test_a_record_carries_the_transition_and_its_values() -> None:
    plan = planned(sync={"identifiers": {"id": "user_id"}, "traits": ("ltv", "tags")})

    (record,), dropped = to_records(plan, [change("u")], {"ltv": [1.5], "tags": [["a"]]})

    assert dropped == {}
    assert (record.audience_version, record.at_ms, record.n, record.identifiers) == (3, 1_000, 2, {"id": "u"})
    assert record.traits == {"ltv": 1.5, "tags": ["a"]}
    assert len(record.transition_id) == 32


def test_a_missing_or_empty_identifier_drops_the_record_and_a_missing_trait_is_null() -> None:
    plan = planned(sync={"identifiers": {"mail": "email"}, "traits": ("ltv",)})

    records, dropped = to_records(
        plan, [change("a"), change("b"), change("c")], {"email": [None, "x@y", ""], "ltv": [1.0, None, 2.0]}
    )

    assert dropped == {0: "no value for an identifier: mail", 2: "no value for an identifier: mail"}
    assert [(record.user_id, record.traits) for record in records] == [("b", {"ltv": None})]
    assert plan.columns == ("email", "ltv")


def test_identity_is_the_audience_and_the_destination() -> None:
    plan = planned()

    assert replace(plan, settings=None).identity == planned(timeout="3s").identity == "hide_promo\0hook"

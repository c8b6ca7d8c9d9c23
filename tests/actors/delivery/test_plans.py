from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.delivery.plans import SyncPlan, plan_syncs
from destinations.registry import KINDS
from tests.actors.delivery.world import definitions

URL = "https://example.com/hook"


def planned(**keys: Any) -> SyncPlan:
    return plan_syncs(definitions(URL, **keys), (0,), (), KINDS)["promo"]


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


def test_identity_is_the_audience_and_the_destination() -> None:
    plan = planned()

    assert replace(plan, settings=None).identity == planned(timeout="3s").identity == "hide_promo\0hook"


def test_a_sync_remembers_whom_it_told_where_that_may_be_needed_later() -> None:
    assert not planned().remembers
    assert planned(sync={"identifiers": {"mail": "email"}}).remembers
    assert planned(sync={"on_delete": "remove"}).remembers
    assert planned(sync={"min_stay_ms": 1}).remembers
    assert planned(sync={"on_exit": "nothing"}).config.on_exit == "nothing"
    assert planned(sync={"on_exit": "nothing", "on_delete": "remove"}).config.on_exit == "remove"


def test_a_sweep_is_needed_anew_for_other_columns_and_other_settings() -> None:
    first = planned(sync={"identifiers": {"id": "a"}})

    assert first.sweep_key(b"x") == planned(sync={"identifiers": {"id": "a"}, "traits": ("b",)}).sweep_key(b"x")
    assert first.sweep_key(b"x") != planned(sync={"identifiers": {"id": "b"}}).sweep_key(b"x")
    assert first.sweep_key(b"x") != first.sweep_key(b"y")

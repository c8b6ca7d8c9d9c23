from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from destinations.google.definition import GoogleDestination
from destinations.google.settings import DAY_MS, GoogleSettings
from destinations.records import SyncShape
from tests.destinations.google.keys import key_file

SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email"}), "remove", "state")


def document(**changed: Any) -> dict[str, Any]:
    own = {"customer_id": "123-456-7890", "service_account_key": key_file(), "accept_customer_match_terms": True}
    return {name: value for name, value in {**own, **changed}.items() if value is not ...}


def settings(**changed: Any) -> GoogleSettings:
    return GoogleSettings.model_validate(document(**changed))


def test_accounts_lose_their_hyphens() -> None:
    checked = settings(login_customer_id=9876543210)

    assert (checked.customer_id, checked.login_customer_id) == ("1234567890", "9876543210")


BAD_KEY = json.dumps({**json.loads(key_file()), "private_key": "-----BEGIN PRIVATE KEY-----\nt0ps3cret"})


@pytest.mark.parametrize(("changed", "message"), [
    ({"customer_id": "12345"}, "ten digits"),
    ({"customer_id": None}, "string"),
    ({"service_account_key": "/path/to/key.json"}, "not the JSON of a service account's key file"),
    ({"service_account_key": '{"type": "authorized_user"}'}, "not the JSON of a service account's key file"),
    ({"service_account_key": BAD_KEY}, "no unencrypted RSA key"),
    ({"service_account_key": ...}, "one of service_account_key and oauth is needed"),
    ({"oauth": {"client_id": "a", "client_secret": "b", "refresh_token": "c"}}, "and not both"),
    ({"accept_customer_match_terms": False}, "accept_customer_match_terms: true is needed"),
    ({"membership_duration": "541d"}, "whole days, 1d to 540d"),
    ({"membership_duration": "36h"}, "whole days, 1d to 540d"),
    ({"upload_key": "mobile", "mobile_platform": "ios"}, "mobile_app_id go together"),
    ({"mobile_platform": "ios", "mobile_app_id": "1"}, "go together"),
    ({"user_list_ids": {"vip": "my list"}}, "named by its number"),
    ({"token_url": "http://169.254.169.254/token"}, "token_url is refused"),
    ({"consent": {"ad_user_data": "maybe"}}, "granted"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_without_showing_a_secret(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        settings(**changed)
    assert "t0ps3cret" not in str(caught.value)
    assert json.loads(key_file())["private_key"] not in str(caught.value)


def test_members_are_added_again_at_half_their_time() -> None:
    assert GoogleDestination().resend_every_ms(settings()) == 270 * DAY_MS
    assert GoogleDestination().resend_every_ms(settings(membership_duration="30d")) == 15 * DAY_MS


def test_quotas_are_those_of_the_project_and_tokens_those_of_the_credentials() -> None:
    kind = GoogleDestination()
    oauth = {"client_id": "77-web.apps", "client_secret": "s", "refresh_token": "r"}
    one, two = settings(), settings(customer_id="5555555555", timeout="3s")
    third = settings(service_account_key=..., oauth=oauth)
    fourth = settings(service_account_key=..., oauth={**oauth, "client_id": "77-other.apps"})

    scopes = [{limit.scope for limit in kind.rate_limits(each, SHAPE)} for each in (one, two, third, fourth)]
    tokens = [kind.token_scope(each) for each in (one, two, third, fourth)]

    assert scopes[0] == scopes[1] != scopes[2] == scopes[3]
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 3
    assert {(limit.amount, limit.per_ms) for limit in kind.rate_limits(one, SHAPE)} == {
        (300, 60_000), (100_000, DAY_MS),
    }  # fmt: skip


def test_a_key_files_own_address_of_tokens_is_not_followed() -> None:
    request = GoogleDestination().token_request(settings(), 1_795_428_000_000)

    assert request.url == "https://oauth2.googleapis.com/token"

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from facebook_business.adobjects.customaudience import CustomAudience
from facebook_business.adobjects.helpers.customaudiencemixin import CustomAudienceMixin
from facebook_business.api import FacebookAdsApi, FacebookRequest
from pydantic import ValidationError

from destinations.contract import Unusable
from destinations.facebook.definition import FacebookDestination
from destinations.facebook.settings import API_VERSION, FacebookSettings
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Verb

KIND = FacebookDestination()
SETTINGS = FacebookSettings.model_validate({"access_token": "EAA", "ad_account": 1234567890})
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email"}), "remove", "state")
LEARNED = {"audience_id": "2384", "ad_account": "1234567890"}


def record(identifiers: dict[str, Any], verb: Verb = "add") -> Record:
    return Record("t", "vip", 1, "u", identifiers, "entered", 1, 0, "event", {}, verb)


def sealed(*records: Record) -> SealedBatch:
    body = KIND.encode(SETTINGS, Batch("b", "promo", records))
    return SealedBatch("b", "promo", body, records)


def test_a_body_is_the_one_that_the_sdk_would_send() -> None:
    raw = [{"email": "Test@Example.com", "country": "US"}, {"email": "two@example.com", "country": "DE"}]
    found = [KIND.identify(SETTINGS, row) for row in raw]
    records = [record(dict(row)) for row in found if not isinstance(row, Unusable)]

    users = [[row["email"], row["country"]] for row in raw]
    wanted = CustomAudienceMixin.format_params(["EMAIL", "COUNTRY"], users, is_raw=True)["payload"]
    del wanted["is_raw"]  # the SDK's own flag for "hash these": optional, and ours are hashed

    assert json.loads(sealed(*records).body) == {"payload": wanted}


@pytest.mark.parametrize(("verb", "call"), [("add", "create_user"), ("remove", "delete_users")])
def test_method_and_path_are_those_of_the_sdk(verb: Verb, call: str) -> None:
    api = FacebookAdsApi.init(access_token="EAA", api_version=API_VERSION)
    pending = getattr(CustomAudience("2384", api=api), call)(pending=True)
    assert isinstance(pending, FacebookRequest)

    request = KIND.build(SETTINGS, sealed(record({"EMAIL": "e"}, verb)), Attempt(1, SHAPE, LEARNED))

    assert request.method == pending._method
    assert request.url == f"https://graph.facebook.com/{API_VERSION}/" + "/".join(pending._path)


def test_the_pinned_version_is_the_sdks() -> None:
    assert FacebookAdsApi.API_VERSION == API_VERSION == KIND.api_version


def test_rows_follow_one_schema_and_missing_values_are_empty() -> None:
    body = json.loads(sealed(record({"PHONE": "p", "ZIP": "z"}), record({"EMAIL": "e"})).body)

    assert body == {"payload": {"schema": ["EMAIL", "PHONE", "ZIP"], "data": [["", "p", "z"], ["e", "", ""]]}}


def test_a_row_without_external_id_never_stands_under_that_column() -> None:
    with_id, without = record({"EXTERN_ID": "1", "EMAIL": "e"}), record({"EMAIL": "e"})

    keys = {KIND.batch_key(SETTINGS, entry) for entry in (with_id, without, record({"EMAIL": "e"}, "remove"))}

    assert keys == {"add+id", "add", "remove"}


def test_the_token_is_in_a_header_and_the_proof_in_the_query() -> None:
    settings = FacebookSettings.model_validate({"access_token": "EAA", "ad_account": "act_1", "app_secret": "shh"})

    request = KIND.build(settings, sealed(record({"EMAIL": "e"})), Attempt(1, SHAPE, {**LEARNED, "ad_account": "1"}))

    assert request.headers["authorization"] == "Bearer EAA"
    proof = hmac.new(b"shh", b"EAA", hashlib.sha256).hexdigest()
    assert request.url.endswith(f"/2384/users?appsecret_proof={proof}")
    assert proof not in request.shown_url
    sdk = FacebookAdsApi.init(app_secret="shh", access_token="EAA", api_version=API_VERSION)
    assert sdk._session.appsecret_proof == proof


def test_a_body_never_exceeds_what_was_counted() -> None:
    odd, plain = {"EXTERN_ID": 'q"\u00e9\n' * 9, "EMAIL": "e" * 64}, {"EXTERN_ID": "1", "ZIP": "z" * 64}
    rows = [record(odd), record(plain)] * 50

    counted = KIND.limits(SETTINGS).bytes_around + sum(KIND.size_bytes(SETTINGS, row) for row in rows)

    assert len(sealed(*rows).body) <= counted


@pytest.mark.parametrize(("key", "value"), [
    ("access_token", ""), ("ad_account", "act_"), ("ad_account", "mine"), ("ad_account", True),
    ("audience_ids", {"vip": "name"}), ("customer_file_source", "BOUGHT"), ("access_tier", "gold"),
    ("phone_region", "Germany"), ("api_version", "26"), ("api_version", "v26.0/x"), ("base_url", "http://graph.example"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        FacebookSettings.model_validate({"access_token": "EAA", "ad_account": "1", key: value})
    assert caught.value.errors()[0]["loc"][0] == key


def test_tiers_have_their_scores_and_accounts_share_them() -> None:
    def limits(**changed: str) -> Any:
        settings = {"access_token": "EAA", "ad_account": "1", **changed}
        return KIND.rate_limits(FacebookSettings.model_validate(settings), SHAPE)

    (limited,), (full,) = limits(), limits(access_tier="full")
    assert (limited.amount, full.amount, limited.per_ms) == (20, 3_000, 300_000)
    assert limits(access_token="other")[0].scope == limited.scope != limits(ad_account="2")[0].scope
    assert len(limits(rate_limit="1/s")) == 2

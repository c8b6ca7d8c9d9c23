"""Bodies are read back by the messages that Google ships: an unknown field or a wrong type fails."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format

from destinations.contract import Unusable
from destinations.google.definition import GoogleDestination
from destinations.google.lists import integration_code, user_list
from destinations.google.settings import GoogleSettings
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value, Verb
from destinations.requests import Request
from tests.destinations.google.server import api, member_faults

KIND = GoogleDestination()
OAUTH = {"client_id": "77-x", "client_secret": "s", "refresh_token": "r"}
SHAPE = SyncShape("promo", "vip", "VIPs", frozenset({"email"}), "archive", "state")
LEARNED = {"user_list_id": "555", "customer_id": "1234567890"}
CONTACT: dict[str, Value] = {"email": "a@b.co", "phone": "+18005551234", "first_name": "Jo", "last_name": "Do",
                             "country": "US", "zip": "94043"}  # fmt: skip
MOBILE = {"upload_key": "mobile", "mobile_platform": "android", "mobile_app_id": "org.shop"}
VARIANTS: list[tuple[dict[str, Any], dict[str, Value]]] = [
    ({"login_customer_id": "9876543210", "consent": {"ad_user_data": "granted"}}, CONTACT),
    (MOBILE, {"mobile_ad_id": "AB1234CD-E123-12F0-A123-0123456789AB"}),
    ({"upload_key": "user_id"}, {"external_id": "crm-1"}),
]


def settings(**changed: Any) -> GoogleSettings:
    own = {"customer_id": "1234567890", "oauth": OAUTH, "accept_customer_match_terms": True}
    return GoogleSettings.model_validate({**own, **changed})


def built(checked: GoogleSettings, raw: dict[str, Value], verb: Verb) -> Request:
    identifiers = KIND.identify(checked, raw)
    assert not isinstance(identifiers, Unusable)
    record = Record("t", "vip", 1, "u", dict(identifiers), "entered", 1, 0, "event", {}, verb)
    body = KIND.encode(checked, Batch("b", "promo", (record,)))
    return KIND.build(checked, SealedBatch("b", "promo", body, (record,)), Attempt(1, SHAPE, LEARNED, "ya29"))


@pytest.mark.parametrize(("changed", "raw"), VARIANTS)
@pytest.mark.parametrize("verb", ["add", "remove"])
def test_bodies_are_the_real_messages(changed: dict[str, Any], raw: dict[str, Value], verb: Verb) -> None:
    message = api.IngestAudienceMembersRequest if verb == "add" else api.RemoveAudienceMembersRequest

    request = built(settings(**changed), raw, verb)
    parsed = json_format.Parse(request.body, message.pb()())

    assert request.url.rpartition(":")[2] == ("ingest" if verb == "add" else "remove")
    assert request.headers["authorization"] == "Bearer ya29"
    assert parsed.destinations[0].product_destination_id == "555"
    assert [member_faults(member) for member in parsed.audience_members] == [[]]


def test_a_contact_has_all_its_identifiers_consent_and_terms() -> None:
    consent = {"ad_user_data": "granted", "ad_personalization": "denied"}
    body = json.loads(built(settings(consent=consent, login_customer_id="9876543210"), CONTACT, "add").body)

    (member,) = body.pop("audienceMembers")
    found = member["compositeData"]["userData"]["userIdentifiers"]
    assert [next(iter(one)) for one in found] == ["emailAddress", "phoneNumber", "address"]
    assert body == {
        "destinations": [{
            "operatingAccount": {"accountType": "GOOGLE_ADS", "accountId": "1234567890"},
            "loginAccount": {"accountType": "GOOGLE_ADS", "accountId": "9876543210"}, "productDestinationId": "555",
        }],
        "encoding": "HEX",
        "consent": {"adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_DENIED"},
        "termsOfService": {"customerMatchTermsOfServiceStatus": "ACCEPTED"},
    }  # fmt: skip


@pytest.mark.parametrize(("changed", "raw"), VARIANTS)
def test_lists_to_be_made_are_the_real_message(changed: dict[str, Any], raw: dict[str, Value]) -> None:
    body = user_list(settings(**changed, membership_duration="90d"), Attempt(1, SHAPE))

    parsed = json_format.ParseDict(body, api.UserList.pb()())

    assert (parsed.display_name, parsed.integration_code) == ("VIPs", integration_code(SHAPE))
    assert parsed.membership_duration.seconds == 7_776_000
    assert len(parsed.ingested_user_list_info.upload_key_types) == 1


def test_emptying_a_list_is_the_real_message() -> None:
    request = KIND.next_step(settings(), Attempt(1, SHAPE, LEARNED, "ya29", 1_795_428_000_123), "purge")
    assert request is not None

    parsed = json_format.Parse(request.body, api.RemoveAllAudienceMembersRequest.pb()())

    assert request.url.endswith("/v1/audienceMembers:removeAll")
    assert parsed.remove_as_of_time.ToMilliseconds() == 1_795_428_000_123


def test_paths_are_those_of_the_client_library() -> None:
    def path(request: Request | None) -> str:
        assert request is not None
        return f"{request.method} {request.shown_url.removeprefix('https://datamanager.googleapis.com')}"

    lists = "/v1/accountTypes/GOOGLE_ADS/accounts/1234567890/userLists"
    assert path(KIND.next_step(settings(), Attempt(1, SHAPE), "open")) == f"GET {lists}"
    searched = Attempt(1, SHAPE, {"searched": "1234567890"})
    assert path(KIND.next_step(settings(), searched, "open")) == f"POST {lists}"
    assert path(KIND.next_step(settings(), Attempt(1, SHAPE, LEARNED), "archive")) == f"PATCH {lists}/555"
    assert path(KIND.poll(settings(), "r 1", Attempt(1, SHAPE))) == "GET /v1/requestStatus:retrieve"


def test_the_manager_is_named_in_a_header_to_the_list_service() -> None:
    request = KIND.next_step(settings(login_customer_id="9876543210"), Attempt(1, SHAPE), "open")

    assert request is not None
    assert request.headers["login-account"] == "accountTypes/GOOGLE_ADS/accounts/9876543210"

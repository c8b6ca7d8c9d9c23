from __future__ import annotations

import pytest

from destinations.contract import Unusable
from destinations.google.definition import GoogleDestination
from destinations.google.identifiers import google_email, identify
from destinations.google.settings import GoogleSettings
from destinations.identifiers import sha256_hex
from destinations.records import Value

OAUTH = {"client_id": "77-x", "client_secret": "s", "refresh_token": "r"}
CONTACT = GoogleSettings.model_validate(
    {"customer_id": "1234567890", "oauth": OAUTH, "accept_customer_match_terms": True, "phone_region": "us"}
)
MOBILE = GoogleSettings.model_validate({
    "customer_id": "1234567890", "oauth": OAUTH, "accept_customer_match_terms": True, "upload_key": "mobile",
    "mobile_platform": "ios", "mobile_app_id": "123",
})  # fmt: skip
USER_ID = GoogleSettings.model_validate({"customer_id": "1234567890", "oauth": OAUTH, "upload_key": "user_id"})


@pytest.mark.parametrize(("text", "canonical"), [
    ("Cloudy.SanFrancisco+shopping@GMail.com", "cloudysanfrancisco@gmail.com"),
    ("user.name+NYC@Example.com", "user.name+nyc@example.com"), ("a.b+c@googlemail.com", "ab@googlemail.com"),
    (" test @example.com ", "test@example.com"), ("+tag@gmail.com", ""), ("nobody", ""),
])  # fmt: skip
def test_addresses_at_gmail_lose_dots_and_tags_and_others_keep_them(text: str, canonical: str) -> None:
    assert google_email(text) == canonical


def test_published_vectors() -> None:
    assert identify(CONTACT, {"email": "Cloudy.SanFrancisco@gmail.com", "phone": "(800) 555-1234"}) == {
        "email": "223ebda6f6889b1494551ba902d9d381daf2f642bae055888e96343d53e9f9c4",
        "phone": "41711844e516e7fe8b6e532b33d86d0817b6be29aaa0fe85a17807b1787989d8",
    }


@pytest.mark.parametrize(("first", "last", "names"), [
    (" Mrs. Jane ", "O'Brien Jr.", ("jane", "obrien")), ("ANNE-MARIE", "de  la Cruz", ("annemarie", "de la cruz")),
    ("Dr. Prof. J\u00fcrgen", "M\u00fcller III", ("j\u00fcrgen", "m\u00fcller")), ("Dr", "Sr", ("dr", "sr")),
])  # fmt: skip
def test_names_lose_punctuation_titles_and_degrees(first: str, last: str, names: tuple[str, str]) -> None:
    raw: dict[str, Value] = {"first_name": first, "last_name": last, "country": "us", "zip": "94043-1351"}

    assert identify(CONTACT, raw) == {
        "address": {"givenName": sha256_hex(names[0]), "familyName": sha256_hex(names[1]), "regionCode": "US",
                    "postalCode": "94043-1351"}
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["first_name", "last_name", "country", "zip"])
def test_an_address_counts_with_all_its_parts_alone(missing: str) -> None:
    raw: dict[str, Value] = {"first_name": "Jo", "last_name": "Do", "country": "US", "zip": "94043", missing: None}

    assert isinstance(identify(CONTACT, raw), Unusable)
    assert identify(CONTACT, {**raw, "email": "a@b.co"}) == {"email": sha256_hex("a@b.co")}


def test_what_is_hashed_already_is_not_hashed_twice() -> None:
    email, phone = sha256_hex("test@example.com"), sha256_hex("+18005551234")

    assert identify(CONTACT, {"email": email.upper(), "phone": phone}) == {"email": email, "phone": phone}


def test_each_upload_key_has_its_own_identifier() -> None:
    id_ = "AB1234CD-E123-12F0-A123-0123456789AB"

    assert identify(MOBILE, {"mobile_ad_id": id_}) == {"mobile_id": id_.lower()}
    assert identify(USER_ID, {"external_id": 42.0}) == {"user_id": "42"}
    assert identify(MOBILE, {"mobile_ad_id": "00000000-0000-0000-0000-000000000000"}) == Unusable(
        "not usable: mobile_ad_id"
    )


def test_a_sync_is_refused_whose_identifiers_its_lists_cannot_hold() -> None:
    kind = GoogleDestination()

    def faults(settings: GoogleSettings, *fields: str) -> list[str]:
        found = kind.sync_faults(settings, fields=frozenset(fields), on_exit="remove", deliver=None)
        return [f"{fault.key}: {fault.message}" for fault in found]

    assert faults(CONTACT, "email", "first_name", "last_name", "country", "zip") == []
    assert faults(CONTACT, "email", "first_name") == [
        "identifiers: an address needs all four of its parts: last_name, country, zip missing"
    ]
    assert faults(USER_ID, "email", "external_id") == ["identifiers: email does not go with upload_key: user_id"]

"""Normalisation as Meta's table has it; where Meta's own SDK is sound, it is the judge."""

from __future__ import annotations

import pytest
from facebook_business.adobjects.helpers.customaudiencemixin import CustomAudienceMixin
from facebook_business.adobjects.serverside.normalize import Normalize

from destinations.contract import Unusable
from destinations.facebook.identifiers import identify, replaced
from destinations.identifiers import sha256_hex
from destinations.records import Value

MADID = "AB1234CD-E123-12F0-A123-0123456789AB"


def prepared(region: str | None = None, **raw: Value) -> dict[str, str]:
    found = identify({"external_id": "x", **raw}, region)
    assert not isinstance(found, Unusable)
    return {key: value for key, value in found.items() if key != "EXTERN_ID"}


@pytest.mark.parametrize(("field", "text", "key", "canonical"), [
    ("email", "  Test@Example.COM ", "EMAIL", "test@example.com"),
    ("email", "First.Last+tag@gmail.com", "EMAIL", "first.last+tag@gmail.com"),
    ("phone", "+1 (800) 555-1234", "PHONE", "18005551234"),
    ("phone", "0044 20 7123 4567", "PHONE", "442071234567"),
    ("first_name", "Anne-Marie", "FN", "annemarie"),
    ("last_name", "O'Brien", "LN", "obrien"),
    ("last_name", "J\u00fcrgens", "LN", "j\u00fcrgens"),
    ("first_initial", " Jane", "FI", "j"),
    ("gender", "Female", "GEN", "f"),
    ("birth_year", 1990.0, "DOBY", "1990"),
    ("birth_month", "1", "DOBM", "01"),
    ("birth_day", 5, "DOBD", "05"),
    ("city", "New York", "CT", "newyork"),
    ("state", "California", "ST", "ca"),
    ("state", "North Carolina", "ST", "nc"),
    ("state", "British Columbia", "ST", "britishcolumbia"),
    ("zip", "90210-1234", "ZIP", "90210"),
    ("zip", "SW1A 1AA", "ZIP", "sw1a1aa"),
    ("country", "U.S.", "COUNTRY", "us"),
])  # fmt: skip
def test_values_are_normalised_and_hashed(field: str, text: Value, key: str, canonical: str) -> None:
    assert prepared(**{field: text}) == {key: sha256_hex(canonical)}


@pytest.mark.parametrize(("key", "field", "text"), [
    ("EMAIL", "email", " Test@Example.COM"), ("DOBY", "birth_year", "1990"), ("DOBM", "birth_month", "3"),
    ("DOBD", "birth_day", "7"), ("ST", "state", "CA"), ("CT", "city", "San Francisco"), ("COUNTRY", "country", "US"),
    ("LN", "last_name", "O'Brien"), ("FN", "first_name", "Anne-Marie"), ("ZIP", "zip", "90210-1234"),
    ("GEN", "gender", "male"),
])  # fmt: skip
def test_the_sdk_for_audiences_hashes_the_same(key: str, field: str, text: str) -> None:
    params = CustomAudienceMixin.format_params([key], [[text]], is_raw=True)

    assert prepared(**{field: text}) == {key: params["payload"]["data"][0][0]}


@pytest.mark.parametrize(("sdk", "field", "key", "text"), [
    ("em", "email", "EMAIL", " Test@Example.COM"), ("ph", "phone", "PHONE", "+44 20 7123 4567"),
    ("ph", "phone", "PHONE", "0044 20 7123 4567"), ("zp", "zip", "ZIP", "90210-1234"),
    ("ct", "city", "CT", "San Francisco"), ("country", "country", "COUNTRY", "US"), ("dobd", "birth_day", "DOBD", "5"),
    ("dobm", "birth_month", "DOBM", "12"), ("doby", "birth_year", "DOBY", "1984"),
])  # fmt: skip
def test_the_sdk_for_server_events_hashes_the_same(sdk: str, field: str, key: str, text: str) -> None:
    assert prepared(**{field: text}) == {key: Normalize.normalize_field(sdk, text)}


def test_published_vectors() -> None:
    assert prepared(email="test@example.com") == {
        "EMAIL": "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"
    }
    assert prepared(phone="+1 800 555 1234") == {
        "PHONE": "655dbe4f7591d8ffe8c86b433ed53aa325b40e1be892167ae2e17118da8279c9"
    }
    assert prepared(last_name="O'Brien", country="US") == {
        "LN": "b4cb6cb33fe4b865868de825023a1e2790dc12ac01ecc8d7c5afe8254071c8ba",
        "COUNTRY": "79adb2a2fce5c6ba215fe5f27f532d4e7edbac4b6a5e09e1ef3a08084a904621",
    }


def test_what_is_hashed_already_is_not_hashed_twice() -> None:
    hashed, without_digits = sha256_hex("test@example.com"), "abcdef" * 10 + "abcd"

    assert prepared(email=hashed.upper(), phone=without_digits) == {"EMAIL": hashed, "PHONE": without_digits}


def test_ids_go_as_they_are() -> None:
    assert identify({"external_id": " CRM-Id ", "mobile_ad_id": MADID}, None) == {
        "EXTERN_ID": "CRM-Id",
        "MADID": MADID.lower(),
    }


def test_a_phone_number_without_country_code_needs_a_region() -> None:
    assert prepared(phone="030 1234567") == {}
    assert prepared("DE", phone="030 1234567") == {"PHONE": sha256_hex("49301234567")}


@pytest.mark.parametrize(("field", "text"), [
    ("email", "none"), ("email", True), ("email", ["a@b.co"]), ("phone", "+0000000000"), ("gender", "x"),
    ("birth_year", "90"), ("birth_month", "13"), ("birth_day", "0"), ("birth_day", "\u0665"), ("country", "Germany"),
    ("mobile_ad_id", "not-an-id"), ("mobile_ad_id", "00000000-0000-0000-0000-000000000000"), ("city", "1234"),
    ("birth_date", "yesterday"),
])  # fmt: skip
def test_what_cannot_be_normalised_is_left_out(field: str, text: Value) -> None:
    assert prepared(**{field: text}) == {}


def test_a_date_of_birth_stands_for_its_parts_unless_they_are_given() -> None:
    parts = {"DOBY": sha256_hex("1990"), "DOBM": sha256_hex("02"), "DOBD": sha256_hex("03")}

    assert prepared(birth_date="1990-02-03") == parts
    assert prepared(birth_date="1990-02-03T00:00:00.000Z", birth_day="9") == {**parts, "DOBD": sha256_hex("09")}


@pytest.mark.parametrize("raw", [
    {"email": "a@b.co"}, {"phone": "+49301234567"}, {"mobile_ad_id": MADID}, {"external_id": "1"},
    {"first_name": "Jo", "last_name": "Do", "zip": "1"}, {"first_name": "Jo", "last_name": "Do", "city": "Rome"},
    {"first_name": "Jo", "last_name": "Do", "birth_date": "1990-01-01"},
])  # fmt: skip
def test_what_names_a_person_is_used(raw: dict[str, Value]) -> None:
    assert not isinstance(identify(raw, None), Unusable)


@pytest.mark.parametrize(("raw", "why"), [
    ({"email": None}, "no value for any identifier that names a person"),
    ({"first_name": "Jo", "last_name": "Do"}, "no value for any identifier that names a person"),
    ({"zip": "1", "country": "US", "gender": "m"}, "no value for any identifier that names a person"),
    ({"email": "jane at home", "phone": "12", "zip": "1"}, "not usable: email, phone"),
])  # fmt: skip
def test_what_names_nobody_is_dropped_and_the_reason_names_fields_alone(raw: dict[str, Value], why: str) -> None:
    assert identify(raw, None) == Unusable(why)


def test_only_values_that_name_a_person_alone_are_removed_when_they_change() -> None:
    old = {"EMAIL": "a", "PHONE": "b", "FN": "c"}

    assert replaced(old, {"EMAIL": "x", "PHONE": "b", "FN": "c"}) == {"EMAIL": "a"}
    assert replaced(old, {"PHONE": "b"}) == {"EMAIL": "a"}
    assert replaced(old, {**old, "FN": "z"}) == {}
    assert replaced({"FN": "c", "LN": "d", "ZIP": "e"}, {"FN": "c", "LN": "d", "ZIP": "f"}) == {
        "FN": "c", "LN": "d", "ZIP": "e",
    }  # fmt: skip

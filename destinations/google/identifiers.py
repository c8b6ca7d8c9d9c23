"""What Google knows people by, normalised and hashed as its formatting guide wants it.

The rules differ from Facebook's: addresses at Gmail lose dots and tags, phone numbers keep their plus, a name counts
only with a country and a postal code, which are not hashed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from destinations.contract import Unusable
from destinations.google.settings import GoogleSettings, UploadKey
from destinations.identifiers import as_text, e164, email, hashed, is_sha256, letters, mobile_ad_id
from destinations.records import Value

FIELDS: Final[Mapping[str, str]] = {
    "email": "an e-mail address",
    "phone": "a phone number, with country code or under `phone_region`",
    "first_name": "a first name; counts with last_name, country and zip",
    "last_name": "a last name; counts with first_name, country and zip",
    "country": "a country by ISO 3166-1: two letters",
    "zip": "a postal code",
    "mobile_ad_id": "an IDFA or Android advertising id, for `upload_key: mobile`",
    "external_id": "your own id of a person, for `upload_key: user_id`",
}
ADDRESS: Final = ("first_name", "last_name", "country", "zip")
OF_KEY: Final[Mapping[UploadKey, frozenset[str]]] = {
    "contact": frozenset({"email", "phone", *ADDRESS}),
    "mobile": frozenset({"mobile_ad_id"}),
    "user_id": frozenset({"external_id"}),
}

_GMAIL: Final = frozenset({"gmail.com", "googlemail.com"})
_PREFIXES: Final = frozenset({"mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "dame", "rev"})
_SUFFIXES: Final = frozenset({"jr", "sr", "ii", "iii", "iv", "phd", "md", "esq"})
_POSTAL: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z -]{0,15}")
_USER_ID_CHARS_MAX: Final = 512


def identify(settings: GoogleSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
    """Give `email`, `phone` and `address`, or `mobile_id`, or `user_id`, whichever are usable."""
    texts = {name: as_text(value) for name, value in raw.items() if name in OF_KEY[settings.upload_key]}
    if settings.upload_key == "mobile":
        found = {"mobile_id": mobile_ad_id(texts.get("mobile_ad_id", ""))}
    elif settings.upload_key == "user_id":
        id_ = texts.get("external_id", "")
        found = {"user_id": id_ if len(id_) <= _USER_ID_CHARS_MAX else ""}
    else:
        found = _contact(texts, settings.phone_region)
    usable = {name: value for name, value in found.items() if value}
    if usable:
        return usable
    unread = sorted(name for name, text in texts.items() if text)
    return Unusable(f"not usable: {', '.join(unread)}" if unread else "no value for any identifier that Google takes")


def _contact(texts: Mapping[str, str], region: str | None) -> dict[str, Any]:
    phone = texts.get("phone", "")
    return {
        "email": hashed(google_email(texts.get("email", ""))),
        "phone": phone.lower() if is_sha256(phone) else hashed(e164(phone, region)),
        "address": _address(texts),
    }


def google_email(text: str) -> str:
    """Give an address as Google compares it: at Gmail, dots and what follows a plus do not count."""
    if is_sha256(text):
        return text
    address = email("".join(text.split()))
    local, _, domain = address.partition("@")
    if domain not in _GMAIL:
        return address
    local = local.partition("+")[0].replace(".", "")
    return f"{local}@{domain}" if local else ""


def _address(texts: Mapping[str, str]) -> dict[str, str]:
    """All four parts, or nothing."""
    first, last = _name(texts.get("first_name", "")), _name(texts.get("last_name", ""))
    country, postal = letters(texts.get("country", "")).upper(), texts.get("zip", "")
    if not (first and last and len(country) == 2 and country.isascii() and _POSTAL.fullmatch(postal)):
        return {}
    return {"givenName": hashed(first), "familyName": hashed(last), "regionCode": country, "postalCode": postal}


def _name(text: str) -> str:
    """Lower case, no punctuation, no title in front and no degree behind, one space between words."""
    if is_sha256(text):
        return text
    spaced = unicodedata.normalize("NFC", text).lower()
    words = "".join(letter for letter in spaced if letter.isalpha() or letter.isspace()).split()
    while len(words) > 1 and words[0] in _PREFIXES:
        del words[0]
    while len(words) > 1 and words[-1] in _SUFFIXES:
        del words[-1]
    return " ".join(words)

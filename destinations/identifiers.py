"""Normalisation and hashing that several kinds share; what differs by vendor stays with its kind."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any, Final
from uuid import UUID

import phonenumbers

_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
#: One @, no whitespace, something on both sides, a dot in the domain: what every API refuses otherwise.
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


def sha256_hex(text: str) -> str:
    """Give the lower-case hex SHA-256 of the UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()


def is_sha256(text: str) -> bool:
    """True for what looks like a hex SHA-256 already: it must not be hashed again."""
    return _SHA256.fullmatch(text) is not None


def as_text(value: Any) -> str:
    """Give an identifier's text, trimmed; empty for None, for booleans and for lists. Whole numbers have no `.0`."""
    if value is None or isinstance(value, bool | list):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def email(text: str) -> str:
    """Give an address trimmed and in lower case, empty where it is none."""
    address = text.strip().lower()
    return address if _EMAIL.fullmatch(address) else ""


def e164(text: str, region: str | None) -> str:
    """Give a phone number as `+4930123456`, empty where it is none that could exist.

    `region` (ISO 3166-1 alpha-2, `DE`) is where a number without country code is from; without region it is none.
    `00` in front of a country code is read as `+`.
    """
    digits = text.strip()
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    try:
        number = phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def hashed(text: str) -> str:
    """Give the SHA-256 of a normalised text; what is one already stays (in lower case); empty stays empty."""
    if not text:
        return ""
    return text.lower() if is_sha256(text) else sha256_hex(text)


def letters(text: str) -> str:
    """Give the letters of a text in lower case, of every script: no spaces, punctuation or digits."""
    return "".join(letter for letter in unicodedata.normalize("NFC", text).lower() if letter.isalpha())


def mobile_ad_id(text: str) -> str:
    """Give an advertising id in lower case with its hyphens, empty where it is none.

    All zeros is what a device gives whose owner declined tracking: the same for everybody, so it names nobody.
    """
    try:
        id_ = UUID(text)
    except ValueError:
        return ""
    return str(id_) if id_.int else ""

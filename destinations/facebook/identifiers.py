"""What Meta knows people by, normalised and hashed as its table of customer information wants it.

Every value is trimmed, normalised and given as lower-case hex SHA-256; mobile advertising ids and ids of your own go
as they are. What is a SHA-256 already stays. A value that comes to nothing is left out, never sent empty: Meta refuses
rows with an empty EXTERN_ID whatever else they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from destinations.contract import Unusable
from destinations.identifiers import as_text, e164, email, hashed, is_sha256, letters, mobile_ad_id
from destinations.records import Value
from destinations.us_states import state_code

#: The sync's identifier fields, their keys at Meta (in the order of every row), and what each is.
FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "external_id": ("EXTERN_ID", "your own id of a person, sent as it is"),
    "email": ("EMAIL", "an e-mail address"),
    "phone": ("PHONE", "a phone number, with country code or under `phone_region`"),
    "mobile_ad_id": ("MADID", "an IDFA or Android advertising id, sent as it is"),
    "first_name": ("FN", "a first name"),
    "last_name": ("LN", "a last name"),
    "first_initial": ("FI", "the first letter of a first name"),
    "gender": ("GEN", "m or f"),
    "birth_year": ("DOBY", "a year of birth, YYYY"),
    "birth_month": ("DOBM", "a month of birth, 1 to 12"),
    "birth_day": ("DOBD", "a day of birth, 1 to 31"),
    "city": ("CT", "a city"),
    "state": ("ST", "a state; of the US also by its name"),
    "zip": ("ZIP", "a postal code"),
    "country": ("COUNTRY", "a country by ISO 3166-1: two letters"),
}
#: A date stands for all three parts of it.
BIRTH_DATE: Final = "birth_date"
IDENTIFIER_FIELDS: Final = {name: meaning for name, (_, meaning) in FIELDS.items()} | {
    BIRTH_DATE: "a date of birth, YYYY-MM-DD"
}
KEYS: Final = tuple(key for key, _ in FIELDS.values())
#: Each of these names a person alone.
STRONG: Final = frozenset({"EXTERN_ID", "EMAIL", "PHONE", "MADID"})
#: Or all of these together with one of the places or the whole date of birth.
NAMES: Final = frozenset({"FN", "LN"})
_TOGETHER: Final = (frozenset({"ZIP"}), frozenset({"CT"}), frozenset({"DOBY", "DOBM", "DOBD"}))

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[T ].*)?")
_US_ZIP: Final = re.compile(r"([0-9]{5})(?:-?[0-9]{4})?")
_EXTERNAL_ID_CHARS_MAX: Final = 1024


def identify(raw: Mapping[str, Value], region: str | None) -> Mapping[str, Any] | Unusable:
    """Give the row's values by Meta's keys, in the order of `KEYS`, or why they name nobody."""
    texts = _with_birth_parts({name: as_text(value) for name, value in raw.items()})
    found = {
        key: value
        for name, (key, _) in FIELDS.items()
        if name in texts and (text := texts[name]) and (value := _prepared(key, text, region))
    }
    if found.keys() & STRONG or (found.keys() >= NAMES and any(parts <= found.keys() for parts in _TOGETHER)):
        return found
    unread = sorted(name for name, text in texts.items() if text and name in FIELDS and FIELDS[name][0] not in found)
    why = f"not usable: {', '.join(unread)}" if unread else "no value for any identifier that names a person"
    return Unusable(why)


def replaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what must go: old values that name a person alone, or the whole old row where only all of it did."""
    strong = {key: value for key, value in old.items() if key in STRONG}
    gone = {key: value for key, value in strong.items() if new.get(key) != value}
    if strong:
        return gone
    return {} if all(new.get(key) == value for key, value in old.items()) else old


def _with_birth_parts(texts: dict[str, str]) -> dict[str, str]:
    match = _DATE.fullmatch(texts.pop(BIRTH_DATE)) if BIRTH_DATE in texts else None
    if match is None:
        return texts
    parts = dict(zip(("birth_year", "birth_month", "birth_day"), match.groups(), strict=True))
    return {**parts, **{name: text for name, text in texts.items() if text}}


def _prepared(key: str, text: str, region: str | None) -> str:
    if key == "EXTERN_ID":
        return text if len(text) <= _EXTERNAL_ID_CHARS_MAX else ""
    if key == "MADID":
        return mobile_ad_id(text)
    if is_sha256(text):
        return text.lower()
    if key == "PHONE":
        return hashed(e164(text, region).removeprefix("+"))
    return hashed(_NORMALISED[key](text))


def _gender(text: str) -> str:
    return {"m": "m", "male": "m", "f": "f", "female": "f"}.get(text.lower(), "")


def _number(low: int, high: int, width: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= width else -1
        return f"{number:0{width}d}" if low <= number <= high else ""

    return read


def _zip(text: str) -> str:
    code = "".join(text.lower().split())
    match = _US_ZIP.fullmatch(code)
    return match[1] if match else code


def _country(text: str) -> str:
    code = letters(text)
    return code if len(code) == 2 and code.isascii() else ""


_NORMALISED: Final[Mapping[str, Callable[[str], str]]] = {
    "EMAIL": email,
    "FN": letters,
    "LN": letters,
    "FI": lambda text: letters(text)[:1],
    "GEN": _gender,
    "DOBY": _number(1900, 2100, 4),
    "DOBM": _number(1, 12, 2),
    "DOBD": _number(1, 31, 2),
    "CT": letters,
    "ST": lambda text: state_code(text) or letters(text),
    "ZIP": _zip,
    "COUNTRY": _country,
}

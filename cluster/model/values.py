"""Raw JSON values to values of a declared type, exactly as semantics.md §2 says.

Each function takes any JSON value (`None, bool, int, float, str, list, dict`) and gives the typed value, or MISSING
for null and for whatever is no value of that type. The caller counts `invalid_values`: MISSING from a raw value that
is not None. No function raises. Costs 0.1 to 1.5 µs a scalar, 2 to 3 µs a
time that is text or has a fraction of a second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeAlias

from cluster.definitions.model import ValueType

#: No value. It is None, so that columns take it as null.
MISSING: Final = None
Value: TypeAlias = str | float | bool | int | list[str]

#: Numbers above this in size are ms, others seconds.
SECONDS_MAX: Final = 100_000_000_000
#: Timestamps are int64 ms; what does not fit is missing.
TIMESTAMP_MIN_MS: Final = -(2**63)
TIMESTAMP_MAX_MS: Final = 2**63 - 1

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9]|60)(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))?"
)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_DAYS_OF_400_YEARS = 146_097


def coerce_number(value: object) -> float | None:
    """Give a finite float64. Text counts if it is a JSON number to the letter; a boolean is no number."""
    kind = type(value)
    if kind is float:
        number: float = value  # type: ignore[assignment]
    elif kind is int:
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:
            return MISSING
    elif kind is str and _JSON_NUMBER.fullmatch(value):  # type: ignore[call-overload]
        number = float(value)  # type: ignore[arg-type]
    else:
        return MISSING
    return number if math.isfinite(number) else MISSING


def coerce_string(value: object) -> str | None:
    """Give text: a number in its shortest form (see `number_text`), a boolean as `true` or `false`."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is float:
        return number_text(value)  # type: ignore[arg-type]
    return MISSING


def coerce_boolean(value: object) -> bool | None:
    """Give a boolean; `"true"` and `"false"` (to the letter) count, numbers do not."""
    if type(value) is bool:
        return value
    if value == "true":
        return True
    if value == "false":
        return False
    return MISSING


def coerce_timestamp(value: object) -> int | None:
    """Give UTC ms since 1970: RFC 3339 text (a space for the T and no zone = UTC allowed), or a number.

    A number above 1e11 in size is ms, else seconds. What is below a ms is cut downwards, before 1970 too.
    A numeric text is no timestamp, nor is a boolean.
    """
    kind = type(value)
    if kind is str:
        match = _RFC3339.fullmatch(value)  # type: ignore[call-overload]
        return _time_ms(match) if match else MISSING
    if kind is int:
        whole: int = value  # type: ignore[assignment]
        at_ms = whole if whole > SECONDS_MAX or whole < -SECONDS_MAX else whole * 1000
    elif kind is float:
        number: float = value  # type: ignore[assignment]
        if not math.isfinite(number):
            return MISSING
        at_ms = math.floor(number) if abs(number) > SECONDS_MAX else _seconds_ms(number)
    else:
        return MISSING
    return at_ms if TIMESTAMP_MIN_MS <= at_ms <= TIMESTAMP_MAX_MS else MISSING


def coerce_list(value: object) -> list[str] | None:
    """Give a list of texts: elements become text, nulls and elements that are no text (objects, lists) are dropped."""
    if type(value) is not list:
        return MISSING
    return [text for text in map(coerce_string, value) if text is not MISSING]


_COERCE: Final[dict[str, Callable[[object], Value | None]]] = {
    "string": coerce_string,
    "number": coerce_number,
    "boolean": coerce_boolean,
    "timestamp": coerce_timestamp,
    "list": coerce_list,
}


def coerce(value: object, type_: ValueType) -> Value | None:
    """Give `value` at the declared type, or MISSING."""
    return _COERCE[type_](value)


def coercer(type_: ValueType) -> Callable[[object], Value | None]:
    """Give the function for a type, for callers that branch once a column."""
    return _COERCE[type_]


def number_text(value: float) -> str | None:
    """Give a number's shortest text, MISSING for NaN and infinities.

    Integers are exact, also above 2**53. Floats take the fewest digits that read back as the same float, in the form
    JavaScript's `String(x)` (and so JSON.stringify) gives: positional from 1e-6 up to below 1e21 (`12.0` -> `12`,
    `1e16` -> `10000000000000000`), else with an exponent (`1e+21`, `1.5e-7`). Minus zero is `0`.
    """
    if type(value) is int:
        # Python refuses to write out integers of more than 4,300 digits; JSON readers refuse them before.
        return str(value) if value.bit_length() < 8_192 else MISSING
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2] if value else "0"
    if "e" not in text:
        return text if math.isfinite(value) else MISSING
    return _exponent_text(text)


def _exponent_text(text: str) -> str:
    """Rewrite Python's `d.ddde±xx`, used below 1e-4 and from 1e16, in JavaScript's form."""
    mantissa, _, exponent_text = text.partition("e")
    sign, digits = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    digits = digits.replace(".", "")
    exponent = int(exponent_text)
    if 0 <= exponent < 21:
        return f"{sign}{digits.ljust(exponent + 1, '0')}"
    if -7 < exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{exponent:+d}"


def _seconds_ms(seconds: float) -> int:
    """Cut by the digits written: 1.001 s is 1,001 ms, though 1.001 * 1000 is a little less in binary."""
    return math.floor(Decimal(repr(seconds)).scaleb(3))


def _time_ms(match: re.Match[str]) -> int | None:
    day_text, hour, minute, second, fraction, sign, offset_hour, offset_minute = match.groups()
    day = _days_since_1970(day_text)
    if day is None:
        return MISSING
    seconds = day * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    if sign:
        offset = int(offset_hour) * 3_600 + int(offset_minute) * 60
        seconds += offset if sign == "-" else -offset
    if second == "60" and seconds % 86_400:
        return MISSING  # a leap second ends a UTC day; it counts as the next day's first second
    return seconds * 1_000 + (int(fraction[:3].ljust(3, "0")) if fraction else 0)


@lru_cache(maxsize=4_096)
def _days_since_1970(day_text: str) -> int | None:
    """Count days, None for a day that is not in the Gregorian calendar. Cached: events share few days."""
    try:
        if day_text.startswith("0000"):  # RFC 3339 has it, Python has not; 400 years later falls alike
            return date.fromisoformat(f"0400{day_text[4:]}").toordinal() - _DAYS_OF_400_YEARS - _EPOCH_ORDINAL
        return date.fromisoformat(day_text).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None

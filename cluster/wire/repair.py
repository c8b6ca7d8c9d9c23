"""What SDKs write that is no valid JSON, and how it is made valid: the slow path of reading, taken only on failure.

Bare `NaN`, `Infinity` and `-Infinity` become null (Python SDKs write them), invalid UTF-8 and lone surrogate
escapes become U+FFFD. Everything is linear in the length of the text, also for hostile input.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

#: A whole string (an unterminated one runs to the end, so that no text is looked at twice), or a bare word.
_STRING_OR_WORD = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|-?(?:NaN|Infinity)', re.DOTALL)
#: Any escape; a pair of surrogates is taken together, so that what is left alone is alone.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_BARE_WORD = re.compile(rb"NaN|Infinity")
_BOM = b"\xef\xbb\xbf"


class Repaired(NamedTuple):
    """Text that holds no repairable fault any more; `nulled` counts the bare words that became null."""

    text: bytes
    nulled: int


def valid_utf8(text: bytes) -> bytes:
    """Give the text without a byte order mark, with invalid UTF-8 replaced; the very same object if nothing was."""
    if text.startswith(_BOM):
        text = text[len(_BOM):]
    if text.isascii():
        return text
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode("utf-8")
    return text


def repair(text: bytes) -> Repaired:
    """Make valid what can be; other faults stay for the parser to refuse."""
    text = valid_utf8(text)
    if _SURROGATE_ESCAPE.search(text):
        text = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)
    if not _BARE_WORD.search(text):
        return Repaired(text, 0)
    nulled = 0

    def null(found: re.Match[bytes]) -> bytes:
        nonlocal nulled
        if found[0].startswith(b'"'):
            return found[0]
        nulled += 1
        return b"null"

    return Repaired(_STRING_OR_WORD.sub(null, text), nulled)


def parse_leniently(text: bytes) -> Any:
    """Parse JSON that the fast parser may have refused, for instance for a number out of range (read as infinite).

    Raises ValueError for what is no JSON, and for what is nested too deeply to be read.
    """
    try:
        return json.loads(repair(text).text, parse_int=_integer)
    except RecursionError as error:
        message = "The JSON is nested too deeply."
        raise ValueError(message) from error


def _integer(digits: str) -> int | float:
    """Read an integer exactly, save those that Python refuses for their length."""
    return int(digits) if len(digits) < 4_000 else float(digits)

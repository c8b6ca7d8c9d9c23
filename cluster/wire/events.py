"""From the texts of a request's events to those that may go on and those that are refused singly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from cluster.errors import WireError
from cluster.limits import EVENT_BYTES_MAX, JSON_DEPTH_MAX, REQUEST_EVENTS_MAX
from cluster.wire.envelope import RawEvents, envelope_of_all

#: The reason of an event that is none: not JSON, no object, too large, nested too deeply.
INVALID = "invalid"
#: Stands for what is no JSON: it is no object, so it is refused like one.
NO_EVENT = b"null"
#: An event of this depth has at least so many bytes; shorter ones need no look.
_DEEP_BYTES = 2 * JSON_DEPTH_MAX
_BRACE = ord("{")
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_RAW_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class ReadEvents:
    """A request's events: `raw` holds the readable ones, number `r` of it was number `indices[r]` of the request.

    `indices` is a range where nothing was refused. `rejected` are the others, (index, reason), ascending.
    `nulled` counts bare NaN and Infinity that were read as null.
    """

    raw: RawEvents
    indices: Sequence[int]
    rejected: list[tuple[int, str]]
    nulled: int = 0

    @property
    def envelope(self) -> pa.RecordBatch:
        """Give the readable events as an envelope of their own."""
        return envelope_of_all([self.raw])


def sift(texts: list[bytes]) -> tuple[list[bytes], Sequence[int], list[tuple[int, str]]]:
    """Part well-formed JSON texts into events with their indices, and rejected ones. Too many of them: WireError.

    No text is empty, nor begins with a blank.
    """
    check_count(len(texts))
    # Written out here, since a call for each event would cost more than the checks.
    if all([
        text[0] == _BRACE and len(text) <= EVENT_BYTES_MAX
        and (len(text) < _DEEP_BYTES or text.count(b"{") + text.count(b"[") <= JSON_DEPTH_MAX)
        for text in texts
    ]):
        return texts, range(len(texts)), []
    indices = [index for index, text in enumerate(texts) if acceptable(text)]
    kept = set(indices)
    rejected = [(index, INVALID) for index in range(len(texts)) if index not in kept]
    return [texts[index] for index in indices], indices, rejected


def acceptable(text: bytes) -> bool:
    """Tell whether a JSON text is an object within the limits of size and depth."""
    if text[0] != _BRACE or len(text) > EVENT_BYTES_MAX:
        return False
    return text.count(b"{") + text.count(b"[") <= JSON_DEPTH_MAX or _depth(text) <= JSON_DEPTH_MAX


def raw_elements(text: bytes) -> list[bytes]:
    """Give the text of each element of a JSON array; ValueError if it is none."""
    try:
        return [bytes(element) for element in _RAW_LIST.decode(text)]
    except RecursionError as error:
        message = "JSON is nested too deeply"
        raise ValueError(message) from error


def check_count(count: int) -> None:
    """Refuse a request of too many events."""
    if count > REQUEST_EVENTS_MAX:
        message = f"The request holds {count:,} events; at most {REQUEST_EVENTS_MAX:,} are taken at once."
        raise WireError(413, "too_many_events", message, next_step="Send smaller batches.")


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for found in _STRING_OR_BRACKET.finditer(text):
        mark = found[0]
        if mark in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in (b"}", b"]"):
            depth -= 1
    return deepest

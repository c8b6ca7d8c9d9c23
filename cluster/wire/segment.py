"""The wire format of Segment, RudderStack and Hightouch Events: request bodies to envelopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from cluster.errors import WireError
from cluster.model.values import coerce_timestamp
from cluster.wire.envelope import RawEvents
from cluster.wire.events import ReadEvents, acceptable, sift
from cluster.wire.repair import repair, valid_utf8

BATCH = "batch"
_KINDS = ("track", "identify", "page", "screen", "group", "alias")
#: What a POST to a path holds: one event of a kind, or a batch (reference: the SDKs' own settings). Segment's browser
#: leaves `/v1` out where users do.
KIND_OF_PATH: dict[str, str] = {
    **{f"/v1/{kind}": kind for kind in _KINDS},
    **{f"{start}/{kind[0]}": kind for kind in _KINDS for start in ("", "/v1")},
    **dict.fromkeys(("/v1/batch", "/v1/b", "/b", "/batch", "/beacon/v1/batch"), BATCH),
}
_SEGMENT, _RUDDERSTACK = 1, 2
_NO_RAW = msgspec.Raw(b"null")
#: Top-level keys of a batch that belong to each of its events.
_SHARED = ("context", "integrations")


class _Batch(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: Any = None
    writeKey: Any = None
    context: msgspec.Raw = _NO_RAW
    integrations: msgspec.Raw = _NO_RAW


class _Head(msgspec.Struct):
    """What is asked of an event on its way in."""

    writeKey: Any = None
    channel: Any = None


class _Single(_Head):
    type: Any = None


_ONE = range(1)
_SINGLE: msgspec.json.Decoder[_Single] = msgspec.json.Decoder(_Single)
_BATCH: msgspec.json.Decoder[_Batch] = msgspec.json.Decoder(_Batch)
_HEAD: msgspec.json.Decoder[_Head] = msgspec.json.Decoder(_Head)
_FIELDS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """One request, read before anybody knows whose it is. The keys are what the body says; `sent_at_ms` may be None.

    `texts` are the readable events' JSON objects, each with a `messageId`; `indices`, `rejected` and `nulled` are as
    in `ReadEvents`.
    """

    body_key: str | None
    first_event_key: str | None
    sent_at_ms: int | None
    channel: bool
    texts: list[bytes]
    indices: Sequence[int]
    rejected: list[tuple[int, str]]
    nulled: int

    def events(self, *, source: str | None, fmt: int | None = None) -> ReadEvents:
        """Give the events for the envelope. `fmt` as the source is configured; None: RudderStack's marks decide."""
        if fmt is None:
            fmt = _RUDDERSTACK if self.channel else _SEGMENT
        raw = RawEvents(self.texts, fmt, source, self.sent_at_ms)
        return ReadEvents(raw, self.indices, self.rejected, self.nulled)


def read_request(body: bytes, kind: str, new_message_id: Callable[[], str]) -> SegmentRequest:
    """Read an inflated body of a path of `KIND_OF_PATH`; the content type says nothing (beacons send text/plain).

    Raises WireError for the request as a whole: not JSON, no object, no `batch` list, too many events. A bad event
    is refused alone. An event that says `messageId` nowhere gets one, so that a batch sent on twice counts once.
    """
    if kind != BATCH and (single := _single(body, kind, new_message_id)) is not None:
        return single
    batch, nulled = _read(body, kind)
    texts, indices, rejected = sift([bytes(event) for event in batch.batch])
    head = _head(texts[0]) if texts else _Head()
    shared = {key: raw for key in _SHARED if (raw := bytes(getattr(batch, key))) not in (b"null", b"{}")}
    if shared:
        texts = [_merged(text, shared) for text in texts]
    texts = [text if b'"messageId"' in text else _with_id(text, new_message_id()) for text in texts]
    return SegmentRequest(
        body_key=_key(batch.writeKey), first_event_key=_key(head.writeKey),
        sent_at_ms=coerce_timestamp(batch.sentAt), channel=type(head.channel) is str,
        texts=texts, indices=indices, rejected=rejected, nulled=nulled,
    )


def _single(body: bytes, kind: str, new_message_id: Callable[[], str]) -> SegmentRequest | None:
    """Read the usual body of one event, which says its kind itself and stays as it is; None for every other."""
    text = valid_utf8(body).strip(b" \t\r\n")
    try:
        head = _SINGLE.decode(text)
    except (ValueError, RecursionError):
        return None
    if head.type != kind or not acceptable(text):
        return None
    if b'"messageId"' not in text:
        text = _with_id(text, new_message_id())
    return SegmentRequest(None, _key(head.writeKey), None, type(head.channel) is str, [text], _ONE, [], 0)


def _read(body: bytes, kind: str) -> tuple[_Batch, int]:
    """Parse the request, repaired if need be; also gives how many bare words became null."""
    text = valid_utf8(body)
    try:
        return _parsed(text, kind), 0
    except (ValueError, RecursionError):
        text, nulled = repair(text)
    try:
        return _parsed(text, kind), nulled
    except msgspec.ValidationError as error:
        message = f"The body is not what this path takes: {error}."
        raise WireError(400, "invalid_request", message) from error
    except (ValueError, RecursionError) as error:
        message = f"The body cannot be read as JSON: {error}."
        raise WireError(400, "invalid_json", message) from error


def _parsed(text: bytes, kind: str) -> _Batch:
    if kind == BATCH:
        return _BATCH.decode(text)
    fields = _FIELDS.decode(text)
    fields["type"] = msgspec.Raw(msgspec.json.encode(kind))
    return _Batch([msgspec.Raw(msgspec.json.encode(fields))])


def _head(text: bytes) -> _Head:
    try:
        return _HEAD.decode(text)
    except (ValueError, RecursionError):
        return _Head()  # a number out of range in one of the two: neither is there


def _key(value: Any) -> str | None:
    return value if type(value) is str and value else None


def _merged(text: bytes, shared: dict[str, bytes]) -> bytes:
    """Put the batch's shared objects under the event's own; the event's keys win."""
    fields = _FIELDS.decode(text)
    for key, raw in shared.items():
        own = bytes(fields.get(key, _NO_RAW))
        try:
            merged = _FIELDS.decode(raw) | ({} if own == b"null" else _FIELDS.decode(own))
        except msgspec.ValidationError:
            continue  # one of them is no object: nothing to merge
        fields[key] = msgspec.Raw(msgspec.json.encode(merged))
    return msgspec.json.encode(fields)


def _with_id(text: bytes, message_id: str) -> bytes:
    start = text[:-1].rstrip()
    comma = b"" if start == b"{" else b","
    return b'%b%b"messageId":%b}' % (start, comma, msgspec.json.encode(message_id))

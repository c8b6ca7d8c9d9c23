"""The native wire format: canonical events as a JSON array, NDJSON, msgpack or an Arrow IPC stream."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from cluster.errors import WireError
from cluster.wire.arrow_events import arrow_texts
from cluster.wire.envelope import RawEvents
from cluster.wire.events import NO_EVENT, ReadEvents, raw_elements, sift
from cluster.wire.msgpack_events import msgpack_texts
from cluster.wire.repair import repair, valid_utf8

_NATIVE = 0
_LINES: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


def read_events(body: bytes, content_type: str = "", *, source: str | None = None) -> ReadEvents:
    """Read a request of native events, already inflated. One bad event is refused alone.

    `content_type` may carry parameters; without one, or as `text/plain`, the first byte decides between array and
    NDJSON. `source` is the source that the key belongs to. Raises WireError for the request as a whole.
    """
    media = content_type.partition(";")[0].strip().lower()
    reader = _READERS.get(media)
    if reader is None:
        message = f"The content type {media!r} is not read here; allowed: {', '.join(filter(None, _READERS))}."
        raise WireError(415, "unsupported_media_type", message)
    texts, nulled = reader(body)
    events, indices, rejected = sift(texts)
    return ReadEvents(RawEvents(events, _NATIVE, source), indices, rejected, nulled)


def _json(body: bytes) -> tuple[list[bytes], int]:
    """Read an array of events, or one event alone."""
    text = valid_utf8(body).strip()
    if text.startswith(b"{"):
        return _array(b"[" + text + b"]")
    return _array(text)


def _array(text: bytes) -> tuple[list[bytes], int]:
    try:
        return raw_elements(text), 0
    except ValueError:
        pass
    repaired = repair(text)
    try:
        return raw_elements(repaired.text), repaired.nulled
    except ValueError as error:
        message = f"The body is no JSON array of events: {error}."
        raise WireError(400, "invalid_json", message) from error


def _ndjson(body: bytes) -> tuple[list[bytes], int]:
    """Read one event a line. Blank lines count for nothing, also not in the indices."""
    text = valid_utf8(body)
    try:
        texts = [bytes(line) for line in _LINES.decode_lines(text)]
    except (ValueError, RecursionError):
        return _line_by_line(text)
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if lines != len(texts) or any([b"\n" in line for line in texts]):
        return _line_by_line(text)
    return texts, 0


def _line_by_line(text: bytes) -> tuple[list[bytes], int]:
    texts, nulled = [], 0
    for line in text.split(b"\n"):
        if line.strip():
            found, count = _line(line)
            texts.append(found)
            nulled += count
    return texts, nulled


def _line(line: bytes) -> tuple[bytes, int]:
    for attempt, count in ((line, 0), repair(line)):
        try:
            return bytes(_LINES.decode(attempt)), count
        except (ValueError, RecursionError):
            continue
    return NO_EVENT, 0


def _sniffed(body: bytes) -> tuple[list[bytes], int]:
    return _json(body) if valid_utf8(body[:64]).lstrip().startswith(b"[") else _ndjson(body)


_READERS: dict[str, Callable[[bytes], tuple[list[bytes], int]]] = {
    "": _sniffed,
    "text/plain": _sniffed,
    "application/octet-stream": _sniffed,
    "application/json": _json,
    "application/x-ndjson": _ndjson,
    "application/ndjson": _ndjson,
    "application/jsonl": _ndjson,
    "application/msgpack": msgpack_texts,
    "application/x-msgpack": msgpack_texts,
    "application/vnd.msgpack": msgpack_texts,
    "application/vnd.apache.arrow.stream": arrow_texts,
}

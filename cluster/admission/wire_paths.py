"""Where each wire format keeps the fields of a canonical event."""

from __future__ import annotations

from cluster.admission.plan import CANONICAL_FIELDS, EventPlan
from cluster.admission.timestamps import Format
from cluster.definitions.model import Path

#: Segment, RudderStack and Hightouch write the canonical fields so; `source` is never theirs to say.
_SDK_NAMES = {
    "type": "type", "event": "event", "user_id": "userId", "anonymous_id": "anonymousId", "group_id": "groupId",
    "previous_id": "previousId", "message_id": "messageId", "timestamp": "timestamp", "received_at": "receivedAt",
    "properties": "properties", "traits": "traits", "context": "context",
}
#: What decoding and replay read of every event.
_ALWAYS = ("type", "event", "message_id", "timestamp", "received_at", "source")
#: A page's or screen's name, which is its canonical `event`.
NAME_PATH: Path = ("name",)
#: The types whose name is at NAME_PATH.
NAMED_TYPES = frozenset({"page", "screen"})
ORIGINAL_TIMESTAMP_PATH: Path = ("originalTimestamp",)
SENT_AT_PATH: Path = ("sentAt",)


def wire_path(fmt: Format, path: Path) -> Path | None:
    """Give the place of a canonical path in an event of this format; None: it is in none, and reads as missing."""
    if fmt is Format.NATIVE:
        return path if path[0] in CANONICAL_FIELDS else None
    name = _SDK_NAMES.get(path[0])
    return None if name is None else (name, *path[1:])


def second_path(fmt: Format, path: Path) -> Path | None:
    """Give the place to look when an `identify` has null or nothing at a path of `traits`.

    RudderStack's Python SDK and browser send an identify's traits in `context.traits` alone.
    """
    return ("context", *path) if fmt is Format.RUDDERSTACK and path[0] == "traits" else None


def paths_read(fmt: Format, plan: EventPlan) -> set[Path]:
    """Give every wire path that decoding under this plan reads."""
    read: set[Path | None] = {wire_path(fmt, (field,)) for field in _ALWAYS}
    read |= {wire_path(fmt, path) for path in plan.paths} | {second_path(fmt, path) for path in plan.paths}
    if fmt is not Format.NATIVE:
        read |= {NAME_PATH, ORIGINAL_TIMESTAMP_PATH, SENT_AT_PATH}
    return {path for path in read if path is not None}


def paths_watched(fmt: Format, plan: EventPlan) -> set[Path]:
    """Give the wire paths of which decoding also reads whether something, be it null, is there at all."""
    watched = {wire_path(fmt, path) for path in plan.presences} | {second_path(fmt, path) for path in plan.presences}
    return {path for path in watched if path is not None}

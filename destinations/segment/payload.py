"""Records to calls, calls to a batch. Segment checks nothing before it answers 200: what is wrong is found here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from destinations.contract import Unusable
from destinations.identifiers import as_text, email
from destinations.records import Batch, Record, SealedBatch, Value
from destinations.requests import Request
from destinations.segment.settings import API_VERSION, HOSTS, SegmentSettings
from destinations.times import iso_ms

FIELDS: Final[Mapping[str, str]] = {
    "external_id": "your own id of a user, Segment's `userId`",
    "anonymous_id": "the id of somebody who has not signed in, Segment's `anonymousId`",
    "email": "an e-mail address; goes along as a trait and names nobody alone",
}
#: Segment drops larger calls, and batches of more calls, behind a 200.
CALL_BYTES_MAX: Final = 32 * 1024
CALLS_MAX: Final = 2_500
#: What Segment's own libraries send at most, of 500 KB that are allowed.
BATCH_BYTES_MAX: Final = 475_000
BYTES_AROUND: Final = 2


def identify(raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
    """Give `userId`, `anonymousId` and `email`, unhashed, whichever there are; one of the ids must be."""
    named = {"userId": as_text(raw.get("external_id")), "anonymousId": as_text(raw.get("anonymous_id"))}
    found = {name: value for name, value in named.items() if value}
    if not found:
        return Unusable("no value for external_id or anonymous_id")
    if address := email(as_text(raw.get("email"))):
        found["email"] = address
    return found


def calls(settings: SegmentSettings, record: Record) -> list[dict[str, Any]]:
    """Give the calls of one record. A message id is the same for every attempt and tells nobody's identity."""
    inside = record.verb == "add"
    key, address = record.audience_id, record.identifiers.get("email")
    common: dict[str, Any] = {name: value for name, value in record.identifiers.items() if name != "email"}
    common["timestamp"] = iso_ms(record.at_ms)
    context: dict[str, Any] = {
        "library": {"name": "usher", "version": API_VERSION},
        "personas": {
            "computation_class": "audience",
            "computation_id": key,
            "computation_key": key,
            "namespace": "usher",
            "space_id": "usher",
        },
    }
    own = {name: value for name, value in record.traits.items() if value is not None}
    made: list[dict[str, Any]] = []
    if settings.send != "track":
        traits = {**own, **({"email": address} if address else {}), key: inside}
        made.append({"type": "identify", **common, "messageId": message_id(record, "id"), "traits": traits,
                     "context": context})  # fmt: skip
    if settings.send != "identify":
        properties = {**own, "audience_key": key, key: inside, "transition_id": record.transition_id}
        made.append({
            "type": "track", **common, "messageId": message_id(record, "tr"),
            "event": settings.entered_event if inside else settings.exited_event, "properties": properties,
            "context": {**context, **({"traits": {"email": address}} if address else {})},
        })  # fmt: skip
    return made


def message_id(record: Record, part: str) -> str:
    """Give Segment's key of deduplication (under 100 characters).

    A member whose identifiers change is told of again under the same transition: the identifiers are part of it.
    """
    named = hashlib.blake2b(msgspec.json.encode(record.identifiers, order="sorted"), digest_size=8)
    return f"{record.transition_id}-{record.verb}-{named.hexdigest()}-{part}"


def fits(settings: SegmentSettings, record: Record) -> bool:
    """True where no call of the record is larger than Segment takes."""
    return all(len(msgspec.json.encode(call)) < CALL_BYTES_MAX for call in calls(settings, record))


def encode(settings: SegmentSettings, batch: Batch) -> bytes:
    """Give the JSON array of calls. A record that is too large is left out: `judge` says so."""
    return msgspec.json.encode([
        call for record in batch.records if fits(settings, record) for call in calls(settings, record)
    ])  # fmt: skip


def size_bytes(settings: SegmentSettings, record: Record) -> int:
    """Give the bytes of a record's calls and a comma after each; of one that is left out, none."""
    sizes = [len(msgspec.json.encode(call)) for call in calls(settings, record)]
    return sum(sizes) + len(sizes) if max(sizes) < CALL_BYTES_MAX else 0


def build(settings: SegmentSettings, sealed: SealedBatch, now_ms: int) -> Request:
    """Give the request of one attempt. `sentAt` is its own time: Segment corrects clocks by it."""
    body = msgspec.json.encode({"batch": msgspec.Raw(sealed.body), "sentAt": iso_ms(now_ms)})
    key = base64.b64encode(f"{settings.write_key.get_secret_value()}:".encode()).decode()
    headers = {"authorization": f"Basic {key}", "content-type": "application/json", "accept": "application/json"}
    url = settings.url(HOSTS[settings.region], f"/{API_VERSION}/batch")
    return Request("POST", url, headers, body, settings.timeout, settings.allow_private)

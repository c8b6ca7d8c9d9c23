"""Records to the body of `/users/track`, and the body to a request."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from destinations.braze.settings import BrazeSettings
from destinations.records import Batch, Record, SealedBatch
from destinations.requests import LONG_ANSWER_BYTES_MAX, Request
from destinations.times import iso_ms

#: The array of a body and its brackets.
BYTES_AROUND: Final = 32


def array_name(settings: BrazeSettings) -> str:
    """Give the array of the body that the records are in."""
    return "events" if settings.send == "event" else "attributes"


def encode(settings: BrazeSettings, batch: Batch) -> bytes:
    """Give the JSON body."""
    return msgspec.json.encode({array_name(settings): [entry(settings, record) for record in batch.records]})


def size_bytes(settings: BrazeSettings, record: Record) -> int:
    """Give the bytes of an entry and a comma."""
    return len(msgspec.json.encode(entry(settings, record))) + 1


def entry(settings: BrazeSettings, record: Record) -> dict[str, Any]:
    """Give one object. What the sync lists as traits goes along; it never replaces what is Usher's to say."""
    if settings.send == "event":
        return _event(settings, record)
    own: dict[str, Any] = {**record.identifiers, "_update_existing_only": not settings.create_users}
    if record.verb == "remove":
        # An exit is about somebody who was there: it never makes a profile.
        own["_update_existing_only"] = True
    if settings.send == "array":
        own[settings.array_attribute] = {record.verb: [record.audience_id]}
    else:
        off = None if settings.on_exit_value == "null" else False
        own[settings.attribute_prefix + record.audience_id] = True if record.verb == "add" else off
    return {**_traits(record), **own}


def build(settings: BrazeSettings, sealed: SealedBatch) -> Request:
    """Give the request; every attempt is the same."""
    headers = {
        "authorization": f"Bearer {settings.api_key.get_secret_value()}",
        "content-type": "application/json",
        "accept": "application/json",
    }
    url = settings.url(settings.rest_endpoint, "/users/track")
    return Request("POST", url, headers, sealed.body, settings.timeout, settings.allow_private, LONG_ANSWER_BYTES_MAX)


def _event(settings: BrazeSettings, record: Record) -> dict[str, Any]:
    entered = record.kind == "entered"
    properties = {
        **_traits(record),
        "audience": record.audience_id,
        "cause": record.cause,
        "transition_id": record.transition_id,
    }
    return {
        **record.identifiers,
        "name": settings.entered_event if entered else settings.exited_event,
        "time": iso_ms(record.at_ms),
        "properties": properties,
        "_update_existing_only": not (settings.create_users and entered),
    }


def _traits(record: Record) -> dict[str, Any]:
    """Traits that have a value: null would take the attribute off the profile. Braze keeps names with `_` to itself."""
    return {name: value for name, value in record.traits.items() if value is not None and not name.startswith("_")}

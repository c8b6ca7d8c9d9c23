"""How a profile is named: by one identifier, the first of these that a user has. Nothing is hashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from destinations.braze.settings import BrazeSettings
from destinations.contract import Unusable
from destinations.identifiers import as_text, e164, email
from destinations.records import Value

#: In the order in which they are preferred.
FIELDS: Final[Mapping[str, str]] = {
    "external_id": "your own id of a user, as Braze has it",
    "braze_id": "Braze's id of a profile",
    "alias": "the name of a user alias with the label `alias_label`",
    "email": "an e-mail address",
    "phone": "a phone number, with country code or under `phone_region`",
}
EXTERNAL_ID_BYTES_MAX: Final = 987


def identify(settings: BrazeSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
    """Give the one identifier, under Braze's own name for it."""
    texts = {name: as_text(raw.get(name)) for name in FIELDS}
    external = texts["external_id"]
    if external and len(external.encode()) <= EXTERNAL_ID_BYTES_MAX:
        return {"external_id": external}
    if texts["braze_id"]:
        return {"braze_id": texts["braze_id"]}
    if texts["alias"] and settings.alias_label is not None:
        return {"user_alias": {"alias_name": texts["alias"], "alias_label": settings.alias_label}}
    if address := email(texts["email"]):
        return {"email": address}
    if number := e164(texts["phone"], settings.phone_region):
        return {"phone": number}
    unread = sorted(name for name, text in texts.items() if text)
    return Unusable(f"not usable: {', '.join(unread)}" if unread else "no value for any identifier")

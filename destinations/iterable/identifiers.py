"""How a subscriber is named: by address or by id, never both, as the project does. Nothing is hashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from destinations.contract import Unusable
from destinations.identifiers import as_text, email
from destinations.iterable.settings import IterableSettings
from destinations.records import Value

FIELDS: Final[Mapping[str, str]] = {
    "external_id": "your own id of a user, the `userId` of projects by id and of hybrid ones",
    "email": "an e-mail address, of projects by address and of hybrid ones",
}
OF_PROJECT: Final = {
    "email": frozenset({"email"}),
    "user_id": frozenset({"external_id"}),
    "hybrid": frozenset(FIELDS),
}


def identify(settings: IterableSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
    """Give `userId` or `email`; a hybrid project is told the id where there is one."""
    known = OF_PROJECT[settings.project]
    texts = {name: as_text(raw.get(name)) for name in FIELDS if name in known}
    id_ = texts.get("external_id", "")
    # Iterable calls ids malformed that hold anything but printable ASCII.
    if id_ and id_.isascii() and id_.isprintable():
        return {"userId": id_}
    if address := email(texts.get("email", "")):
        return {"email": address}
    unread = sorted(name for name, text in texts.items() if text)
    return Unusable(f"not usable: {', '.join(unread)}" if unread else "no value for any identifier")

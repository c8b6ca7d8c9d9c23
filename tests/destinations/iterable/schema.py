"""Request and response shapes of Iterable's published contract (Swagger 1.8, lists), as JSON Schemas.

Unlike the contract they forbid what it does not name, so that a misspelt key fails.
"""

from __future__ import annotations

from typing import Any


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_INT64 = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_TEXTS = {"type": "array", "items": _TEXT}

#: Either an address or an id identifies a user, not both.
_ONE = {"oneOf": [{"required": ["email"]}, {"required": ["userId"]}]}
SUBSCRIBER = {
    **_object(
        [], email=_TEXT, userId=_TEXT, dataFields={"type": "object"}, preferUserId=_FLAG, mergeNestedObjects=_FLAG
    ),
    **_ONE,
}
UNSUBSCRIBER = {**_object([], email=_TEXT, userId=_TEXT), **_ONE}
CREATE = _object(["name"], name=_TEXT, description=_TEXT)
SUBSCRIBE = _object(
    ["listId", "subscribers"],
    listId=_INT64,
    subscribers={"type": "array", "items": SUBSCRIBER},
    updateExistingUsersOnly=_FLAG,
)
UNSUBSCRIBE = _object(
    ["listId", "subscribers"],
    listId=_INT64,
    subscribers={"type": "array", "items": UNSUBSCRIBER},
    channelUnsubscribe=_FLAG,
    campaignId=_INT64,
)
FAILED = _object([], **{
    f"{kind}{what}": _TEXTS
    for kind in ("invalid", "notFound", "forgotten", "conflict", "invalidData")
    for what in ("Emails", "UserIds")
})  # fmt: skip
UPDATE_RESPONSE = _object(
    ["successCount", "failCount"],
    successCount=_INT64,
    failCount=_INT64,
    invalidEmails=_TEXTS,
    invalidUserIds=_TEXTS,
    createdFields=_TEXTS,
    filteredOutFields=_TEXTS,
    failedUpdates=FAILED,
)
ERROR = _object(["code", "msg"], code=_TEXT, msg=_TEXT, params={"type": ["object", "null"]})

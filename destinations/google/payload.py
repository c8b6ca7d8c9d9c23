"""Members to the array that a batch stores, and the array to a request of the Data Manager API."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import msgspec

from destinations.google.settings import API_VERSION, HOST, GoogleSettings
from destinations.records import Batch, Record, Verb
from destinations.requests import LONG_ANSWER_BYTES_MAX, Request

#: Bytes of a body besides its members: brackets here; accounts, consent and the rest come when it is built.
BYTES_AROUND: Final = 2


def member(identifiers: dict[str, Any]) -> dict[str, Any]:
    """Give one `AudienceMember`."""
    if "mobile_id" in identifiers:
        return {"mobileData": {"mobileIds": [identifiers["mobile_id"]]}}
    if "user_id" in identifiers:
        return {"userIdData": {"userId": identifiers["user_id"]}}
    found = [
        {key: identifiers[name]}
        for name, key in (("email", "emailAddress"), ("phone", "phoneNumber"), ("address", "address"))
        if name in identifiers
    ]
    return {"compositeData": {"userData": {"userIdentifiers": found}}}


def encode(batch: Batch) -> bytes:
    """Give the JSON array of members: the list's id is not known yet, so the rest is put around it by `build`."""
    return msgspec.json.encode([member(record.identifiers) for record in batch.records])


def size_bytes(record: Record) -> int:
    """Give the bytes of a member and a comma."""
    return len(msgspec.json.encode(member(record.identifiers))) + 1


def change_body(settings: GoogleSettings, verb: Verb, list_id: str, members: bytes) -> bytes:
    """Give the body of `audienceMembers:ingest` or `:remove`. Removals know neither consent nor terms."""
    body: dict[str, Any] = {
        "destinations": [destination(settings, list_id)],
        "audienceMembers": msgspec.Raw(members),
    }
    if settings.upload_key == "contact":
        body["encoding"] = "HEX"
    if verb == "add":
        if consent := _consent(settings):
            body["consent"] = consent
        if settings.upload_key != "user_id":
            body["termsOfService"] = {"customerMatchTermsOfServiceStatus": "ACCEPTED"}
    return msgspec.json.encode(body)


def destination(settings: GoogleSettings, list_id: str) -> dict[str, Any]:
    """Give the API's `Destination`: which list, of which account, reached through which."""
    found: dict[str, Any] = {
        "operatingAccount": {"accountType": "GOOGLE_ADS", "accountId": settings.customer_id},
        "productDestinationId": list_id,
    }
    if settings.login_customer_id is not None:
        found["loginAccount"] = {"accountType": "GOOGLE_ADS", "accountId": settings.login_customer_id}
    return found


def api_request(
    settings: GoogleSettings, token: str, method: str, path: str, body: bytes = b"", *, lists: bool = False,
    query: dict[str, str] | None = None,
) -> Request:  # fmt: skip
    """Give a request; `lists` says that it is one of the list service, which names the manager in a header."""
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    if lists and settings.login_customer_id is not None:
        headers["login-account"] = f"accountTypes/GOOGLE_ADS/accounts/{settings.login_customer_id}"
    if body:
        headers["content-type"] = "application/json"
    url = settings.url(HOST, f"/{API_VERSION}/{path}")
    if query:
        url += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return Request(method, url, headers, body, settings.timeout, settings.allow_private, LONG_ANSWER_BYTES_MAX)


def _consent(settings: GoogleSettings) -> dict[str, str]:
    stated = {
        "adUserData": settings.consent.ad_user_data,
        "adPersonalization": settings.consent.ad_personalization,
    }
    return {name: f"CONSENT_{value.upper()}" for name, value in stated.items() if value is not None}

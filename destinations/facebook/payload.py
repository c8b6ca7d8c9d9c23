"""Rows to the body of `/{audience}/users`, and the body to a request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from destinations.facebook.identifiers import KEYS
from destinations.facebook.settings import HOST, FacebookSettings
from destinations.records import Batch, Record
from destinations.requests import LONG_ANSWER_BYTES_MAX, Request

#: Bytes of a body besides its rows: every key named in the schema, and the words around.
BYTES_AROUND: Final = 256

_encode: Final = msgspec.json.Encoder().encode


def batch_key(record: Record) -> str:
    """Adding and removing are different calls, and a row without EXTERN_ID must not stand under that column."""
    return f"{record.verb}+id" if "EXTERN_ID" in record.identifiers else record.verb


def rows_of(identifiers: list[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Give the schema, which has the keys that any row has, and the rows in its order; what is missing is empty."""
    present = set().union(*identifiers)
    schema = [key for key in KEYS if key in present]
    return schema, [[row.get(key, "") for key in schema] for row in identifiers]


def encode(batch: Batch) -> bytes:
    """Give the JSON body."""
    schema, rows = rows_of([record.identifiers for record in batch.records])
    return msgspec.json.encode({"payload": {"schema": schema, "data": rows}})


def size_bytes(record: Record) -> int:
    """Give the bytes of a row that has every column: its values, and quotes and a comma for each of `KEYS`."""
    values = len(_encode([*record.identifiers.values()])) - 3 * len(record.identifiers) - 1
    return values + 3 * len(KEYS) + 3


def graph_request(
    settings: FacebookSettings, method: str, path: str, body: bytes = b"", query: Mapping[str, str] | None = None
) -> Request:
    """Give a request to the Graph API; `path` follows the version. The token goes into a header, never the URL."""
    token = settings.access_token.get_secret_value()
    parameters = dict(query or {})
    if settings.app_secret is not None:
        key = settings.app_secret.get_secret_value().encode()
        parameters["appsecret_proof"] = hmac.new(key, token.encode(), hashlib.sha256).hexdigest()
    url = settings.url(HOST, f"/{settings.api_version}/{path}")
    if parameters:
        url += "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    headers = {"authorization": f"Bearer {token}", "accept": "application/json"}
    if body:
        headers["content-type"] = "application/json"
    return Request(method, url, headers, body, settings.timeout, settings.allow_private, LONG_ANSWER_BYTES_MAX)

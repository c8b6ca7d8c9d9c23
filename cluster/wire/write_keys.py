"""Where SDK clients put their write key, and which one counts."""

from __future__ import annotations

import base64
import binascii

from cluster.errors import WireError


def write_key_of(
    authorization: str | None, body_key: str | None, first_event_key: str | None, query_key: str | None
) -> str | None:
    """Give the key of a request: Basic user name, else the body's, else its first event's, else the query's.

    None where there is none. Raises WireError 401 if the header and the body name different keys, or if the Basic
    credentials cannot be read. Other schemes (`Bearer`) carry no write key.
    """
    header_key = basic_user(authorization)
    in_body = body_key or first_event_key or None
    if header_key and in_body and header_key != in_body:
        message = "The Authorization header and the body name different write keys."
        raise WireError(401, "write_key_mismatch", message, next_step="Use one write key in a request.")
    return header_key or in_body or query_key or None


def basic_user(authorization: str | None) -> str | None:
    """Give the user name of Basic credentials; without a colon, all of it. None for another scheme or none."""
    scheme, _, credentials = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        message = "The Basic credentials of the Authorization header are no base64 text."
        raise WireError(401, "invalid_authorization", message) from error
    return text.partition(":")[0] or None

"""Standard Webhooks 1.0.0 signatures: HMAC-SHA256 over `id.timestamp.body`, the exact bytes sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

SECRET_PREFIX: Final = "whsec_"


def signing_key(secret: str) -> bytes:
    """Give the key bytes of a secret: `whsec_` text is base64 after the prefix, other text its UTF-8 bytes.

    Raises ValueError for an empty secret and for `whsec_` text that is not base64; the message holds no part of it.
    """
    if not secret.startswith(SECRET_PREFIX):
        if not secret:
            message = "the secret is empty; allowed: whsec_ and base64 text, or any other text"
            raise ValueError(message)
        return secret.encode()
    encoded = secret.removeprefix(SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        message = "after whsec_ the secret is not base64; make one of 24 to 64 random bytes"
        raise ValueError(message)
    return key


def sign(key: bytes, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Give the `webhook-signature` value, `v1,` and base64."""
    signed = b".".join((message_id.encode(), str(timestamp_s).encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()

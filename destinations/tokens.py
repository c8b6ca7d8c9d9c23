"""OAuth 2 token requests as values: a refresh token, or a service account's signed assertion (RFC 7523).

Delivery keeps the token in memory, shares it between syncs of one scope, renews it before it expires and after a
refusal. Nothing here is logged, and answers to token requests are not kept.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from destinations.answers import json_object, plain_failure, retry_after_ms
from destinations.outcomes import Credentials, Retry, Token, TokenOutcome
from destinations.requests import Answer, Request, Response

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: How long an assertion is good for; the token it buys lives as long as the server says.
ASSERTION_LIFE_S: Final = 3600
#: A token counts as used up so long before the server says: a request on its way must still find it good.
EXPIRES_EARLY_MS: Final = 60_000
#: What the life of a token is taken to be where the answer does not say (RFC 6749 only recommends it).
LIFE_DEFAULT_S: Final = 300


def refresh_token_request(
    url: str, *, client_id: str, client_secret: str, refresh_token: str, timeout_ms: int, allow_private: bool = False
) -> Request:
    """Trade a refresh token for an access token (RFC 6749 §6)."""
    form = {
        "grant_type": "refresh_token",
        "client_id": client_id,
        "client_secret": client_secret,
        "refresh_token": refresh_token,
    }
    return _form_request(url, form, timeout_ms, allow_private)


def assertion_request(
    url: str,
    *,
    private_key_pem: str,
    claims: Mapping[str, Any],
    now_ms: int,
    timeout_ms: int,
    key_id: str = "",
    form: Mapping[str, str] | None = None,
    allow_private: bool = False,
) -> Request:
    """Trade an RS256 assertion for an access token; `iat` and `exp` are added to `claims`.

    `form` replaces the form fields but for the assertion, which it names by the value `{assertion}`. Raises
    ValueError for a key that is no RSA key in PEM; the message holds no part of it.
    """
    now_s = now_ms // 1000
    assertion = sign_assertion(private_key_pem, {**claims, "iat": now_s, "exp": now_s + ASSERTION_LIFE_S}, key_id)
    fields = form or {"grant_type": JWT_BEARER, "assertion": "{assertion}"}
    filled = {name: assertion if value == "{assertion}" else value for name, value in fields.items()}
    return _form_request(url, filled, timeout_ms, allow_private)


def sign_assertion(private_key_pem: str, claims: Mapping[str, Any], key_id: str = "") -> str:
    """Give a JWT signed with RS256. Raises ValueError for a key that is no RSA key in PEM."""
    key = rsa_key(private_key_pem)
    header = {"alg": "RS256", "typ": "JWT", **({"kid": key_id} if key_id else {})}
    signed = f"{_base64url(msgspec.json.encode(header))}.{_base64url(msgspec.json.encode(dict(claims)))}"
    return f"{signed}.{_base64url(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


def rsa_key(private_key_pem: str) -> RSAPrivateKey:
    """Read a private key; for settings to check what people wrote. Raises ValueError without any part of it."""
    message = "the private key is no unencrypted RSA key in PEM form (-----BEGIN PRIVATE KEY-----)"
    try:
        key = load_pem_private_key(private_key_pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(message) from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(message)
    return key


def judge_token_answer(answer: Answer) -> TokenOutcome:
    """Read an OAuth 2 token answer. `invalid_grant` and its kin are credentials errors, as is any other 4xx."""
    body = json_object(answer)
    if isinstance(answer, Response) and 200 <= answer.status < 300:
        value = (body or {}).get("access_token")
        if not isinstance(value, str) or not value:
            return Retry("the token answer holds no access_token")
        life_s = (body or {}).get("expires_in", LIFE_DEFAULT_S)
        life_ms = int(life_s * 1000) if isinstance(life_s, int | float) else LIFE_DEFAULT_S * 1000
        return Token(value, answer.received_ms + max(0, life_ms - EXPIRES_EARLY_MS))
    failure = plain_failure(answer)
    if isinstance(failure, Retry) and failure.attempts_max is None:
        return failure
    error = (body or {}).get("error")
    word = error if isinstance(error, str) and error.replace("_", "").isalnum() else "refused"
    if word == "temporarily_unavailable" and isinstance(answer, Response):
        return Retry("token: temporarily_unavailable", retry_after_ms(answer))
    return Credentials(f"the token request failed: {word}")


def _form_request(url: str, form: Mapping[str, str], timeout_ms: int, allow_private: bool) -> Request:
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    return Request("POST", url, headers, urlencode(form).encode(), timeout_ms, allow_private)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

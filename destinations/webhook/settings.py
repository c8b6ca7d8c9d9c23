"""A webhook's own keys in a definitions document."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from cluster.model.durations import DURATION_FORM, format_duration, parse_duration
from destinations.contract import DestinationSettings
from destinations.signing import signing_key
from destinations.ssrf import refused_url
from destinations.webhook.template import check_header_template, check_template

BATCH_SIZE_DEFAULT: Final = 100
BATCH_SIZE_MAX: Final = 10_000
TIMEOUT_DEFAULT_MS: Final = 15_000
TIMEOUT_MAX_MS: Final = 120_000
#: Headers that say how the message travels, and those of the signature: not for a template to set.
FORBIDDEN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "content-encoding", "connection", "upgrade", "te", "trailer",
     "expect", "keep-alive"}
)  # fmt: skip
FORBIDDEN_HEADER_PREFIXES: Final = ("webhook-", "proxy-")
HEADERS_MAX: Final = 50
HEADER_VALUE_BYTES_MAX: Final = 8 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)/(s|m)")


def parse_rate(text: object) -> float:
    """Give requests per second of `100/s` or `30/m`; raises ValueError with what is allowed."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    rate = float(match[1]) / (1 if match[2] == "s" else 60) if match else 0.0
    if rate <= 0:
        message = "a rate is a number above 0 of requests and a unit: 100/s, 30/m"
        raise ValueError(message)
    return rate


def _rate(value: object) -> float | None:
    return None if value is None else parse_rate(value)


def _timeout_ms(value: object) -> int:
    try:
        timeout_ms = parse_duration(value)
    except ValueError as error:
        message = f"{error}; allowed: {DURATION_FORM}"
        raise ValueError(message) from None
    if not 0 < timeout_ms <= TIMEOUT_MAX_MS:
        message = f"a timeout is above 0 and at most {format_duration(TIMEOUT_MAX_MS)}"
        raise ValueError(message)
    return timeout_ms


class WebhookSettings(DestinationSettings):
    """Keys of `kind: webhook`. `rate_limit` and `timeout` become a rate per second and ms.

    Without `secret` requests carry `webhook-id` and `webhook-timestamp` but no signature.
    """

    allow_private: bool = Field(default=False, strict=True)  # before `url`, whose check reads it
    url: str = Field(max_length=2048)
    secret: SecretStr | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=HEADERS_MAX)
    body: Any = None
    batch_size: int = Field(default=BATCH_SIZE_DEFAULT, ge=1, le=BATCH_SIZE_MAX, strict=True)
    rate_limit: Annotated[float | None, BeforeValidator(_rate)] = None
    timeout: Annotated[int, BeforeValidator(_timeout_ms)] = TIMEOUT_DEFAULT_MS

    @field_validator("secret")
    @classmethod
    def _secret_gives_a_key(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            signing_key(secret.get_secret_value())
        return secret

    @field_validator("headers")
    @classmethod
    def _headers_are_safe(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        lower = [name.lower() for name in headers]
        if len(set(lower)) < len(lower):
            message = "a header is named twice (names differ in case only)"
            raise ValueError(message)
        for name, value in headers.items():
            _check_header(name, value.get_secret_value())
        return headers

    @field_validator("body")
    @classmethod
    def _body_renders(cls, body: Any) -> Any:
        if body is not None:
            check_template(body)
        return body

    @field_validator("url")
    @classmethod
    def _url_leads_out(cls, url: str, info: ValidationInfo) -> str:
        reason = refused_url(url, allow_private=info.data.get("allow_private", False))
        if reason:
            message = f"url is refused: {reason}"
            raise ValueError(message)
        return url


def _check_header(name: str, value: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        message = f"header name {name!r} is refused; allowed: letters, digits and !#$%&'*+.^_`|~-"
        raise ValueError(message)
    if name.lower() in FORBIDDEN_HEADERS or name.lower().startswith(FORBIDDEN_HEADER_PREFIXES):
        message = f"header {name} is Usher's own to set; choose another name"
        raise ValueError(message)
    if not all(32 <= ord(letter) < 127 or letter == "\t" for letter in value):
        message = f"header {name}: the value holds a line break, a control character or a non-ASCII letter"
        raise ValueError(message)
    if len(value) > HEADER_VALUE_BYTES_MAX:
        message = f"header {name}: the value is longer than {HEADER_VALUE_BYTES_MAX} bytes"
        raise ValueError(message)
    check_header_template(name, value)

"""A webhook's own keys in a definitions document."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from destinations.settings import HttpSettings, check_url
from destinations.signing import signing_key
from destinations.webhook.template import check_header_template, check_template

BATCH_SIZE_DEFAULT: Final = 100
BATCH_SIZE_MAX: Final = 10_000
#: Headers that say how the message travels, and those of the signature: not for a template to set.
FORBIDDEN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "content-encoding", "connection", "upgrade", "te", "trailer",
     "expect", "keep-alive"}
)  # fmt: skip
FORBIDDEN_HEADER_PREFIXES: Final = ("webhook-", "proxy-")
HEADERS_MAX: Final = 50
HEADER_VALUE_BYTES_MAX: Final = 8 * 1024

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")


class WebhookSettings(HttpSettings):
    """Keys of `kind: webhook`."""

    url: str = Field(max_length=2048)
    """Where requests go: https on port 443 or above 1023 (`allow_private` opens the rest)."""
    secret: SecretStr | None = None
    """Signs every request by Standard Webhooks. Without it requests carry their id and time but no signature."""
    headers: dict[str, SecretStr] = Field(default_factory=dict, max_length=HEADERS_MAX)
    """Headers of your own; values may name `{{ sync }}`, `{{ batch_id }}`, `{{ count }}` and `{{ type }}`."""
    body: Any = None
    """A template of the body in place of the standard one."""
    batch_size: int = Field(default=BATCH_SIZE_DEFAULT, ge=1, le=BATCH_SIZE_MAX, strict=True)
    """Changes a request holds at most."""

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
        check_url("url", url, allow_private=info.data.get("allow_private", False))
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

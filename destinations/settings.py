"""Keys that kinds share: how a destination is reached and how fast."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

import phonenumbers
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from cluster.model.durations import DURATION_FORM, format_duration, parse_duration
from destinations.contract import DestinationSettings
from destinations.ssrf import refused_url

TIMEOUT_DEFAULT_MS: Final = 15_000
TIMEOUT_MAX_MS: Final = 120_000

_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)/(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def parse_rate(text: object) -> float:
    """Give requests per second of `100/s`, `30/m` or `500/h`; raises ValueError with what is allowed."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    rate = float(match[1]) / _SECONDS[match[2]] if match else 0.0
    if rate <= 0:
        message = "a rate is a number above 0 of requests and a unit: 100/s, 30/m, 500/h"
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


def _region(value: object) -> str | None:
    region = value.upper() if isinstance(value, str) else value
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        message = "a region is the two letters of a country by ISO 3166-1: DE, US, GB"
        raise ValueError(message)
    return region


#: Where phone numbers without a country code are from.
PhoneRegion: TypeAlias = Annotated[str | None, BeforeValidator(_region)]


class HttpSettings(DestinationSettings):
    """What every kind that speaks HTTP has. `rate_limit` and `timeout` become requests per second and ms."""

    # First, because checks of URLs read it.
    allow_private: bool = Field(default=False, strict=True)
    """Lets requests go to http, any port, loopback and private networks."""
    rate_limit: Annotated[float | None, BeforeValidator(_rate)] = None
    """Requests of the whole destination, `100/s`, `30/m` or `500/h`; the vendor's own limit holds as well."""
    timeout: Annotated[int, BeforeValidator(_timeout_ms)] = TIMEOUT_DEFAULT_MS
    """How long one attempt may take, at most 2m."""


class ApiSettings(HttpSettings):
    """What a kind with a vendor's API has besides."""

    base_url: str | None = Field(default=None, max_length=2048)
    """In place of the vendor's own `https://host`: a gateway of yours, or a server under test."""

    @field_validator("base_url")
    @classmethod
    def _base_url_leads_out(cls, url: str | None, info: ValidationInfo) -> str | None:
        check_url("base_url", url, allow_private=info.data.get("allow_private", False))
        return url

    def url(self, vendor: str, path: str) -> str:
        """Give the URL of an API path (it starts with `/`); `vendor` is the API's own `https://host`."""
        return (self.base_url or vendor).rstrip("/") + path


def check_url(name: str, url: str | None, *, allow_private: bool) -> None:
    """Raise ValueError for a URL that destinations must not have; None is fine."""
    reason = None if url is None else refused_url(url, allow_private=allow_private)
    if reason:
        message = f"{name} is refused: {reason} (allow_private: true opens http and private networks)"
        raise ValueError(message)

"""A Facebook destination's own keys in a definitions document."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from destinations.settings import ApiSettings, PhoneRegion

#: The one place where the version of the Graph API stands (released 2026-07-29; the one before ends 2028-07-29).
API_VERSION: Final = "v26.0"
HOST: Final = "https://graph.facebook.com"

_ACCOUNT = re.compile(r"(?:act_)?([0-9]{1,20})")
_AUDIENCE = re.compile(r"[0-9]{1,20}")


def _account(value: object) -> str:
    match = _ACCOUNT.fullmatch(str(value)) if isinstance(value, str | int) else None
    if match is None:
        message = "an ad account is its number, with or without act_ in front: act_1234567890"
        raise ValueError(message)
    return match[1]


class FacebookSettings(ApiSettings):
    """Keys of `kind: facebook`."""

    access_token: SecretStr = Field(min_length=1)
    """A system user's token with the permission `ads_management` (a person's own ends after 60 days)."""
    ad_account: Annotated[str, BeforeValidator(_account)]
    """The ad account that owns the audiences; it must have accepted Meta's Custom Audience terms."""
    app_secret: SecretStr | None = None
    """The app's secret, where the app demands `appsecret_proof` of every call."""
    audience_ids: dict[str, str] = Field(default_factory=dict, max_length=1000)
    """Custom audiences that exist already, by Usher's audience id; for every other one is found or made."""
    customer_file_source: Literal["USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"] = (
        "USER_PROVIDED_ONLY"
    )
    """Where the data come from, as Meta's terms want it declared; used when an audience is made."""
    access_tier: Literal["limited", "full"] = "limited"
    """Your app's tier for the Marketing API: `limited` allows about 20 changes of lists in 5 minutes, `full` 3,000."""
    phone_region: PhoneRegion = None
    """The country (`DE`) of phone numbers that are written without a country code; without it those are not used."""
    api_version: str = Field(default=API_VERSION, pattern=r"^v[1-9][0-9]\.[0-9]$")
    """The version of the Graph API."""

    @field_validator("audience_ids")
    @classmethod
    def _audience_ids_are_numbers(cls, ids: dict[str, str]) -> dict[str, str]:
        if not all(_AUDIENCE.fullmatch(id_) for id_ in ids.values()):
            message = 'a custom audience is named by its number in quotes: hide_promo: "23840000000000000"'
            raise ValueError(message)
        return ids

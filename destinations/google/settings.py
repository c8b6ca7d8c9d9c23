"""A Google destination's own keys in a definitions document."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator

from cluster.model.durations import parse_duration
from destinations.contract import DestinationSettings
from destinations.settings import ApiSettings, PhoneRegion, check_url
from destinations.tokens import rsa_key

#: The one place where the version of the API stands (release 1.8 of 2026-07-30).
API_VERSION: Final = "v1"
HOST: Final = "https://datamanager.googleapis.com"
TOKEN_URL: Final = "https://oauth2.googleapis.com/token"
SCOPE: Final = "https://www.googleapis.com/auth/datamanager"

DAY_MS: Final = 86_400_000
#: The longest a member may stay without being added again (since 2025-04-07).
MEMBERSHIP_MAX_MS: Final = 540 * DAY_MS

UploadKey: TypeAlias = Literal["contact", "mobile", "user_id"]
_ACCOUNT = re.compile(r"[0-9]{3}-?[0-9]{3}-?[0-9]{4}")
_LIST = re.compile(r"[0-9]{1,20}")


def _account(value: object) -> object:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if value is None:
        return None
    if not _ACCOUNT.fullmatch(text):
        message = "an account is its ten digits, with or without hyphens: 123-456-7890"
        raise ValueError(message)
    return text.replace("-", "")


def _membership_ms(value: object) -> int:
    duration_ms = parse_duration(value)
    if not DAY_MS <= duration_ms <= MEMBERSHIP_MAX_MS or duration_ms % DAY_MS:
        message = "a membership lasts whole days, 1d to 540d"
        raise ValueError(message)
    return duration_ms


class OAuthClient(DestinationSettings):
    """An OAuth client and the refresh token of somebody who may edit the account."""

    client_id: str = Field(min_length=1)
    """The client's id."""
    client_secret: SecretStr = Field(min_length=1)
    """The client's secret."""
    refresh_token: SecretStr = Field(min_length=1)
    """A refresh token with the scope `https://www.googleapis.com/auth/datamanager`."""


class Consent(DestinationSettings):
    """What every member of the audience has agreed to. Google does not use members of the EEA without it."""

    ad_user_data: Literal["granted", "denied"] | None = None
    """Whether user data may be sent to Google for advertising."""
    ad_personalization: Literal["granted", "denied"] | None = None
    """Whether ads may be personalised by them."""


class GoogleSettings(ApiSettings):
    """Keys of `kind: google`."""

    customer_id: Annotated[str, BeforeValidator(_account)]
    """The Google Ads account that owns the lists."""
    service_account_key: SecretStr | None = None
    """The whole JSON text of a service account's key file; the account must have access to the Google Ads account."""
    oauth: OAuthClient | None = None
    """In place of a service account: an OAuth client and a refresh token."""
    login_customer_id: Annotated[str | None, BeforeValidator(_account)] = None
    """The manager account through which the credentials have their access, where they have it so."""
    upload_key: UploadKey = "contact"
    """What lists hold: `contact` (e-mail, phone, address), `mobile` (advertising ids), `user_id` (ids of your own)."""
    accept_customer_match_terms: bool = Field(default=False, strict=True)
    """That the account has accepted Google's Customer Match terms; lists of contacts and of mobiles demand it."""
    consent: Consent = Field(default_factory=Consent)
    """What all members have agreed to; whom it is not true of, the sync's audience must leave out."""
    membership_duration: Annotated[int, BeforeValidator(_membership_ms)] = MEMBERSHIP_MAX_MS
    """How long members stay unless they are added again, whole days to 540d."""
    user_list_ids: dict[str, str] = Field(default_factory=dict, max_length=1000)
    """User lists that exist already, by Usher's audience id; for every other audience one is found or made."""
    mobile_platform: Literal["ios", "android"] | None = None
    """Of `upload_key: mobile`: whose advertising ids these are."""
    mobile_app_id: str | None = Field(default=None, max_length=200)
    """Of `upload_key: mobile`: the app that collected them."""
    phone_region: PhoneRegion = None
    """The country (`DE`) of phone numbers that are written without a country code; without it those are not used."""
    token_url: str = Field(default=TOKEN_URL, max_length=2048)
    """Where tokens come from."""

    @field_validator("service_account_key")
    @classmethod
    def _key_is_one(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None:
            parts = _key_parts(key.get_secret_value())
            rsa_key(parts["private_key"])
        return key

    @field_validator("user_list_ids")
    @classmethod
    def _list_ids_are_numbers(cls, ids: dict[str, str]) -> dict[str, str]:
        if not all(_LIST.fullmatch(id_) for id_ in ids.values()):
            message = 'a user list is named by its number in quotes: hide_promo: "123456789"'
            raise ValueError(message)
        return ids

    @field_validator("token_url")
    @classmethod
    def _token_url_leads_out(cls, url: str, info: ValidationInfo) -> str:
        check_url("token_url", url, allow_private=info.data.get("allow_private", False))
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> GoogleSettings:
        if (self.service_account_key is None) == (self.oauth is None):
            message = "one of service_account_key and oauth is needed, and not both"
            raise ValueError(message)
        if self.upload_key != "user_id" and not self.accept_customer_match_terms:
            message = "accept_customer_match_terms: true is needed: Google takes no contacts or mobiles without it"
            raise ValueError(message)
        if (self.upload_key == "mobile") != (self.mobile_platform is not None and self.mobile_app_id is not None):
            message = "upload_key: mobile and both of mobile_platform and mobile_app_id go together"
            raise ValueError(message)
        return self

    @property
    def key_parts(self) -> dict[str, str]:
        """The service account's `client_email`, `private_key`, `private_key_id` and `project_id`."""
        assert self.service_account_key is not None, "checked: it is the credential"
        return _key_parts(self.service_account_key.get_secret_value())


def _key_parts(text: str) -> dict[str, str]:
    message = "service_account_key is not the JSON of a service account's key file (type, client_email, private_key)"
    try:
        key: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ValueError(message) from None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise ValueError(message)
    parts = {name: key.get(name) for name in ("client_email", "private_key", "private_key_id", "project_id")}
    if not all(isinstance(parts[name], str) and parts[name] for name in ("client_email", "private_key")):
        raise ValueError(message)
    return {name: value if isinstance(value, str) else "" for name, value in parts.items()}

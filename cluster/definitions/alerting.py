"""Alerts of a document: `alert_channels` (where notices go) and `alerts` (rules); docs/alerts.md says what they do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cluster.definitions.document import ALERT_COOLDOWN_DEFAULT_MS, Name, PositiveDuration
from destinations.ssrf import refused_host, refused_url

_PERCENT = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)\s?%")
_ADDRESS = re.compile(r"[^\s@<>,;\"]{1,64}@[^\s@<>,;\"]{1,255}")
#: Ports below 1024 at which mail is handed in.
_MAIL_PORTS: Final = (25, 465, 587)


def _share(value: object) -> float:
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) == 0:
        message = "not a share"
        raise ValueError(message)
    return float(match[1]) / 100


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        message = "not an e-mail address"
        raise ValueError(message)
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Share = Annotated[float, BeforeValidator(_share)]
Address = Annotated[str, AfterValidator(_address)]
Names = Annotated[list[Name], BeforeValidator(_as_list)]


class _Own(BaseModel):
    """Keys of a kind of channel or of a rule; the docstring under each is its description."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True
    )


# --- channels --------------------------------------------------------------------------------------


class _Http(_Own):
    # First, because the check of the URL reads it.
    allow_private: bool = False
    """Lets notices go to http, any port, loopback and private networks."""
    url: str = Field(max_length=2048)
    """Where notices are posted."""

    @field_validator("url")
    @classmethod
    def _url_leads_out(cls, url: str, info: ValidationInfo) -> str:
        reason = refused_url(url, allow_private=info.data.get("allow_private", False))
        if reason:
            message = f"url is refused: {reason} (allow_private: true opens http and private networks)"
            raise ValueError(message)
        return url


class WebhookChannel(_Http):
    """`kind: webhook`: a JSON notice by POST."""

    secret: SecretStr | None = Field(default=None, strict=False, min_length=1)
    """Signs notices by Standard Webhooks."""


class SlackChannel(_Http):
    """`kind: slack`: an incoming webhook of Slack, or of whatever takes the same (Mattermost, Rocket.Chat, Discord)."""


class EmailChannel(_Own):
    """`kind: email`: a mail by SMTP."""

    allow_private: bool = False
    """Lets the server be on loopback or in a private network, at any port, without encryption."""
    host: str = Field(min_length=1, max_length=253)
    """The SMTP server."""
    port: int = Field(default=587, ge=1, le=65535)
    """Its port."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted."""
    username: str | None = Field(default=None, min_length=1)
    """Who logs in; nobody unless given."""
    password: SecretStr | None = Field(default=None, strict=False)
    """With what."""
    sender: Address = Field(alias="from")
    """The address that mails come from."""
    recipients: Annotated[list[Address], BeforeValidator(_as_list), Field(alias="to", min_length=1, max_length=50)]
    """Who gets them."""

    @model_validator(mode="after")
    def _server_leads_out(self) -> EmailChannel:
        reason = refused_host(self.host, allow_private=self.allow_private)
        if not reason and not self.allow_private:
            if self.port < 1024 and self.port not in _MAIL_PORTS:
                reason = f"port {self.port}"
            elif self.security == "none":
                reason = "security: none"
        if reason:
            message = f"the mail server is refused: {reason}"
            raise ValueError(message)
        if (self.username is None) != (self.password is None):
            message = "username and password come together"
            raise ValueError(message)
        return self


ChannelSettings: TypeAlias = WebhookChannel | SlackChannel | EmailChannel
CHANNEL_MODELS: Final[Mapping[str, type[ChannelSettings]]] = {
    "webhook": WebhookChannel, "slack": SlackChannel, "email": EmailChannel,
}  # fmt: skip


# --- rules -----------------------------------------------------------------------------------------


class FailureRate(_Own):
    """`rule: failure_rate`: of what a sync tried in a time, so much failed."""

    syncs: Names | None = None
    """Which syncs; all unless given."""
    above: Share
    """The share of records dropped, dead, refused or to be tried again."""
    over: PositiveDuration = 900_000
    """In how long."""
    at_least: int = Field(default=20, ge=1)
    """Records below which nothing is said."""


class BacklogAge(_Own):
    """`rule: backlog_age`: a sync's oldest unsent change is older."""

    syncs: Names | None = None
    """Which syncs; all unless given."""
    above: PositiveDuration
    """Than this."""


class CredentialsRefused(_Own):
    """`rule: credentials`: a destination refuses us or is gone, and the sync has stopped."""

    syncs: Names | None = None
    """Which syncs; all unless given."""


class AudienceSize(_Own):
    """`rule: audience_size`: an audience has grown or shrunk by more."""

    audiences: Names | None = None
    """Which audiences; all unless given."""
    above: Share
    """Than this share of what it was."""
    over: PositiveDuration = 3_600_000
    """In how long."""
    at_least: int = Field(default=100, ge=1)
    """Members that it had, below which nothing is said."""


class NoEvents(_Own):
    """`rule: no_events`: no event was accepted for so long."""

    event_models: Names | None = None
    """Which event models, each by itself; all events together unless models or sources are given."""
    sources: Names | None = None
    """Which sources, each by itself."""
    for_ms: PositiveDuration = Field(alias="for")
    """How long."""


Rule: TypeAlias = FailureRate | BacklogAge | CredentialsRefused | AudienceSize | NoEvents
RULE_MODELS: Final[Mapping[str, type[Rule]]] = {
    "failure_rate": FailureRate, "backlog_age": BacklogAge, "credentials": CredentialsRefused,
    "audience_size": AudienceSize, "no_events": NoEvents,
}  # fmt: skip


# --- what a document says ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """Where notices go. `settings` hide their secrets in repr."""

    id: str
    kind: str
    settings: Any
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule and who is told. `cooldown_ms` lies at least between two notices that it is true of one subject."""

    id: str
    kind: str
    rule: Any
    channels: tuple[str, ...]
    cooldown_ms: int = ALERT_COOLDOWN_DEFAULT_MS
    name: str = ""
    description: str = ""


#: Keys that the document's objects have beside their kind's.
CHANNEL_LABELS: Final = ("id", "kind", "name", "description")
ALERT_LABELS: Final = ("id", "rule", "channels", "cooldown", "name", "description")

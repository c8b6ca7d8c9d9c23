"""An Amplitude destination's own keys in a definitions document."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, SecretStr, model_validator

from destinations.limits import scope_of
from destinations.settings import ApiSettings

#: The one place where versions of the APIs stand: of cohorts, of their members' listing, and of events.
API_VERSION: Final = "3"
LISTING_VERSION: Final = "5"
EVENTS_VERSION: Final = "2"
#: Not analytics.amplitude.com, which serves the interface.
COHORT_HOSTS: Final = {"us": "https://amplitude.com", "eu": "https://analytics.eu.amplitude.com"}
EVENT_HOSTS: Final = {"us": "https://api2.amplitude.com", "eu": "https://api.eu.amplitude.com"}
_NAME: Final = r"^\S[^\r\n]{0,199}$"


class AmplitudeSettings(ApiSettings):
    """Keys of `kind: amplitude`."""

    api_key: SecretStr = Field(min_length=1)
    """The project's API key."""
    secret_key: SecretStr | None = None
    """The project's secret key; cohorts need it."""
    region: Literal["us", "eu"] = "us"
    """Where the project is."""
    send: Literal["cohort", "event"] = "cohort"
    """`cohort`: members of a cohort; `event`: every entry and exit as an event."""
    app_id: int | None = Field(default=None, ge=1, strict=True)
    """Of `cohort`: the project's number, to make cohorts in."""
    owner: str | None = Field(default=None, min_length=3, max_length=320)
    """Of `cohort`: the login of who owns the cohorts that are made."""
    cohort_ids: dict[str, str] = Field(default_factory=dict, max_length=1000)
    """Cohorts that exist already, by Usher's audience id; for every other audience one is found or made."""
    published: bool = Field(default=True, strict=True)
    """Whether everybody in the organisation sees the cohorts that are made."""
    entered_event: str = Field(default="Audience Entered", pattern=_NAME)
    """Of `event`: the name of an entry."""
    exited_event: str = Field(default="Audience Exited", pattern=_NAME)
    """Of `event`: the name of an exit."""
    property_prefix: str | None = Field(default="audience_", pattern=r"^\S[^\r\n]{0,99}$")
    """Of `event`: stands before the audience's id in a user property that is true or false; null sets none."""

    @model_validator(mode="after")
    def _fits_together(self) -> AmplitudeSettings:
        missing = [name for name in ("secret_key", "app_id", "owner") if getattr(self, name) is None]
        if self.send == "cohort" and missing:
            message = f"send: cohort needs {' and '.join(missing)}"
            raise ValueError(message)
        return self

    @property
    def project(self) -> str:
        """The scope of the project: its limits, and whose cohorts are known."""
        return scope_of("amplitude", "account", self.region, self.api_key.get_secret_value())

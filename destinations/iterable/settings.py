"""An Iterable destination's own keys in a definitions document."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, SecretStr, model_validator

from destinations.settings import ApiSettings

HOSTS: Final = {"us": "https://api.iterable.com", "eu": "https://api.eu.iterable.com"}
SUBSCRIBERS_MAX: Final = 1_000


class IterableSettings(ApiSettings):
    """Keys of `kind: iterable`."""

    api_key: SecretStr = Field(min_length=1)
    """A server-side API key of the project."""
    region: Literal["us", "eu"] = "us"
    """The data centre of the project."""
    project: Literal["email", "user_id", "hybrid"] = "email"
    """How the project identifies users: by address, by id, or by either."""
    create_users: bool = Field(default=True, strict=True)
    """Whether an entry may make a profile that Iterable does not have; projects by address always do."""
    list_ids: dict[str, int] = Field(default_factory=dict, max_length=1000)
    """Static lists that exist already, by Usher's audience id; for every other audience one is found or made."""
    subscribers_max: int = Field(default=SUBSCRIBERS_MAX, ge=1, le=10_000, strict=True)
    """Subscribers a request holds at most."""

    @model_validator(mode="after")
    def _fits_together(self) -> IterableSettings:
        if self.project == "email" and not self.create_users:
            message = "create_users: false is not possible: projects by address make every profile they are told of"
            raise ValueError(message)
        return self

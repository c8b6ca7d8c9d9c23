"""A Braze destination's own keys in a definitions document."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, SecretStr

from destinations.settings import ApiSettings, PhoneRegion

_INSTANCE = re.compile(r"(?:https://)?rest\.([a-z]{2,4}-[0-9]{2})\.braze\.(com|eu)/?")
#: Names of attributes and events; Braze keeps those that start with a dollar sign to itself.
NAME: Final = r"^[^$\s][^\r\n]{0,200}$"


def _host(value: object) -> str:
    match = _INSTANCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        message = "a REST endpoint is the one of your instance: rest.iad-01.braze.com or rest.fra-01.braze.eu"
        raise ValueError(message)
    return f"https://rest.{match[1]}.braze.{match[2]}"


class BrazeSettings(ApiSettings):
    """Keys of `kind: braze`."""

    rest_endpoint: Annotated[str, BeforeValidator(_host)]
    """The REST endpoint of your instance: `rest.iad-01.braze.com`, `rest.fra-01.braze.eu`."""
    api_key: SecretStr = Field(min_length=1)
    """A REST API key with the permission `users.track`."""
    send: Literal["attribute", "array", "event"] = "attribute"
    """`attribute`: one true or false an audience; `array`: one list of audiences; `event`: every entry and exit."""
    attribute_prefix: str = Field(default="audience_", pattern=NAME)
    """Of `attribute`: stands before the audience's id in the attribute's name."""
    array_attribute: str = Field(default="audiences", pattern=NAME)
    """Of `array`: the attribute; Braze keeps 25 values of one unless you had that raised."""
    on_exit_value: Literal["false", "null"] = "false"
    """Of `attribute`: what an exit sets. `null` takes the attribute off the profile."""
    entered_event: str = Field(default="Audience Entered", pattern=NAME)
    """Of `event`: the name of an entry."""
    exited_event: str = Field(default="Audience Exited", pattern=NAME)
    """Of `event`: the name of an exit."""
    create_users: bool = Field(default=False, strict=True)
    """Whether an entry may make a profile that Braze does not have."""
    alias_label: str | None = Field(default=None, min_length=1, max_length=200)
    """The label of `alias` identifiers."""
    phone_region: PhoneRegion = None
    """The country (`DE`) of phone numbers that are written without a country code; without it those are not used."""

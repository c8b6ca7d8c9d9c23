"""A Segment destination's own keys in a definitions document."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, SecretStr

from destinations.settings import ApiSettings

#: The one place where the version of the API stands.
API_VERSION: Final = "v1"
HOSTS: Final = {"us": "https://api.segment.io", "eu": "https://events.eu1.segmentapis.com"}
_NAME: Final = r"^\S[^\r\n]{0,199}$"


class SegmentSettings(ApiSettings):
    """Keys of `kind: segment`."""

    write_key: SecretStr = Field(min_length=1)
    """The write key of an HTTP source. Segment answers 200 to a wrong one and drops everything."""
    region: Literal["us", "eu"] = "us"
    """Where the workspace is. Segment answers 200 to the wrong one and drops everything."""
    send: Literal["both", "identify", "track"] = "both"
    """`identify`: a trait that is true or false; `track`: an event for every entry and exit; `both`."""
    entered_event: str = Field(default="Audience Entered", pattern=_NAME)
    """The name of an entry's event; audience destinations at Segment look for this one."""
    exited_event: str = Field(default="Audience Exited", pattern=_NAME)
    """The name of an exit's event; audience destinations at Segment look for this one."""

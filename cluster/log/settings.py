"""Where evaluators' logs are kept, as an operator says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogSettings:
    """`uri`: `kafka://HOST:PORT[,…]/PREFIX[?options]`; empty: SQLite files in the data dir. Holds no secret."""

    uri: str = ""

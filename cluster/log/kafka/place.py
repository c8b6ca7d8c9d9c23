"""Where a log in Kafka is: `kafka://HOST:PORT[,HOST:PORT…]/PREFIX[?option=value&…]`, and how its secrets are found.

A URI is shown: in process lists, in logs. So it may hold no secret: these are taken from a file of the client's
properties (`config=FILE`, else the one that USHER_KAFKA_CONFIG names), which every node needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from cluster.errors import InputError

SCHEME: Final = "kafka"
CONFIG_VARIABLE: Final = "USHER_KAFKA_CONFIG"
#: What may be said in the URI, each with what it is for the client.
_OPTIONS: Final = frozenset({"config", "security.protocol", "ssl.ca.location", "sasl.mechanism", "replication"})
#: What decides whether an acknowledged record is durable and read once: nobody may say otherwise.
_OURS: Final = frozenset({
    "bootstrap.servers", "acks", "request.required.acks", "enable.idempotence", "group.id", "enable.auto.commit",
    "enable.auto.offset.store", "auto.offset.reset", "isolation.level", "check.crcs", "transactional.id", "retries",
    "message.send.max.retries", "enable.partition.eof",
})  # fmt: skip
_FORM: Final = "kafka://HOST:PORT[,HOST:PORT…]/PREFIX"
_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):\d{1,5}")
#: Kafka allows 249 characters in a topic's name; `.evaluator-123.transitions` follows.
_PREFIX: Final = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class KafkaPlace:
    """Brokers and the prefix of the topics' names. `replication`: of topics that are made; -1: the brokers' default."""

    brokers: tuple[str, ...]
    prefix: str
    config_file: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    replication: int = -1

    def topic(self, name: str) -> str:
        """Give the topic of the evaluator `name`."""
        return f"{self.prefix}.{name}"

    @property
    def uri(self) -> str:
        """Give it as a URI that holds anywhere on this node: paths are absolute, what the environment says is in it."""
        options = dict(self.options)
        if self.config_file:
            options["config"] = self.config_file
        if self.replication != -1:
            options["replication"] = str(self.replication)
        query = f"?{urlencode(options, safe='/')}" if options else ""
        return f"{SCHEME}://{','.join(self.brokers)}/{self.prefix}{query}"

    def client_settings(self) -> dict[str, Any]:
        """Give what the client is told beside what Usher decides itself; holds secrets. Raises InputError."""
        return {**read_properties(self.config_file), **self.options, "bootstrap.servers": ",".join(self.brokers)}


def parse_place(uri: str) -> KafkaPlace:
    """Read a URI. Raises InputError, without the URI's secrets where somebody wrote some into it."""
    try:
        parts = urlsplit(uri)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _wrong(_FORM_STEP, "it cannot be read") from None
    if parts.scheme != SCHEME:
        raise _wrong(_FORM_STEP, f"found {parts.scheme[:20]!r} for {SCHEME!r}")
    if "@" in parts.netloc:
        raise _wrong(_SECRETS_GO, "a user or password stands in it, for everybody on the machine to read")
    brokers = tuple(parts.netloc.split(","))
    for broker in brokers:
        if not _BROKER.fullmatch(broker):
            raise _wrong(_FORM_STEP, f"found {broker!r} for a broker")
    prefix = parts.path.removeprefix("/")
    if not _PREFIX.fullmatch(prefix):
        raise _wrong(_PREFIX_STEP, f"found {prefix!r} for a prefix")
    for name, _ in options:
        if name not in _OPTIONS:
            raise _wrong(_OPTIONS_STEP, f"found the option {name!r}")
    known = dict(options)
    config_file = known.pop("config", "") or os.environ.get(CONFIG_VARIABLE, "")
    replication = known.pop("replication", "-1")
    if not re.fullmatch(r"-1|[1-9]\d?", replication):
        raise _wrong(_REPLICATION_STEP, f"found replication={replication!r}")
    config_file = str(Path(config_file).resolve()) if config_file else ""
    place = KafkaPlace(brokers, prefix, config_file, known, int(replication))
    read_properties(config_file)
    return place


_FORM_STEP: Final = f"Allowed: {_FORM}."
_PREFIX_STEP: Final = "Allowed: 1 to 200 of letters, digits, `.`, `_` and `-`."
_REPLICATION_STEP: Final = "Allowed: a number of copies, or -1 for the brokers' default."
_SECRETS_GO: Final = f"Secrets go into a file that `config=FILE` or {CONFIG_VARIABLE} names."
_OPTIONS_STEP: Final = f"Allowed: {', '.join(sorted(_OPTIONS))}. {_SECRETS_GO}"


def read_properties(path: str) -> dict[str, str]:
    """Read a file of `name=value` lines as Kafka's own tools do (empty lines and `#` comments are skipped).

    Raises InputError that never quotes a value.
    """
    if not path:
        return {}
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"The Kafka settings {path} cannot be read: {error.__class__.__name__}."
        raise InputError(message, next_step="Name a file of `name=value` lines that this user may read.") from error
    settings: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(("#", "!")):
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name:
            message = f"{path}, line {number}: no `name=value`."
            raise InputError(message, next_step="Correct the line.")
        if name in _OURS:
            message = f"{path}, line {number}: {name} is Usher's own to set."
            raise InputError(message, next_step="Remove the line.")
        settings[name] = value
    return settings


def _wrong(step: str, found: str) -> InputError:
    return InputError(f"--log: {found}.", next_step=step)

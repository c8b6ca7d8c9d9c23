"""A schema registry that speaks Confluent's API (Confluent's own, Karapace, Apicurio, Redpanda), asked by its client.

Schemas never change under their id, so each is asked for once. What stands in the way of an answer is no fault of the
record's: `RegistryUnavailable`, and the record waits. Only the registry's own word that there is no such schema, given
twice, makes a record unreadable: a registry's follower may learn of a new schema a moment after it was used.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from cluster.definitions.model import SchemaRegistry
from cluster.errors import InputError
from cluster.wire.records import Unreadable

if TYPE_CHECKING:
    from cluster.intake.avro import AvroSchema

_log = logging.getLogger("usher.intake")

#: How long one address may take to answer, and all that a batch of records asks for.
_ANSWER_S: Final = 5.0
_LEARN_S: Final = 20.0
#: How long a schema must be unknown until that is believed, and how long it is believed.
_DOUBT_S: Final = 2.0
_UNKNOWN_S: Final = 60.0
_UNKNOWN_MAX: Final = 10_000
_SAID_MAX: Final = 200
_NO_SUCH_SCHEMA: Final = 40403

#: A schema's id, or its GUID.
SchemaName = int | str


class RegistryUnavailable(Exception):
    """The registry gave no answer that settles the matter. The message is for people, and has no secrets."""


class Schemas:
    """The schemas of one registry. Its calls block; made by `open_schemas`."""

    def __init__(self, client: Any, settings: SchemaRegistry, clock: Callable[[], float] = time.monotonic) -> None:
        from cluster.intake.avro import AvroSchema

        self._client = client
        self._schema = AvroSchema
        self._where = ", ".join(settings.urls)
        self._clock = clock
        self._known: dict[SchemaName, AvroSchema | Unreadable] = {}
        #: Since when a schema has been unknown, and until when it is taken to be.
        self._doubted: dict[SchemaName, float] = {}
        self._unknown: dict[SchemaName, float] = {}

    def learn(self, names: Iterable[SchemaName]) -> None:
        """Return once each schema is known or known not to be there; raises RegistryUnavailable."""
        doubtful: list[SchemaName] = []
        begun = self._clock()
        for name in names:
            if name in self._known or self._unknown.get(name, 0.0) > begun:
                continue
            if self._clock() - begun > _LEARN_S:
                message = f"The schema registry {self._where} is slow: schemas of records are still asked for."
                raise RegistryUnavailable(message)
            found = self._ask(name)
            if found is not None:
                self._known[name] = found
            elif not self._is_believed(name):
                doubtful.append(name)
        if doubtful:
            message = f"The schema registry {self._where} does not know the schema {doubtful[0]}; it is asked again."
            raise RegistryUnavailable(message)

    def get(self, name: SchemaName) -> AvroSchema:
        """Give a schema that was learnt; raises Unreadable where there is none, or none of Avro."""
        found = self._known.get(name)
        if found is None:
            message = "unknown_schema"
            raise Unreadable(message)
        if isinstance(found, Unreadable):
            raise found
        return found

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _is_believed(self, name: SchemaName) -> bool:
        now = self._clock()
        if now - self._doubted.setdefault(name, now) < _DOUBT_S:
            return False
        del self._doubted[name]
        if len(self._unknown) >= _UNKNOWN_MAX:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_S
        return True

    def _ask(self, name: SchemaName) -> AvroSchema | Unreadable | None:
        """Ask for one schema; None if there is none."""
        try:
            schema = self._client.get_schema(name) if isinstance(name, int) else self._client.get_schema_by_guid(name)
            texts = [*self._references(schema, set()), schema.schema_str]
        except Exception as error:
            # Whatever it is, it is not the record's fault: it waits, and status says for what.
            if getattr(error, "error_code", None) == _NO_SUCH_SCHEMA:
                return None
            raise RegistryUnavailable(self._said(error)) from error
        if schema.schema_type not in (None, "AVRO"):
            return Unreadable("not_avro")
        try:
            return self._schema([json.loads(text) for text in texts])
        except Exception as error:
            _log.error("The schema %s of %s cannot be read by: %s", name, self._where, str(error)[:_SAID_MAX])
            return Unreadable("unusable_schema")

    def _references(self, schema: Any, seen: set[tuple[str, int]]) -> list[str]:
        """Give what a schema refers to, each text once and after those that it refers to itself."""
        texts: list[str] = []
        for reference in schema.references or ():
            place = reference.subject, reference.version
            if place not in seen:
                seen.add(place)
                referred = self._client.get_version(*place).schema
                texts += [*self._references(referred, seen), referred.schema_str]
        return texts

    def _said(self, error: Exception) -> str:
        status = getattr(error, "http_status_code", None)
        if status in (401, 403):
            return f"The schema registry {self._where} refuses the credentials ({status}): mend `basic_auth`."
        why = str(getattr(error, "error_message", "") or error)[:_SAID_MAX] or type(error).__name__
        answers = f" answers {status}" if status else " gives no answer"
        return f"The schema registry {self._where}{answers}: {why}"


def open_schemas(settings: SchemaRegistry) -> Schemas:
    """Make a registry's client, which asks for nothing yet; raises InputError where that cannot be done."""
    try:
        import fastavro  # noqa: F401
        from confluent_kafka.schema_registry import SchemaRegistryClient
    except ImportError as error:
        message = "Sources of the kind kafka with `format: avro` need a package that is not installed."
        raise InputError(message, next_step="Install it on every node: pip install 'usher-audiences[avro]'") from error
    # Its log tells every request; how it fares is in status.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    given = {
        "ssl.ca.location": settings.ca, "ssl.certificate.location": settings.certificate,
        "ssl.key.location": settings.key,
        "basic.auth.user.info": f"{settings.username}:{settings.password}" if settings.username else "",
    }  # fmt: skip
    try:
        client = SchemaRegistryClient({
            "url": ",".join(settings.urls), "timeout": _ANSWER_S, "max.retries": 0,
            **{name: value for name, value in given.items() if value},
        })  # fmt: skip
    except (OSError, ValueError) as error:  # of certificates that are not there or are none
        message = f"The client of the schema registry cannot be made: {error}"
        raise InputError(message, next_step="Mend `ca`, `certificate` and `key` of `schema_registry`.") from None
    return Schemas(client, settings)

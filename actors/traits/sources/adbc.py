"""Queries of databases by their ADBC drivers: PostgreSQL, Snowflake, BigQuery, Flight SQL, SQLite, and others."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

from actors.traits.sources.contract import Batches, lists_from_json, needed, pieces, without_secrets
from actors.traits.sources.deadline import deadline
from actors.traits.stimuli import Fingerprint
from actors.traits.wanted import Wanted, check_schema
from cluster.definitions.trait_sources import AdbcSource
from cluster.errors import SnapshotError

#: How long connecting to a database may take, where its address does not say.
TRAITS_CONNECT_TIMEOUT_S: Final = 15
#: Drivers that Usher's extras bring, each in the extra of its name.
_KNOWN: Final = frozenset(AdbcSource.DRIVERS.values())


class AdbcReader:
    """Runs one query on a connection that is opened for it alone; nothing is committed."""

    def __init__(self, source: AdbcSource) -> None:
        self._source = source

    def look(self) -> Fingerprint:
        """See `Reader`: what `watch_query` gives."""
        if self._source.watch_query is None:
            return ()
        with without_secrets(self._source), self._cursor() as (driver, cursor):
            return self._watched(driver, cursor)

    def read(self, wanted: Wanted) -> tuple[Fingerprint, Batches]:
        """See `Reader`. The watch query runs first: what is written between the two is seen by the next look."""
        return self.look(), self._batches(wanted)

    def _watched(self, driver: Any, cursor: Any) -> Fingerprint:
        with self._explained(driver, cursor):
            cursor.execute(self._source.watch_query)
            row = cursor.fetchone()
        return (repr(row),)

    def _batches(self, wanted: Wanted) -> Batches:
        with without_secrets(self._source), self._cursor() as (driver, cursor), self._explained(driver, cursor):
            cursor.execute(self._source.query)
            rows = cursor.fetch_record_batch()
            check_schema(rows.schema.names, wanted, where=self._source.label)
            for batch in rows:
                yield from pieces(lists_from_json(batch.select(wanted.names()), wanted), wanted)

    @contextmanager
    def _cursor(self) -> Iterator[tuple[Any, Any]]:
        driver = self._driver()
        try:
            connection = driver.connect(**self._arguments(driver))
        except (driver.Error, OSError, ValueError) as error:
            raise self._failed(error, "unreachable", "Check the address, the network and the credentials.") from error
        with closing(connection), closing(connection.cursor()) as cursor:
            yield driver, cursor

    def _arguments(self, driver: Any) -> dict[str, Any]:
        """Give what the driver's own `connect` takes: some have no address of their own, some no options."""
        known = inspect.signature(driver.connect).parameters
        uri = self._source.uri.get_secret_value() if self._source.uri else None
        options = {name: value.get_secret_value() for name, value in self._source.options.items()}
        if uri is not None and "uri" not in known:
            options["uri"] = uri
            uri = None
        if options and "db_kwargs" not in known:
            message = f"The driver {self._source.driver_name} takes no options, only a uri."
            raise SnapshotError(message, reason="unreachable", next_step="Take `options` out of the source.")
        given = {"uri": _limited(uri, self._source.driver_name), "db_kwargs": options or None}
        return {name: value for name, value in given.items() if value is not None}

    def _driver(self) -> Any:
        """Import the driver's DB-API module: one of the known names, else a module's own name."""
        name = self._source.driver_name
        if name in _KNOWN:
            return needed(f"adbc_driver_{name}.dbapi", name, f"adbc with {name}")
        return needed(f"{name}.dbapi", "adbc", f"adbc with {name}")

    @contextmanager
    def _explained(self, driver: Any, cursor: Any) -> Iterator[None]:
        """Make SnapshotErrors of what the driver raises, also when its reader fails half-way (an OSError then)."""
        try:
            with deadline(self._source.timeout, cursor.adbc_cancel, self._source.label):
                yield
        except driver.ProgrammingError as error:
            raise self._failed(error, "bad_query", "Correct the query in the definitions.") from error
        except (driver.InterfaceError, driver.OperationalError) as error:
            raise self._failed(error, "unreachable", "Check the database and the network.") from error
        except (driver.Error, OSError) as error:
            raise self._failed(error, "query_failed", "Run the query by hand to see more.") from error

    def _failed(self, error: Exception, reason: str, step: str) -> SnapshotError:
        text = " ".join(str(error).split()).rstrip(".")
        return SnapshotError(f"{self._source.label} failed: {text}.", reason=reason, next_step=step)


def _limited(uri: str | None, driver: str) -> str | None:
    """Give PostgreSQL's client a limit for connecting, where the address has none: it would wait for minutes."""
    if uri is None or driver != "postgresql" or "connect_timeout" in uri or "://" not in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}connect_timeout={TRAITS_CONNECT_TIMEOUT_S}"

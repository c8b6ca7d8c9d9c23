"""`parent_models[].traits.source`: one settings model a kind. Whoever needs a source as text takes its `label`.

An address or an option may hold a password, so the secret ones are `SecretStr`, no repr and no label shows any, and
`redact` takes them out of what a driver or a filesystem says.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from cluster.definitions.document import Name, PositiveDuration, Strict

#: How long a query may run, unless the source says otherwise.
TRAITS_QUERY_DEFAULT_MS: Final = 600_000
#: What stands where a secret was.
HIDDEN: Final = "***"
#: Keys of a source's document whose whole value is hidden from people.
SECRET_KEYS: Final = frozenset({"uri", "storage_options", "options", "catalog"})
#: `scheme://user:password@`; Snowflake's addresses have no scheme.
_USER_INFO: Final = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)?(?P<user>[^/@:?]*):(?!//)(?P<password>[^@]*)@")
_SECRET_PARAMETER: Final = re.compile(
    r"(?P<name>[?&;\s](?:[\w.-]*(?:passw|pwd|secret|token|credential|sslkey|private_key|api_?key)[\w.-]*)=)"
    r"(?P<value>[^&;\s]+)",
    re.I,
)
#: Options whose value is no part of which rows a source gives.
_SECRET_NAME: Final = re.compile(r"passw|pwd|secret|token|credential|key|sas|jwt|auth", re.I)
_REMOTE: Final = re.compile(r"(?!file://)[A-Za-z][A-Za-z0-9+.-]+://")
#: A shorter text is no secret, and may be part of any word.
_SECRET_LENGTH_MIN: Final = 4


def _as_text(value: object) -> object:
    """Options are texts for every driver; YAML reads some of them as numbers or booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _one_ascii(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n":
        message = "one ASCII character is needed"
        raise ValueError(message)
    return text


def _encoding(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError as error:
        message = "unknown encoding"
        raise ValueError(message) from error
    return name


_OneCharacter = Annotated[str, BeforeValidator(_one_ascii)]
_Options = dict[Name, Annotated[SecretStr, BeforeValidator(_as_text)]]
#: `blind`: nothing tells a change; `fixed`: there is none.
Look = Literal["local", "remote", "blind", "fixed"]


class TraitSource(Strict):
    """What every kind has: a frozen settings model, equal where all its settings are."""

    kind: str

    @property
    def label(self) -> str:
        """The source as people see it, without secrets."""
        raise NotImplementedError

    @property
    def look(self) -> Look:
        """What looking for a change costs: a look at local files or a request; or why it makes no sense."""
        raise NotImplementedError

    def secrets(self) -> list[str]:
        """List the texts that nobody may see."""
        return []

    def identity(self) -> str:
        """Give a digest of what says which rows these are: every setting but the secrets, for files to keep."""
        text = json.dumps(_shown(self.model_dump(mode="python")), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class _PathSource(TraitSource):
    path: Name

    @property
    def label(self) -> str:
        """The path or URI."""
        return redact_uri(self.path)

    @property
    def look(self) -> Look:
        """By the path."""
        return "remote" if is_remote(self.path) else "local"

    def secrets(self) -> list[str]:
        """The password of a URI that has one."""
        return secrets_of_uri(self.path)


class ParquetSource(_PathSource):
    """Parquet files: a file, a folder or a glob, local or by URI."""

    kind: Literal["parquet"] = "parquet"


class ArrowSource(_PathSource):
    """Arrow IPC files or streams: a file, a folder or a glob, local or by URI."""

    kind: Literal["arrow"] = "arrow"


class CsvSource(_PathSource):
    """CSV files, compressed or not: a file, a folder or a glob, local or by URI.

    A column's values are read as text and coerced to the declared type; an unquoted text of `null_values` is missing.
    Without `column_names` the first line of each file names the columns.
    """

    kind: Literal["csv"] = "csv"
    delimiter: _OneCharacter = ","
    quote: _OneCharacter = '"'
    null_values: list[str] = Field(default_factory=lambda: [""])
    encoding: Annotated[Name, AfterValidator(_encoding)] = "utf-8"
    column_names: Annotated[list[Name], Field(min_length=1)] | None = None


class DeltaSource(_PathSource):
    """A Delta Lake table, its newest version or a fixed one."""

    kind: Literal["delta"] = "delta"
    version: Annotated[int, Field(ge=0)] | None = None
    storage_options: _Options = Field(default_factory=dict)

    @property
    def look(self) -> Look:
        """A fixed version never changes."""
        return "fixed" if self.version is not None else ("remote" if is_remote(self.path) else "local")

    def secrets(self) -> list[str]:
        """The storage's options too."""
        return [*super().secrets(), *_values(self.storage_options)]


class IcebergSource(TraitSource):
    """An Iceberg table of a catalog, its newest snapshot or a fixed one. `catalog` holds pyiceberg's properties."""

    kind: Literal["iceberg"] = "iceberg"
    table: Name
    catalog: Annotated[_Options, Field(min_length=1)]
    snapshot_id: int | None = None

    @property
    def label(self) -> str:
        """The table's name."""
        return f"iceberg table {self.table}"

    @property
    def look(self) -> Look:
        """A look reads the table's metadata through the catalog."""
        return "remote" if self.snapshot_id is None else "fixed"

    def secrets(self) -> list[str]:
        """Every property but those that say what kind of catalog it is."""
        return _values({name: value for name, value in self.catalog.items() if name != "type"})


class DuckdbSource(TraitSource):
    """A query over a DuckDB file (`path`, opened read-only), or over what the query names itself.

    `watch` names files whose change is a change of the result; with `path` alone, that file.
    """

    kind: Literal["duckdb"] = "duckdb"
    query: Name
    path: str = ""
    watch: Annotated[list[Name], BeforeValidator(_as_list)] = Field(default_factory=list)
    timeout: PositiveDuration = TRAITS_QUERY_DEFAULT_MS

    @property
    def label(self) -> str:
        """The file, if there is one."""
        return f"duckdb query over {redact_uri(self.path)}" if self.path else "duckdb query"

    @property
    def look(self) -> Look:
        """By what is watched."""
        watched = self.watched()
        return "blind" if not watched else "remote" if any(map(is_remote, watched)) else "local"

    def watched(self) -> list[str]:
        """List the files to look at for a change."""
        return self.watch or ([self.path] if self.path else [])

    def secrets(self) -> list[str]:
        """The passwords of URIs."""
        return [secret for path in (self.path, *self.watch) for secret in secrets_of_uri(path)]


class AdbcSource(TraitSource):
    """A query over a database by an ADBC driver.

    `driver` follows from the URI's scheme where it has one that is known. `watch_query` is a cheap query whose result
    changes when that of `query` may.
    """

    kind: Literal["adbc"] = "adbc"
    query: Name
    uri: SecretStr | None = None
    driver: Name | None = None
    options: _Options = Field(default_factory=dict)
    watch_query: Name | None = None
    timeout: PositiveDuration = TRAITS_QUERY_DEFAULT_MS

    #: Drivers by the schemes of their addresses; each is in the package `adbc-driver-NAME`.
    DRIVERS: ClassVar[Mapping[str, str]] = {
        "postgresql": "postgresql", "postgres": "postgresql", "sqlite": "sqlite", "snowflake": "snowflake",
        "bigquery": "bigquery", "grpc": "flightsql", "grpc+tls": "flightsql", "grpc+tcp": "flightsql",
    }  # fmt: skip

    @model_validator(mode="after")
    def _has_driver(self) -> AdbcSource:
        if self.driver is None and self.uri is None:
            message = "a uri or a driver is needed"
            raise ValueError(message)
        if self.driver is None and self._scheme() not in self.DRIVERS:
            message = "a driver is needed: the scheme of the uri does not tell it"
            raise ValueError(message)
        return self

    @property
    def driver_name(self) -> str:
        """The driver: `postgresql`, `snowflake`, …."""
        return self.driver or self.DRIVERS[self._scheme()]

    @property
    def label(self) -> str:
        """The address without its password, or the driver."""
        return redact_uri(self.uri.get_secret_value()) if self.uri else f"{self.driver_name} database"

    @property
    def look(self) -> Look:
        """By `watch_query` alone."""
        return "remote" if self.watch_query else "blind"

    def secrets(self) -> list[str]:
        """The address's password and the driver's options."""
        uri = self.uri.get_secret_value() if self.uri else ""
        return [*secrets_of_uri(uri), *_values(self.options)]

    def _scheme(self) -> str:
        uri = self.uri.get_secret_value() if self.uri else ""
        return uri.partition("://")[0].lower() if "://" in uri else ""


#: Every kind with its model, in the order that faults list them.
TRAIT_SOURCES: Final[dict[str, type[TraitSource]]] = {
    "parquet": ParquetSource, "arrow": ArrowSource, "csv": CsvSource, "delta": DeltaSource,
    "iceberg": IcebergSource, "duckdb": DuckdbSource, "adbc": AdbcSource,
}  # fmt: skip


def identity_of(sources: Sequence[TraitSource]) -> str:
    """Give the identity of several sources together; empty for none."""
    identities = [source.identity() for source in sources]
    if len(identities) < 2:
        return "".join(identities)
    return hashlib.sha256(" ".join(identities).encode()).hexdigest()


def label_of(sources: Sequence[TraitSource]) -> str:
    """Name several sources for people."""
    return ", ".join(source.label for source in sources)


def look_of(sources: Sequence[TraitSource]) -> Look:
    """Give what looking at all of them costs: what the dearest does. Blind if none can tell."""
    looks = {source.look for source in sources}
    order: tuple[Look, ...] = ("remote", "local", "blind", "fixed")
    return next((look for look in order if look in looks), "fixed")


def is_remote(path: str) -> bool:
    """Say whether a path is a URI behind a network."""
    return bool(_REMOTE.match(path))


def redact_uri(uri: str) -> str:
    """Give an address without the password that it holds before its host or among its parameters."""
    shown = _USER_INFO.sub(lambda found: f"{found['scheme'] or ''}{found['user']}:{HIDDEN}@", uri)
    return _SECRET_PARAMETER.sub(lambda found: f"{found['name']}{HIDDEN}", shown)


def secrets_of_uri(uri: str) -> list[str]:
    """List the secrets in an address, as written and unquoted."""
    found = [match["password"]] if (match := _USER_INFO.match(uri)) else []
    found += [match["value"] for match in _SECRET_PARAMETER.finditer(uri)]
    return [text for secret in found for text in {secret, unquote(secret)} if text]


def redact(text: str, secrets: Iterable[str]) -> str:
    """Give a text of somebody else's without secrets, the longest first."""
    for secret in sorted({secret for secret in secrets if len(secret) >= _SECRET_LENGTH_MIN}, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _SECRET_PARAMETER.sub(lambda found: f"{found['name']}{HIDDEN}", text)


def _values(options: Mapping[str, SecretStr]) -> list[str]:
    """List the values, and what is secret in those that are addresses or pairs of a name and a secret."""
    values = [value.get_secret_value() for value in options.values()]
    inner = [secret for value in values for secret in secrets_of_uri(value)]
    return [*values, *inner, *(value.partition(":")[2] for value in values if "://" not in value and ":" in value)]


def _shown(value: Any, secret: bool = False) -> Any:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, Mapping):
        return {key: _shown(item, bool(_SECRET_NAME.search(str(key)))) for key, item in value.items()}
    if isinstance(value, list):
        return [_shown(item) for item in value]
    if isinstance(value, str):
        return HIDDEN if secret else redact_uri(value)
    return value

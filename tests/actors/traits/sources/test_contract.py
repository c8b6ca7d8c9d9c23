"""One suite for every kind of source: the same rows in, the same snapshot out, changes noticed, faults by reason."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as postgresql
from deltalake import write_deltalake
from pyiceberg.catalog import load_catalog

from actors.traits.reading import load_snapshot
from cluster.definitions.model import ParentModel, ValueType
from cluster.definitions.trait_sources import TraitSource
from cluster.errors import SnapshotError
from tests.actors.traits.making import parent, source_of, with_source, write_arrow, write_parquet
from tests.actors.traits.sources.postgres import postgres_uri
from tests.actors.traits.sources.reading import look_at

COLUMNS: dict[str, ValueType] = {
    "ltv": "number", "tier": "string", "last_seen": "timestamp", "opted_in": "boolean", "interests": "list",
}  # fmt: skip
SEEN = dt.datetime(2026, 11, 23, 10, 0, 0, 123_000, tzinfo=dt.UTC)
SCHEMA = pa.schema([
    ("user_id", pa.string()), ("ltv", pa.float64()), ("tier", pa.string()),
    ("last_seen", pa.timestamp("us", "UTC")), ("opted_in", pa.bool_()), ("interests", pa.list_(pa.string())),
    ("unasked", pa.int64()),
])  # fmt: skip


def rows(count: int = 3) -> pa.Table:
    """Users with and without values: an empty text and an empty list are values, null is missing."""
    full = {"ltv": 12.5, "tier": 'gold, "plus"', "last_seen": SEEN, "opted_in": True, "interests": ["golf", "a,b"]}
    empty = {"ltv": -1.0, "tier": "", "last_seen": None, "opted_in": False, "interests": []}
    bare: dict[str, Any] = dict.fromkeys(COLUMNS)
    of = itertools.cycle((full, empty, bare))
    return pa.Table.from_pylist([{"user_id": f"00{i}", **next(of), "unasked": i} for i in range(count)], SCHEMA)


class World(ABC):
    """A place where a source's rows are."""

    kind: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def source(self, **more: Any) -> TraitSource:
        """The settings of a source over these rows."""

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Replace all rows."""


class FileWorld(World):
    ending: str

    @property
    def path(self) -> Path:
        return self.folder / f"users.{self.ending}"

    def source(self, **more: Any) -> TraitSource:
        return source_of(self.kind, path=str(self.path), **more)


class Parquet(FileWorld):
    kind = ending = "parquet"

    def write(self, table: pa.Table) -> None:
        write_parquet(self.path, table)


class Arrow(FileWorld):
    kind = ending = "arrow"

    def write(self, table: pa.Table) -> None:
        write_arrow(self.path, table)


class Csv(FileWorld):
    kind = ending = "csv"

    def write(self, table: pa.Table) -> None:
        with self.path.open("w", newline="") as file:
            file.write(",".join(table.column_names) + "\r\n")
            for row in table.to_pylist():
                file.write(",".join(self._cell(value) for value in row.values()) + "\r\n")

    @staticmethod
    def _cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, dt.datetime):
            return value.isoformat()
        text = value if isinstance(value, str) else json.dumps(value)
        return '"' + text.replace('"', '""') + '"'


class Delta(World):
    kind = "delta"

    def source(self, **more: Any) -> TraitSource:
        return source_of("delta", path=str(self.folder / "users"), **more)

    def write(self, table: pa.Table) -> None:
        write_deltalake(str(self.folder / "users"), table, mode="overwrite", schema_mode="overwrite")


class Iceberg(World):
    kind = "iceberg"

    def properties(self) -> dict[str, str]:
        catalog = f"sqlite:///{self.folder}/catalog.db"
        return {"name": "tests", "type": "sql", "uri": catalog, "warehouse": f"file://{self.folder}/warehouse"}

    def source(self, **more: Any) -> TraitSource:
        return source_of("iceberg", **{"table": "shop.users", "catalog": self.properties(), **more})

    def write(self, table: pa.Table) -> None:
        properties = self.properties()
        catalog = load_catalog(properties.pop("name"), **properties)
        catalog.create_namespace_if_not_exists("shop")
        if catalog.table_exists("shop.users") and catalog.load_table("shop.users").schema().column_names:
            found = catalog.load_table("shop.users")
            if found.schema().as_arrow().names == table.schema.names:
                found.overwrite(table)
                return
            catalog.drop_table("shop.users")
        catalog.create_table("shop.users", schema=table.schema).append(table)


class Duckdb(World):
    kind = "duckdb"

    def source(self, **more: Any) -> TraitSource:
        path = str(self.folder / "shop.duckdb")
        return source_of("duckdb", **{"path": path, "query": "SELECT * FROM users", **more})

    def write(self, table: pa.Table) -> None:
        with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
            connection.register("new_rows", table)
            connection.sql("CREATE OR REPLACE TABLE users AS SELECT * FROM new_rows")


class DuckdbOverParquet(World):
    kind = "duckdb"

    def source(self, **more: Any) -> TraitSource:
        path = str(self.folder / "*.parquet")
        query = f"SELECT * FROM '{path}' ORDER BY user_id"
        return source_of("duckdb", **{"query": query, "watch": path, **more})

    def write(self, table: pa.Table) -> None:
        write_parquet(self.folder / "users.parquet", table)


class Postgres(World):
    kind = "adbc"
    uri: str

    def source(self, **more: Any) -> TraitSource:
        watch = "SELECT count(*), max(xmin::text::bigint) FROM users"
        settings = {"uri": self.uri, "query": "SELECT * FROM users ORDER BY user_id", "watch_query": watch, **more}
        return source_of("adbc", **settings)

    def write(self, table: pa.Table) -> None:
        with postgresql.connect(self.uri) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS users")
            if "interests" in table.column_names:
                cursor.execute(
                    "CREATE TABLE users (user_id text, ltv numeric, tier varchar(40), last_seen timestamptz,"
                    " opted_in boolean, interests text[], unasked bigint)"
                )
                for row in table.to_pylist():
                    cursor.execute(f"INSERT INTO users VALUES ({', '.join(map(self._literal, row.values()))})")
            else:
                cursor.adbc_ingest("users", table, mode="create")
            connection.commit()

    def _literal(self, value: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, list):
            return f"ARRAY[{', '.join(map(self._literal, value))}]::text[]"
        return str(value) if isinstance(value, bool | float | int) else "'" + str(value).replace("'", "''") + "'"


WORLDS: tuple[type[World], ...] = (Parquet, Arrow, Csv, Delta, Iceberg, Duckdb, DuckdbOverParquet, Postgres)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_uri(tmp_path_factory.mktemp("postgres")) as uri:
        yield uri


@pytest.fixture(params=WORLDS, ids=lambda world: world.__name__)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    made: World = request.param(tmp_path)
    if isinstance(made, Postgres):
        made.uri = request.getfixturevalue("database")
        with closing(postgresql.connect(made.uri)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("DROP TABLE IF EXISTS users")
            connection.commit()
    return made


def load(source: TraitSource, model: ParentModel | None = None) -> tuple[pa.Table, Any]:
    snapshot, fingerprint = load_snapshot(with_source(model or parent(COLUMNS), source), 64, Path())
    return snapshot.table.sort_by("key"), fingerprint


def test_every_type_of_trait_arrives_and_what_is_not_asked_for_stays_away(world: World) -> None:
    world.write(rows())
    table, _ = load(world.source())
    seen_ms = int(SEEN.timestamp() * 1_000)
    assert table.drop_columns(["partition"]).to_pylist() == [
        {"key": "000", "ltv": 12.5, "tier": 'gold, "plus"', "last_seen": seen_ms, "opted_in": True,
         "interests": ["golf", "a,b"]},
        {"key": "001", "ltv": -1.0, "tier": "", "last_seen": None, "opted_in": False, "interests": []},
        {"key": "002", "ltv": None, "tier": None, "last_seen": None, "opted_in": None, "interests": None},
    ]  # fmt: skip


def test_a_change_of_rows_is_seen_and_nothing_else_is(world: World) -> None:
    world.write(rows())
    _, before = load(world.source())
    assert look_at(world.source(), Path()) == before != ()
    world.write(rows(4))
    after = look_at(world.source(), Path())
    assert after != before
    table, fingerprint = load(world.source())
    assert (table.num_rows, fingerprint) == (4, after)


def test_no_rows_are_a_snapshot_too(world: World) -> None:
    world.write(rows(0))
    assert load(world.source())[0].num_rows == 0


def test_more_rows_than_a_batch_come_in_several(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("contract", "parquet", "duckdb"):
        monkeypatch.setattr(f"actors.traits.sources.{module}.TRAITS_BATCH_ROWS_MAX", 7)
    world.write(rows(30))
    table, _ = load(world.source())
    assert table.column("key").to_pylist() == sorted(f"00{i}" for i in range(30))


def refused(world: World, reason: str, source: TraitSource | None = None, model: ParentModel | None = None) -> str:
    with pytest.raises(SnapshotError) as error:
        load(source or world.source(), model)
    assert error.value.reason == reason, error.value
    assert error.value.next_step
    return error.value.message


def test_a_missing_column_is_named_with_those_found(world: World) -> None:
    world.write(rows().drop_columns(["tier", "interests"]))
    message = refused(world, "missing_column")
    assert "'tier' is missing" in message
    assert "ltv" in message


def test_a_column_of_a_wrong_type_is_refused(world: World) -> None:
    if world.kind == "csv":
        pytest.skip("a CSV file has no types: what is no number is missing")
    world.write(rows())
    message = refused(world, "wrong_type", model=parent({"opted_in": "number"}))
    assert "'opted_in' is declared number" in message


def test_a_source_that_is_not_there_is_said(world: World) -> None:
    reason = "bad_query" if world.kind == "adbc" else "no_files"
    with pytest.raises(SnapshotError) as error:
        load(world.source())
    assert error.value.reason == reason, error.value
    assert error.value.next_step


def test_a_null_key_is_refused_with_its_row_whatever_the_source(world: World) -> None:
    table = pa.concat_tables([rows(2), rows(1).set_column(0, "user_id", pa.array([None], pa.string()))])
    world.write(table)
    assert "null in 1 row(s)" in refused(world, "null_key")

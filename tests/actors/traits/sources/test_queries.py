"""Queries: DuckDB and PostgreSQL. One statement that reads, within its time, and no secret in what is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as postgresql
from adbc_driver_sqlite import dbapi as sqlite

from actors.traits.reading import load_snapshot
from cluster.definitions.trait_sources import TraitSource
from tests.actors.traits.making import parent, source_of, table, with_source, write_parquet
from tests.actors.traits.sources.postgres import postgres_uri
from tests.actors.traits.sources.reading import look_at, read_all, refused

ONE_USER = "SELECT 'u0' AS user_id, 1.0 AS ltv, 'gold' AS tier"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgres_uri(tmp_path_factory.mktemp("postgres")) as uri:
        yield uri


def keys(rows: pa.Table) -> list[str]:
    found: list[str] = rows.column("user_id").to_pylist()
    return found


def by_duckdb(query: str = ONE_USER, **more: Any) -> TraitSource:
    return source_of("duckdb", query=query, **more)


def by_postgres(uri: str, query: str = ONE_USER, **more: Any) -> TraitSource:
    return source_of("adbc", uri=uri, query=query, **more)


def test_a_duckdb_query_reads_files_relative_to_the_base_dir(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "users.parquet", table(2))
    source = by_duckdb("SELECT * FROM 'data/*.parquet'", watch="data/*.parquet")
    assert sorted(keys(read_all(source, base_dir=tmp_path))) == ["u0", "u1"]
    assert len(look_at(source, tmp_path)) == 1


def test_a_duckdb_query_may_join_and_aggregate(tmp_path: Path) -> None:
    write_parquet(tmp_path / "users.parquet", table(3))
    orders = pa.table({"user_id": ["u0", "u0", "u2"], "amount": [5.0, 7.0, 1.0]})
    write_parquet(tmp_path / "orders.parquet", orders)
    query = """SELECT u.user_id, tier, coalesce(sum(amount), 0) AS ltv
               FROM 'users.parquet' u LEFT JOIN 'orders.parquet' o USING (user_id) GROUP BY ALL ORDER BY 1"""
    assert read_all(by_duckdb(query), base_dir=tmp_path).column("ltv").to_pylist() == [12.0, 0.0, 1.0]


def test_a_query_without_anything_to_watch_cannot_tell_a_change() -> None:
    assert look_at(by_duckdb(), Path()) == ()
    assert keys(read_all(by_duckdb())) == ["u0"]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELEC 1", "bad_query"),
        ("SELECT nosuch AS user_id", "bad_query"),
        ("SELECT * FROM nosuch", "bad_query"),
        ("SELECT 1; SELECT 2", "bad_query"),
        ("COPY (SELECT 1) TO 'stolen.csv'", "bad_query"),
        ("CREATE TABLE t (a INTEGER)", "bad_query"),
        ("SELECT * FROM 'nosuch.parquet'", "unreachable"),
        ("SELECT CAST('x' || range AS INTEGER) AS ltv, '' AS user_id, '' AS tier FROM range(9)", "query_failed"),
    ],
)
def test_a_bad_duckdb_query_is_refused_by_its_reason(tmp_path: Path, query: str, reason: str) -> None:
    refused(by_duckdb(query), reason, base_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_a_query_reads_cannot_be_written(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.sql("CREATE TABLE users AS SELECT 'u0' AS user_id, 1.0 AS ltv, 'gold' AS tier")
    refused(by_duckdb("INSERT INTO users VALUES ('u1', 1, '')", path="shop.duckdb"), "bad_query", base_dir=tmp_path)
    assert keys(read_all(by_duckdb("FROM users", path="shop.duckdb"), base_dir=tmp_path)) == ["u0"]


def test_a_database_file_that_another_process_writes_is_unreachable_and_free_later(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    code = (
        f"import duckdb, sys; c = duckdb.connect({str(path)!r}); "
        "c.sql(\"CREATE TABLE users AS SELECT 'u0' AS user_id, 1.0 AS ltv, 'gold' AS tier\"); print(1, flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        refused(by_duckdb("FROM users", path=str(path)), "unreachable")
    assert keys(read_all(by_duckdb("FROM users", path=str(path)))) == ["u0"]


def test_a_duckdb_query_beyond_its_time_is_stopped() -> None:
    query = "SELECT count(*)::text AS user_id, 1.0 AS ltv, '' AS tier FROM range(100000000000) a, range(1000) b"
    assert "timeout of 300ms" in refused(by_duckdb(query, timeout="300ms"), "slow")


def test_a_postgres_query_beyond_its_time_is_stopped(database: str) -> None:
    query = "SELECT 'u0' AS user_id, 1.0 AS ltv, (SELECT 'gold' FROM pg_sleep(60)) AS tier"
    assert "timeout of 300ms" in refused(by_postgres(database, query, timeout="300ms"), "slow")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("SELEC 1", "bad_query"),
        ("SELECT * FROM nosuch", "bad_query"),
        ("SELECT 1; SELECT 2", "bad_query"),
        ("SELECT 'u' AS user_id, 1/(i - 3) AS ltv, '' AS tier FROM generate_series(1, 3) i", "query_failed"),
    ],
)
def test_a_bad_postgres_query_is_refused_by_its_reason(database: str, query: str, reason: str) -> None:
    refused(by_postgres(database, query), reason)


def test_a_query_that_writes_leaves_no_trace(database: str) -> None:
    with closing(postgresql.connect(database)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("DROP TABLE IF EXISTS kept")
        cursor.execute("CREATE TABLE kept AS SELECT 'u0'::text AS user_id, 1.0::float8 AS ltv, 'gold'::text AS tier")
        connection.commit()
    assert keys(read_all(by_postgres(database, "DELETE FROM kept RETURNING *"))) == ["u0"]
    assert keys(read_all(by_postgres(database, "SELECT * FROM kept"))) == ["u0"]


def test_uuids_numerics_and_json_of_postgres_are_read(database: str) -> None:
    query = """SELECT '5F0C1E9A-0000-4000-8000-00000000000A'::uuid AS user_id, 12.50::numeric AS ltv,
                      '["golf", null, 7]'::jsonb AS likes, NULL::uuid AS tier, 'infinity'::float8 AS odd"""
    model = parent({"ltv": "number", "likes": "list", "tier": "string", "odd": "number"})
    snapshot, _ = load_snapshot(with_source(model, by_postgres(database, query)), 64, Path())
    assert snapshot.table.drop_columns(["partition"]).to_pylist() == [
        {"key": str(UUID("5F0C1E9A-0000-4000-8000-00000000000A")), "ltv": 12.5, "likes": ["golf", "7"], "tier": None,
         "odd": None}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "uri", ["postgresql://usher:topsecret@127.0.0.1:1/shop", "postgresql://usher@127.0.0.1:1/shop?password=topsecret"]
)
def test_a_database_that_does_not_answer_is_unreachable_and_its_password_stays_secret(uri: str) -> None:
    message = refused(by_postgres(uri), "unreachable")
    assert "topsecret" not in message
    assert "127.0.0.1" in message


def test_a_sqlite_database_is_read_by_its_driver(tmp_path: Path) -> None:
    with closing(sqlite.connect(str(tmp_path / "shop.db"))) as connection, closing(connection.cursor()) as cursor:
        cursor.adbc_ingest("users", table(2), mode="create")
        connection.commit()
    source = source_of("adbc", driver="sqlite", uri=str(tmp_path / "shop.db"), query="SELECT * FROM users")
    assert keys(read_all(source)) == ["u0", "u1"]


def test_what_is_written_half_way_is_told_by_the_watch_query(database: str) -> None:
    with closing(postgresql.connect(database)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TABLE watched AS SELECT 'u0'::text AS user_id, 1.0::float8 AS ltv, 'a'::text AS tier")
        connection.commit()
        source = by_postgres(
            database, "SELECT * FROM watched", watch_query="SELECT count(*), max(ltv), max(tier) FROM watched"
        )
        before = look_at(source, Path())
        assert look_at(source, Path()) == before
        cursor.execute("INSERT INTO watched VALUES ('u1', 2, 'b')")
        assert look_at(source, Path()) == before  # not committed yet
        connection.commit()
        assert look_at(source, Path()) != before
    refused(by_postgres(database, watch_query="SELECT nosuch"), "bad_query")


@pytest.mark.parametrize(
    ("source", "package", "extra"),
    [
        (by_duckdb(), "duckdb", "duckdb"),
        (source_of("delta", path="users"), "deltalake", "delta"),
        (source_of("iceberg", table="a.b", catalog={"type": "sql"}), "pyiceberg", "iceberg"),
        (by_postgres("postgresql://h/d"), "adbc_driver_postgresql", "postgresql"),
        (source_of("adbc", uri="snowflake://u:p@account/db", query="x"), "adbc_driver_snowflake", "snowflake"),
        (source_of("adbc", driver="bigquery", query="x"), "adbc_driver_bigquery", "bigquery"),
    ],
)
def test_a_missing_package_is_named_with_the_pip_command(
    monkeypatch: pytest.MonkeyPatch, source: TraitSource, package: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Hiding(package), *sys.meta_path])
    message = refused(source, "missing_extra")
    assert package in message
    assert f"pip install 'usher-audiences[{extra}]'" in message


class _Hiding:
    """An import finder that makes a package look as if it were not installed."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self._package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

"""Settings of trait sources: what people see of them, and what they never see."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cluster.definitions.trait_sources import (
    TRAIT_SOURCES,
    TraitSource,
    is_remote,
    redact,
    redact_uri,
    secrets_of_uri,
)

SECRET = "hunter2!x"


def source(kind: str, **settings: Any) -> TraitSource:
    return TRAIT_SOURCES[kind].model_validate({"kind": kind, **settings})


SECRETIVE = (
    source("parquet", path=f"s3://AKIA:{SECRET}@bucket/users?region=eu-central-1"),
    source("csv", path=f"s3://bucket/u.csv?secret_key={SECRET}"),
    source("delta", path="s3://bucket/users", storage_options={"AWS_SECRET_ACCESS_KEY": SECRET}),
    source("iceberg", table="a.b", catalog={"type": "rest", "uri": "https://h", "credential": f"id:{SECRET}"}),
    source("duckdb", path=f"s3://AKIA:{SECRET}@bucket/x.db", query="SELECT 1"),
    source("adbc", uri=f"postgresql://usher:{SECRET}@db.example.com/shop?sslmode=require", query="SELECT 1"),
    source("adbc", uri=f"usher:{SECRET}@account/shop/public?warehouse=small", driver="snowflake", query="SELECT 1"),
    source("adbc", driver="bigquery", options={"adbc.bigquery.sql.auth_credentials": SECRET}, query="SELECT 1"),
)


@pytest.mark.parametrize("one", SECRETIVE, ids=lambda one: one.kind)
def test_a_label_a_repr_and_a_redacted_error_show_no_secret(one: TraitSource) -> None:
    assert SECRET not in one.label
    assert SECRET not in (repr(one.settings) if hasattr(one, "settings") else "")
    assert SECRET in one.secrets() or any(SECRET in secret for secret in one.secrets())
    assert SECRET not in redact(f"the driver says {SECRET!r} is wrong at {one.secrets()[0]}", one.secrets())


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://usher:pass@db/shop", "postgresql://usher:***@db/shop"),
        ("postgresql://usher@db/shop?password=pass&sslmode=require",
         "postgresql://usher@db/shop?password=***&sslmode=require"),
        ("host=db user=usher password=pass dbname=shop", "host=db user=usher password=*** dbname=shop"),
        ("usher:p@account/shop", "usher:***@account/shop"),
        ("s3://bucket/a:b@c.parquet", "s3://bucket/a:b@c.parquet"),
        ("data/users.parquet", "data/users.parquet"),
        ("postgresql://db:5432/shop", "postgresql://db:5432/shop"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert redact_uri(uri) == shown


def test_a_quoted_password_is_a_secret_in_both_its_forms() -> None:
    assert set(secrets_of_uri("postgresql://u:p%40ss%2Fword@h/d")) == {"p%40ss%2Fword", "p@ss/word"}
    assert secrets_of_uri("postgresql://u@h/d") == []


def test_an_identity_says_which_rows_and_does_not_depend_on_passwords() -> None:
    first, second = (source("adbc", uri=f"postgresql://u:{word}@h/d", query="SELECT 1") for word in ("one1", "two2"))
    assert first != second
    assert first.identity() == second.identity()
    others = [
        source("adbc", uri="postgresql://u:one1@h/e", query="SELECT 1"),
        source("adbc", uri="postgresql://u:one1@h/d", query="SELECT 2"),
    ]
    assert len({one.identity() for one in (first, *others)}) == 3
    assert source("delta", path="t", storage_options={"region": "a"}).identity() != (
        source("delta", path="t", storage_options={"region": "b"}).identity()
    )


def test_options_of_yaml_numbers_and_booleans_are_texts() -> None:
    made = source("iceberg", table="a.b", catalog={"type": "rest", "port": 8181, "ssl": True})
    assert made.secrets() == ["8181", "true"]


@pytest.mark.parametrize(
    ("one", "look"),
    [
        (source("parquet", path="data/users.parquet"), "local"),
        (source("parquet", path="file:///data/users.parquet"), "local"),
        (source("csv", path="s3://bucket/users.csv"), "remote"),
        (source("delta", path="users"), "local"),
        (source("delta", path="users", version=3), "fixed"),
        (source("iceberg", table="a.b", catalog={"type": "rest"}), "remote"),
        (source("iceberg", table="a.b", catalog={"type": "rest"}, snapshot_id=4), "fixed"),
        (source("duckdb", query="SELECT 1"), "blind"),
        (source("duckdb", query="SELECT 1", path="shop.duckdb"), "local"),
        (source("duckdb", query="SELECT 1", watch="s3://bucket/users"), "remote"),
        (source("adbc", uri="postgresql://h/d", query="SELECT 1"), "blind"),
        (source("adbc", uri="postgresql://h/d", query="SELECT 1", watch_query="SELECT 2"), "remote"),
    ],
)
def test_what_a_look_at_a_source_costs(one: TraitSource, look: str) -> None:
    assert one.look == look


def test_only_what_is_behind_a_network_is_remote() -> None:
    assert is_remote("s3://bucket/users")
    assert not is_remote("file:///data/users")
    assert not is_remote("data/users.parquet")


@pytest.mark.parametrize("one", SECRETIVE, ids=lambda one: one.kind)
def test_a_source_goes_to_another_process_whole(one: TraitSource) -> None:
    assert pickle.loads(pickle.dumps(one)) == one

"""Sources in object stores: S3 through pyarrow, delta-rs and pyiceberg, Google Cloud Storage through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from pyarrow import csv
from pyarrow.fs import FileSystem

from cluster.definitions.trait_sources import TraitSource
from tests.actors.traits.making import source_of, table
from tests.actors.traits.sources.reading import look_at, read_all, refused
from tests.cluster.checkpoints.servers import gs_uri, s3_uri


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_uri() as uri:
        yield uri


@pytest.fixture(scope="module", params=["s3", "gs"])
def any_bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
    else:
        with gs_uri() as uri:
            yield uri


def at(bucket: str, path: str) -> str:
    place, _, options = bucket.partition("?")
    return f"{place}/{path}?{options}"


def keys(source: TraitSource) -> list[str]:
    found: list[str] = read_all(source).column("user_id").to_pylist()
    return sorted(found)


def write(bucket: str, path: str, count: int, first: str = "u") -> None:
    filesystem, place = FileSystem.from_uri(at(bucket, path))
    rows = table(count, user_id=[f"{first}{i}" for i in range(count)])
    with filesystem.open_output_stream(place) as file:
        csv.write_csv(rows, file) if path.endswith("csv") else pq.write_table(rows, file)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_files_folders_and_globs_in_a_bucket_are_read_and_watched(any_bucket: str, ending: str) -> None:
    bucket = any_bucket
    write(bucket, f"{ending}/a.{ending}", 2, "a")
    write(bucket, f"{ending}/day=2/b.{ending}", 1, "b")
    one = source_of(ending, path=at(bucket, f"{ending}/a.{ending}"))
    assert keys(one) == ["a0", "a1"]
    assert keys(source_of(ending, path=at(bucket, ending))) == ["a0", "a1", "b0"]
    glob = source_of(ending, path=at(bucket, f"{ending}/*/*.{ending}"))
    assert keys(glob) == ["b0"]
    before = look_at(one, Path())
    assert look_at(one, Path()) == before
    write(bucket, f"{ending}/a.{ending}", 3, "a")
    assert look_at(one, Path()) != before
    assert keys(one) == ["a0", "a1", "a2"]


def test_what_is_not_in_the_bucket_is_said_without_the_key(bucket: str) -> None:
    place = at(bucket, "none.parquet").replace("s3://", "s3://AKIA:very-secret-key@")
    message = refused(source_of("parquet", path=place), "no_files")
    assert "s3://AKIA:***@" in message
    assert "very-secret-key" not in message


def test_a_bucket_whose_host_does_not_answer_is_unreachable() -> None:
    path = "s3://bucket/users.parquet?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    refused(source_of("parquet", path=path), "unreachable")


def test_a_delta_table_in_a_bucket_is_read_with_its_storage_options(bucket: str) -> None:
    options = {name: value[0] for name, value in parse_qs(urlsplit(bucket).query).items()}
    settings = {
        "AWS_ENDPOINT_URL": f"http://{options['endpoint_override']}", "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a-key-of-tests",
        "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests", "AWS_S3_ALLOW_UNSAFE_RENAME": "true",
    }  # fmt: skip
    uri = f"{bucket.partition('?')[0]}/delta"
    write_deltalake(uri, table(2), storage_options=settings)
    source = source_of("delta", path=uri, storage_options=settings)
    assert keys(source) == ["u0", "u1"]
    before = look_at(source, Path())
    write_deltalake(uri, table(3), mode="overwrite", storage_options=settings)
    assert look_at(source, Path()) != before
    assert keys(source) == ["u0", "u1", "u2"]

"""Reading sources: file, folder, glob, URI; only what is needed; each fault by its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.traits.snapshot import Table
from actors.traits.sources import parquet
from cluster.definitions.trait_sources import is_remote
from cluster.errors import SnapshotError
from tests.actors.traits.making import source_of, table, write_arrow, write_parquet
from tests.actors.traits.sources.reading import look_at, read_all


def read(path: str | Path, kind: str = "parquet", base_dir: Path = Path()) -> Table:
    return read_all(source_of(kind, path=str(path)), base_dir=base_dir)


def keys(rows: Table) -> list[str]:
    found: list[str] = rows.column("user_id").to_pylist()
    return found


def refused(path: str | Path, reason: str, kind: str = "parquet") -> SnapshotError:
    with pytest.raises(SnapshotError) as error:
        read(path, kind)
    assert error.value.reason == reason
    assert error.value.next_step
    return error.value


def test_a_parquet_file_is_read_with_the_needed_columns_alone(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(2, unasked=[1, 2]))
    assert read(path).equals(table(2))


@pytest.mark.parametrize("stream", [False, True])
def test_an_arrow_file_or_stream_is_read_with_the_needed_columns_alone(tmp_path: Path, stream: bool) -> None:
    path = write_arrow(
        tmp_path / "users.arrow", table(2, unasked=[1, 2]).select(["unasked", "tier", "ltv", "user_id"]), stream
    )
    rows = read(path, "arrow")
    assert sorted(rows.column_names) == ["ltv", "tier", "user_id"]
    assert keys(rows) == ["u0", "u1"]


def test_a_folder_is_all_its_files_below_without_what_writers_leave_beside(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    (tmp_path / "_temporary").mkdir()
    for name, key in [
        ("b.parquet", "b"),
        ("day=1/a.PARQUET", "c"),
        (".hidden.parquet", "x"),
        ("_temporary/y.parquet", "y"),
    ]:
        write_parquet(tmp_path / name, table(1, user_id=[key]))
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "README.md").write_text("not a table")
    assert keys(read(tmp_path)) == ["b", "c"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.parquet", ["a"]), ("part-?/*.parquet", ["b", "c"]), ("part-[2-9]/*", ["c"]),
        ("**/*.parquet", ["a", "b", "c", "d"]),
        ("**/deep/*.parquet", ["d"]), ("part-2/**", ["c", "d"]),
    ],
)  # fmt: skip
def test_a_glob_names_files_as_a_shell_does(tmp_path: Path, pattern: str, found: list[str]) -> None:
    for name, key in [
        ("x.parquet", "a"),
        ("part-1/x.parquet", "b"),
        ("part-2/x.parquet", "c"),
        ("part-2/deep/x.parquet", "d"),
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / name, table(1, user_id=[key]))
    assert sorted(keys(read(tmp_path / pattern))) == found


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    write_parquet(tmp_path / "users[1].parquet", table(1))
    assert keys(read(tmp_path / "users[1].parquet")) == ["u0"]


def test_a_relative_path_starts_at_the_base_dir(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "users.parquet", table(1))
    assert keys(read("data/users.parquet", base_dir=tmp_path)) == ["u0"]


@pytest.mark.parametrize("end", ["users.parquet", "", "*.parquet"])
def test_a_uri_is_read_through_its_filesystem(tmp_path: Path, end: str) -> None:
    write_parquet(tmp_path / "users.parquet", table(1))
    assert keys(read(f"file://{tmp_path}/{end}")) == ["u0"]


def test_only_sources_behind_a_network_are_remote() -> None:
    assert is_remote("s3://bucket/users")
    assert not is_remote("file:///data/users")
    assert not is_remote("data/users.parquet")


def test_files_may_differ_in_the_width_of_a_number_but_not_in_kind(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", table(1, ltv=pa.array([1], pa.int32())))
    write_parquet(tmp_path / "b.parquet", table(1, user_id=["b"], ltv=[2.5]))
    assert read(tmp_path).column("ltv").to_pylist() == [1.0, 2.5]
    write_parquet(tmp_path / "b.parquet", table(1, user_id=["b"], ltv=["many"]))
    refused(tmp_path, "mixed_types")


def test_a_column_missing_in_one_file_of_many_is_missing(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", table(1))
    write_parquet(tmp_path / "b.parquet", table(1).drop_columns(["tier"]))
    assert "b.parquet" in refused(tmp_path, "missing_column").message


def test_nothing_there_is_said_with_the_whole_path(tmp_path: Path) -> None:
    assert str(tmp_path / "none.parquet") in refused(tmp_path / "none.parquet", "no_files").message
    refused(tmp_path, "no_files")
    refused(tmp_path / "*.parquet", "no_files")
    refused(tmp_path / "no" / "folder" / "*.parquet", "no_files")


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_file_cut_off_anywhere_is_damaged(tmp_path: Path, kept: int) -> None:
    for kind, path in [("parquet", write_parquet(tmp_path / "u.parquet", table(1_000))),
                       ("arrow", write_arrow(tmp_path / "u.arrow", table(1_000)))]:  # fmt: skip
        path.write_bytes(path.read_bytes()[:kept])
        assert str(path) in refused(path, "damaged", kind).message


def test_a_cut_off_stream_is_damaged(tmp_path: Path) -> None:
    path = write_arrow(tmp_path / "users.arrows", table(1_000), stream=True)
    path.write_bytes(path.read_bytes()[:2_000])
    refused(path, "damaged", "arrow")


def test_a_file_of_another_kind_is_damaged(tmp_path: Path) -> None:
    refused(write_arrow(tmp_path / "users.parquet", table(1)), "damaged", "parquet")
    refused(write_parquet(tmp_path / "users.arrow", table(1)), "damaged", "arrow")


def test_a_uri_of_no_filesystem_is_unreachable() -> None:
    refused("nosuch://host/users.parquet", "unreachable")


def test_the_fingerprint_changes_with_content_time_and_number_of_files(tmp_path: Path) -> None:
    source = source_of("parquet", path=str(tmp_path))
    path = write_parquet(tmp_path / "a.parquet", table(1))
    seen = [look_at(source, Path())]
    assert look_at(source, Path()) == seen[0]
    os.utime(path, ns=(1, 1))
    seen.append(look_at(source, Path()))
    os.truncate(path, 10)
    os.utime(path, ns=(1, 1))
    seen.append(look_at(source, Path()))
    write_parquet(tmp_path / "b.parquet", table(1))
    seen.append(look_at(source, Path()))
    assert len(set(seen)) == 4


def test_a_source_that_changes_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "users.parquet", table(1))
    real = pq.ParquetFile.iter_batches

    def read_and_replace(self: pq.ParquetFile, *args: object, **options: object) -> Iterator[pa.RecordBatch]:
        yield from real(self, *args, **options)
        write_parquet(path, table(2))

    monkeypatch.setattr(parquet.pq.ParquetFile, "iter_batches", read_and_replace)
    refused(path, "changing")

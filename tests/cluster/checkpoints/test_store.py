"""The same laws for a local folder and for object stores: servers of the APIs of S3 and of Google Cloud Storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.checkpoints.parts import Part
from cluster.checkpoints.places import check_uri, shown
from cluster.checkpoints.store import CheckpointStore, Stored
from cluster.errors import CheckpointError, InputError
from cluster.log import database
from tests.cluster.checkpoints.servers import gs_uri, s3_uri

PARTS = {"numbers": Part(np.arange(3_000_000, dtype=np.int64) % 1_000_003, 3_000_000)}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_uri() as uri:
        yield uri


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    with gs_uri() as uri:
        yield uri


@pytest.fixture(params=["folder", "file", "s3", "gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointStore:
    kind = request.param
    uri = {"folder": lambda: str(tmp_path / "state"), "file": lambda: f"file://{tmp_path}/state"}.get(kind)
    root = uri() if uri else request.getfixturevalue(kind)
    return CheckpointStore(root, f"evaluator-{tmp_path.name}", "0a1b")


def put(store: CheckpointStore, seq: int, parts: Any = None, header: bytes = b"h") -> Stored:
    return store.write(seq, header, parts or {"one": Part(np.arange(seq, dtype=np.int64), seq)}, lambda: None)


def test_what_is_written_is_listed_newest_first_and_read_whole(store: CheckpointStore) -> None:
    assert store.stored() == []
    stored = [put(store, seq) for seq in (7, 12, 3)]
    assert store.stored() == [stored[1], stored[0], stored[2]]
    with store.open(stored[0]) as contents:
        assert contents.header == b"h"
        assert contents.arrays()["one"].tolist() == list(range(7))


def test_a_large_one_is_whole(store: CheckpointStore) -> None:
    stored = put(store, 1, PARTS)
    with store.open(stored) as contents:
        assert (contents.arrays()["numbers"] == PARTS["numbers"].rows).all()


def test_writing_again_at_an_entry_takes_the_place_of_the_first(store: CheckpointStore) -> None:
    put(store, 5, header=b"first")
    put(store, 5, header=b"second")
    [stored] = store.stored()
    with store.open(stored) as contents:
        assert contents.header == b"second"


def test_what_ends_early_leaves_nothing_that_is_listed(store: CheckpointStore) -> None:
    frames = []

    def stop_at_third() -> None:
        frames.append(1)
        if len(frames) == 3:
            message = "enough"
            raise CheckpointError(message, reason="late")

    with pytest.raises(CheckpointError, match="enough"):
        store.write(9, b"h", PARTS, stop_at_third)
    assert store.stored() == []


def test_removing_is_for_good_and_may_be_repeated(store: CheckpointStore) -> None:
    first, second = put(store, 1), put(store, 2)
    store.remove(first)
    store.remove(first)
    assert store.stored() == [second]
    with pytest.raises(CheckpointError) as found, store.open(first):
        pass
    assert found.value.reason == "unreachable"


def test_stores_of_other_evaluators_and_logs_see_nothing_of_it(store: CheckpointStore) -> None:
    put(store, 1)
    for evaluator, log in (("evaluator-1", "0a1b"), ("evaluator-0", "ffff")):
        assert CheckpointStore(store._place._uri, evaluator, log).stored() == []


# --- the local folder alone --------------------------------------------------------------------------


def test_nobody_else_may_read_a_local_checkpoint(tmp_path: Path) -> None:
    stored = put(CheckpointStore(str(tmp_path / "state"), "evaluator-0", "0a1b"), 1)
    path = tmp_path / "state" / "evaluator-0" / "0a1b" / stored.name
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_what_a_crash_left_half_written_is_no_checkpoint_and_goes_with_the_next_one(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path), "evaluator-0", "0a1b")
    put(store, 1)
    left = tmp_path / "evaluator-0" / "0a1b" / ".0000000000000002.checkpoint.tmp"
    left.write_bytes(b"half")
    assert [stored.seq for stored in store.stored()] == [1]
    put(store, 3)
    assert not left.exists()


def test_the_last_of_a_disks_room_is_left_to_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CheckpointStore(str(tmp_path), "evaluator-0", "0a1b")
    monkeypatch.setattr(database, "DISK_FREE_BYTES_MIN", 1 << 60)
    with pytest.raises(CheckpointError, match="must stay free") as found:
        put(store, 1)
    assert found.value.reason == "unreachable"
    assert not any(path.suffix == ".tmp" for path in (tmp_path / "evaluator-0" / "0a1b").iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        put(CheckpointStore(str(tmp_path / "shut" / "state"), "evaluator-0", "0a1b"), 1)


def test_a_file_in_the_way_of_the_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(CheckpointError) as found:
        put(CheckpointStore(str(tmp_path / "state"), "evaluator-0", "0a1b"), 1)
    assert found.value.reason == "unreachable"


# --- URIs --------------------------------------------------------------------------------------------


def test_an_object_store_that_does_not_answer_is_an_error_that_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    uri = "s3://key:very-secret@bucket/shop?endpoint_override=127.0.0.1:9&scheme=http&region=eu-west-1"
    store = CheckpointStore(uri, "evaluator-0", "0a1b")
    assert store.shown == "s3://bucket/shop/evaluator-0/0a1b"
    with pytest.raises(CheckpointError) as found:
        store.stored()
    assert found.value.reason == "unreachable"
    assert "very-secret" not in str(found.value) + repr(found.value) + str(found.value.__cause__)


@pytest.mark.parametrize("uri", ["state", "/var/lib/state", "file:///var/lib/state", "s3://bucket", "gs://bucket/a"])
def test_folders_and_known_schemes_are_taken(uri: str) -> None:
    check_uri(uri)
    assert shown(uri) == uri


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://", "file://relative", "s4://bucket/x", "s3:///x:y"])
def test_other_uris_are_refused_with_what_is_allowed(uri: str) -> None:
    with pytest.raises(InputError, match=r"allowed|absolute"):
        check_uri(uri)

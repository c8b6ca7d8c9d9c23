"""Sending: in order of rows, tried again, gone on with; every row is accounted for once, whatever happens between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.client.errors import ServerUnavailable, TooBusy, Unauthorized
from cluster.client.models import Rejected, Sent
from cluster.errors import InputError
from cluster.ingest import sending
from cluster.ingest.files import EventFile, event_files
from cluster.ingest.positions import Positions
from cluster.ingest.sending import Sender
from cluster.ingest.shaping import Shape


class Server:
    """Takes events by message id; `faults` are raised before that, or after it (an answer that is lost)."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.requests = 0
        self.faults: dict[int, tuple[str, Exception]] = {}
        self._lock = threading.Lock()

    def __call__(self, body: bytes) -> Sent:
        with self._lock:
            self.requests += 1
            when, fault = self.faults.pop(self.requests, ("", None))
            if fault is not None and when == "before":
                raise fault
            events = json.loads(body)
            rejected = [
                Rejected(index=i, reason="no_key") for i, event in enumerate(events) if not event.get("user_id")
            ]
            fresh = [event["message_id"] for event in events if event.get("user_id")]
            new = [id_ for id_ in fresh if id_ not in self.ids]
            self.ids += new
            if fault is not None:
                raise fault
            return Sent(accepted=len(new), duplicates=len(fresh) - len(new), rejected=rejected)


def written(folder: Path, name: str, count: int, bad: tuple[int, ...] = ()) -> EventFile:
    path = folder / name
    lines = ["{" if i in bad else json.dumps({"user_id": f"{name}{i}"} if i % 7 else {}) for i in range(count)]
    path.write_text("\n".join(lines))
    return event_files([str(path)], None, Path())[0]


def sender(server: Callable[[bytes], Sent], folder: Path, **more: Any) -> Sender:
    naps: list[float] = more.pop("naps", [])
    positions = Positions(folder / "state" / "ingest.json", more.pop("url", "http://here"), more.pop("shape", ""))
    return Sender(server, Shape(), positions, connections=more.pop("connections", 3), sleep=naps.append, **more)


@pytest.fixture(autouse=True)
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "EVENTS_A_REQUEST", 5)


def test_every_row_is_accounted_for_and_the_first_refused_are_named(tmp_path: Path) -> None:
    server, told = Server(), []
    files = [written(tmp_path, "a.ndjson", 23, bad=(3, 4, 9, 20)), written(tmp_path, "b.ndjson", 4)]
    totals = sender(server, tmp_path, progress=lambda file, rows: told.append(rows)).send(files)
    assert totals.rows == 27 == sum(told)
    assert totals.accepted + totals.duplicates + totals.rejected.total() == 27
    assert totals.rejected == {"invalid_json": 4, "no_key": 5}
    assert totals.examples["invalid_json"] == [f"{files[0].path}:{row}" for row in (4, 5, 10)]
    assert totals.examples["no_key"][:2] == [f"{files[0].path}:1", f"{files[0].path}:8"]
    assert len(server.ids) == totals.accepted == 18


def test_a_second_run_sends_nothing_and_a_changed_file_is_sent_without_doubles(tmp_path: Path) -> None:
    server = Server()
    file = written(tmp_path, "a.ndjson", 12)
    sender(server, tmp_path).send([file])
    before = list(server.ids)
    totals = sender(server, tmp_path).send([file])
    assert (totals.rows, totals.skipped, totals.accepted) == (0, 12, 0)
    longer = written(tmp_path, "a.ndjson", 20)
    totals = sender(server, tmp_path).send([longer])
    assert (totals.rows, totals.duplicates, totals.accepted) == (20, 10, 7)
    assert server.ids[: len(before)] == before
    elsewhere = sender(server, tmp_path, url="http://there").send([longer])
    assert (elsewhere.skipped, elsewhere.duplicates) == (0, 17)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("stop_at", [1, 2, 4])
def test_a_run_that_is_cut_off_is_gone_on_with_and_nothing_is_lost_or_doubled(
    tmp_path: Path, when: str, stop_at: int
) -> None:
    server = Server()
    file = written(tmp_path, "a.ndjson", 33)
    server.faults[stop_at] = (when, Unauthorized("no", request="POST", status=401, problem={}))
    first = sender(server, tmp_path)
    with pytest.raises(Unauthorized):
        first.send([file])
    totals = sender(server, tmp_path).send([file])
    assert totals.skipped == first.totals.rows
    assert totals.skipped + totals.rows == 33
    assert sorted(server.ids) == sorted(set(server.ids))
    assert len(server.ids) == 28


def test_a_busy_server_is_asked_again_when_it_says_and_a_silent_one_for_a_while(tmp_path: Path) -> None:
    server, naps = Server(), []
    busy = TooBusy("later", request="POST", status=429, problem={})
    busy.retry_after_s = 3.0
    silent = ServerUnavailable("nobody", request="POST")
    server.faults = {1: ("before", busy), 2: ("after", silent), 3: ("before", silent)}
    totals = sender(server, tmp_path, naps=naps, connections=1).send([written(tmp_path, "a.ndjson", 9)])
    assert naps == [3.0, 0.5, 1.0]
    assert totals.accepted + totals.duplicates == 7
    assert len(server.ids) == 7

    def nobody(body: bytes) -> Sent:
        raise silent

    with pytest.raises(ServerUnavailable):
        sender(nobody, tmp_path, naps=naps, connections=1).send([written(tmp_path, "b.ndjson", 9)])
    assert 120 <= sum(naps) <= 160


def test_a_large_row_is_a_request_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_BYTES_A_REQUEST", 200)
    server = Server()
    sender(server, tmp_path).send([written(tmp_path, "a.ndjson", 10)])
    assert server.requests > 3
    assert len(server.ids) == 8


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_damaged_position_file_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ingest.json").write_text(content)
    with pytest.raises(InputError, match="position"):
        sender(Server(), tmp_path)

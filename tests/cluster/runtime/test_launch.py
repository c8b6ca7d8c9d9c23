from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from cluster.errors import DataDirError, DefinitionError, InputError, PortInUse
from cluster.runtime import launch
from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.data_dir import DataDir
from cluster.runtime.launch import ReadyInfo, UpOptions, free_port, run
from cluster.runtime.placement import first_placement


def never_ready(info: ReadyInfo) -> None:
    pytest.fail(f"it became ready: {info}")


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortInUse, match=f"127.0.0.1:{port}"):
            run(UpOptions(data_dir=tmp_path / "data", port=port), never_ready)
    assert not (tmp_path / "data").exists()


def test_port_0_gives_a_free_port() -> None:
    port = free_port("127.0.0.1", 0)
    assert port > 0
    assert free_port("127.0.0.1", port) == port


def test_a_host_of_another_machine_is_refused() -> None:
    with pytest.raises(InputError, match=r"192\.0\.2\.1"):
        free_port("192.0.2.1", 0)


def test_a_data_dir_in_use_is_refused_before_ray_starts(tmp_path: Path) -> None:
    with DataDir(tmp_path).open(), pytest.raises(DataDirError, match=str(os.getpid())):
        run(UpOptions(data_dir=tmp_path, port=0), never_ready)
    assert not (tmp_path / "ray.token").exists()


def test_faulty_definitions_are_refused_before_ray_starts(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\naudiences: [{id: a, parent: nobody, where: {}}]\n")
    with pytest.raises(DefinitionError, match=r"bad\.yaml"):
        run(UpOptions(data_dir=tmp_path / "data", port=0, definitions=(bad,)), never_ready)
    assert not (tmp_path / "data").exists()


def test_a_data_dir_keeps_the_number_of_evaluators_it_was_made_for(tmp_path: Path) -> None:
    files = DataDir(tmp_path)
    store = ControllerStore(files.controller_db)
    store.set_placement(first_placement(8, 2))
    store.close()
    assert launch._placement(files, UpOptions(), None, 16).owners == (0, 0, 0, 0, 1, 1, 1, 1)
    assert launch._placement(files, UpOptions(evaluators=2), None, 16).evaluators == (0, 1)
    with pytest.raises(InputError, match="usher scale --evaluators 3"):
        launch._placement(files, UpOptions(evaluators=3), None, 16)


def test_a_data_dir_keeps_the_log_it_was_made_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USHER_KAFKA_CONFIG", raising=False)
    uri, moved = "kafka://a:1/usher", "kafka://b:2,c:3/usher"
    files = DataDir(tmp_path)
    assert launch.log_settings(files, None).uri == ""
    assert launch.log_settings(files, uri).uri == uri
    store = ControllerStore(files.controller_db)
    store.set_placement(first_placement(8, 1))
    assert launch.log_settings(files, None).uri == "", "an older release's data dir has them in it"
    with pytest.raises(InputError, match="kept in it"):
        launch.log_settings(files, uri)
    store.set_log_uri(uri)
    store.close()
    assert launch.log_settings(files, None).uri == uri
    assert launch.log_settings(files, moved).uri == moved, "brokers may change"
    with pytest.raises(InputError, match="kept in kafka://a:1/usher"):
        launch.log_settings(files, "kafka://a:1/other")


def test_the_first_start_deals_one_evaluator_to_two_cores(tmp_path: Path) -> None:
    files = DataDir(tmp_path)
    for cores, evaluators in ((1, 1), (2, 1), (3, 1), (4, 2), (16, 8), (1_000, 64)):
        assert len(launch._placement(files, UpOptions(), None, cores).evaluators) == evaluators
    owners = launch._placement(files, UpOptions(evaluators=4), None, 2).owners
    assert len(owners) == 64
    assert set(owners) == {0, 1, 2, 3}


def test_a_stop_signal_sets_the_event_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = threading.Event()
    with launch._signals_to(stop):
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_usher_json_tells_clients_where_it_is(tmp_path: Path) -> None:
    info = ReadyInfo("http://127.0.0.1:1", tmp_path, "key", "127.0.0.1:2", 7, 1, 0, 9)
    launch._write_usher_json(DataDir(tmp_path), info, 45_000)
    written = json.loads((tmp_path / "usher.json").read_text())
    assert {"pid": 7, "url": "http://127.0.0.1:1", "address": "127.0.0.1:2"}.items() <= written.items()
    assert set(written) == {"pid", "url", "address", "started_at_ms", "version", "drain_deadline_ms"}
    assert "key" not in (tmp_path / "usher.json").read_text()
    assert stat.S_IMODE((tmp_path / "usher.json").stat().st_mode) == 0o600


def test_the_admin_key_stays_out_of_repr() -> None:
    assert "secret" not in repr(ReadyInfo("u", Path(), "secret", "a", 1, 1, 0, 1))


def test_importing_launch_does_not_import_ray() -> None:
    import subprocess

    script = "import sys, cluster.runtime.launch; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0

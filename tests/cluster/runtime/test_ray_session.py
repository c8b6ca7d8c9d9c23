from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from cluster.errors import InputError, InternalError
from cluster.runtime import ray_session

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that has not met Ray, with an environment of its own."""
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(os, "environ", {"PYTHONPATH": "elsewhere", "RAY_ADDRESS": "10.0.0.1:6379"})
    monkeypatch.setattr(ray_session.tempfile, "gettempdir", lambda: str(tmp_path))


def test_ray_is_told_to_listen_on_loopback_and_to_ask_for_a_token(tmp_path: Path) -> None:
    ray_session._prepare_environment(tmp_path)
    assert os.environ[LOOPBACK] == "0"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert len(token.read_text()) >= 64


def test_each_run_has_its_own_token(tmp_path: Path) -> None:
    tokens = {ray_session._token_file(tmp_path).read_text() for _ in range(3)}
    assert len(tokens) == 3


def test_a_stray_ray_address_does_not_redirect_the_embedded_ray(tmp_path: Path) -> None:
    ray_session._prepare_environment(tmp_path)
    assert "RAY_ADDRESS" not in os.environ


def test_authentication_that_the_user_chose_is_left_alone(tmp_path: Path) -> None:
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH="mine")
    ray_session._prepare_environment(tmp_path)
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "mine"


def test_workers_find_the_project_first(tmp_path: Path) -> None:
    ray_session._prepare_environment(tmp_path)
    first, *others = os.environ["PYTHONPATH"].split(os.pathsep)
    assert (Path(first) / "cluster" / "runtime").is_dir()
    assert others == ["elsewhere"]


def test_a_ray_that_was_imported_too_early_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray_session)
    with pytest.raises(InternalError, match="before its environment"):
        ray_session._prepare_environment(tmp_path)


def test_the_session_folder_is_private_short_and_emptied_of_a_killed_run(tmp_path: Path) -> None:
    data_dir = tmp_path / ("deep" * 20)
    folder = ray_session._session_folder(data_dir)
    try:
        (folder / "left-over").touch()
        assert len(os.fsencode(folder)) <= ray_session.FOLDER_BYTES_MAX
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert ray_session._session_folder(data_dir) == folder
        assert list(folder.iterdir()) == []
        assert ray_session._session_folder(tmp_path) != folder
    finally:
        for path in (folder, ray_session._session_folder(tmp_path)):
            path.rmdir()


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ray_session._knock(f"127.0.0.1:{port}")
    with pytest.raises(ConnectionRefusedError):
        ray_session._knock(f"127.0.0.1:{port}")
    with pytest.raises(ValueError, match="int"):
        ray_session._knock("no-port-here")
    ray_session._knock("auto")


def test_a_running_cluster_is_asked_with_a_token_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(InputError, match="no token") as refused:
        ray_session._require_token("10.0.0.1:6379")
    assert "RAY_AUTH_TOKEN_PATH" in str(refused.value.next_step)
    os.environ["RAY_AUTH_TOKEN_PATH"] = "mine"
    ray_session._require_token("10.0.0.1:6379")
    assert os.environ["RAY_AUTH_MODE"] == "token"
    del os.environ["RAY_AUTH_TOKEN_PATH"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    ray_session._require_token("auto")
    (tmp_path / ".ray" / "auth_token").unlink()
    os.environ["RAY_AUTH_MODE"] = "disabled"
    ray_session._require_token("auto")
    assert os.environ["RAY_AUTH_MODE"] == "disabled"

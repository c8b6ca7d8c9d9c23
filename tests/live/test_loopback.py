"""Embedded Ray and Usher listen on loopback alone, and Ray asks for a token."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from benchmarks.machine import process_tree
from tests.live.sockets import is_loopback, listening
from tests.live.usher import Usher

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]


def test_no_process_listens_beyond_loopback(usher: Usher) -> None:
    pids = process_tree(usher.process.pid)
    found = listening(pids)
    assert len(pids) > 8
    assert any(address == usher.url.removeprefix("http://") for each in found.values() for address in each)
    open_to_others = {pid: [each for each in addresses if not is_loopback(each)] for pid, addresses in found.items()}
    assert {pid: addresses for pid, addresses in open_to_others.items() if addresses} == {}


def test_ray_refuses_a_caller_without_the_token(usher: Usher) -> None:
    script = (
        "import ray, sys\n"
        "try:\n"
        f"    client = ray._raylet.GcsClient(address={usher.ready['address']!r})\n"
        "    client.internal_kv_get(b'x', namespace=None, timeout=5)\n"
        "except Exception as error:\n"
        "    sys.exit(0 if 'Authentication' in type(error).__name__ or 'Unauthenticated' in str(error) else 2)\n"
        "sys.exit(1)\n"
    )
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_gcs_rpc_server_reconnect_timeout_s": "2"}
    environment.pop("RAY_AUTH_TOKEN_PATH", None)
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    token = usher.data_dir / "ray.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


def test_secrets_in_the_data_dir_are_for_their_owner_alone(usher: Usher) -> None:
    assert stat.S_IMODE(usher.data_dir.stat().st_mode) == 0o700
    for name in ("admin.key", "controller.db", "ray.token"):
        assert stat.S_IMODE((usher.data_dir / name).stat().st_mode) == 0o600, name

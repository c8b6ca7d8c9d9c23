"""`usher demo`, and `usher up --detach` with the commands of a first hour, on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.demo.run import DEFINITIONS

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]


def usher(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "160", **env}
    command = [sys.executable, "-m", "cluster.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=160, check=False)


def test_the_demo_ends_by_itself_and_its_buyer_is_followed_rightly() -> None:
    result = usher("demo", "--seconds", "10", "--users", "2000")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "BUYS" in result.stdout
    assert "The buyer left promo_eligible and entered hide_promo; webhooks and API agree." in result.stdout
    assert "0 with a bad signature" in result.stdout


def test_a_first_hour_in_the_background(tmp_path: Path) -> None:
    data = ["--data-dir", str(tmp_path / "data")]
    env = {
        "WEB_WRITE_KEY": "live-write-key", "WEBHOOK_SECRET": "live secret",
        "WEBHOOK_URL": "http://127.0.0.1:9/hook", "USERS_PARQUET": str(tmp_path / "missing.parquet"),
    }  # fmt: skip
    started = usher("up", "--detach", "--port", "0", "-f", str(DEFINITIONS), *data, **env)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert "Admin key" in started.stdout
        assert usher("up", "--detach", "--port", "0", *data).returncode == 1
        status = json.loads(usher("status", "--json", *data).stdout)
        assert {row["id"] for row in status["audiences"]} == {"promo_eligible", "hide_promo"}
        assert {row["kind"] for row in status["actors"]} == {"edge", "evaluator", "delivery", "traits", "controller"}
        looked_up = json.loads(usher("lookup", "hide_promo", "ann", "--json", *data).stdout)
        assert looked_up["memberships"][0]["isMember"] is False
        planned = json.loads(usher("plan", str(DEFINITIONS), "--json", *data, **env).stdout)
        assert {row["change"] for row in planned["changes"]} == {"unchanged"}
        assert usher("status", *data).returncode == 0
    finally:
        stopped = usher("down", *data)
    assert stopped.returncode == 0, stopped.stderr
    assert usher("down", *data).returncode == 1

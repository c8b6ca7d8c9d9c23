"""The commands against a real edge: what is printed where, and the exit codes 0, 1, 2."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cluster.cli.main import app
from cluster.clock import SystemClock
from cluster.runtime.data_dir import DataDir
from tests.cluster.client.hosting import hosted
from tests.cluster.edge.serving import Site
from tests.conftest import START_MS

GOOD = """
version: 1
parent_models: [{id: users, primary_key: user_id, traits: {columns: {ltv: {type: number}}}}]
event_models: [{id: order, parent: users, foreign_key: user_id}]
audiences:
  - {id: buyers, parent: users, where: {all: [{event: order, within: 5m}, {trait: ltv, gt: 300}]}}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Site]:
    with hosted() as here:
        here.reader.members = {"buyers": {"ann"}}
        here.evaluators[0].members = {"buyers": ["ann", "bob"]}
        yield here


def usher(*arguments: str, here: Site | None = None, role: Any = "admin", **env: str) -> Result:
    """Run a command as the key of `role` (wide enough that nothing wraps)."""
    environment = {"COLUMNS": "200", "USHER_URL": "", "USHER_API_KEY": "", **env}
    if here is not None:
        environment |= {"USHER_URL": here.url, "USHER_API_KEY": here.controller.api_keys[role]}
    return CliRunner().invoke(app, arguments, env=environment)


@pytest.fixture
def good(tmp_path: Path) -> str:
    file = tmp_path / "good.yaml"
    file.write_text(GOOD)
    return str(file)


# --- validate --------------------------------------------------------------------------------------


def test_validate_sound_definitions_ends_with_0_and_counts(good: str) -> None:
    result = usher("validate", good)
    assert result.exit_code == 0
    assert "buyers" in result.stdout
    assert json.loads(usher("validate", good, "--json").stdout)["counts"]["audiences"] == 1


def test_validate_shows_every_fault_with_file_path_found_and_allowed(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("within: 5m", "within: soon").replace("gt: 300", "above: 300"))
    result = usher("validate", str(file))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{file}: audiences[0].where.all[0].within" in result.stderr
    assert "unknown operator" in result.stderr
    assert "found" in result.stderr
    assert "2 faults" in result.stderr
    faults = json.loads(usher("validate", str(file), "--json").stdout)["faults"]
    paths = [fault["path"] for fault in faults]
    assert paths == ["audiences[0].where.all[0].within", "audiences[0].where.all[1].above"]


def test_validate_warns_of_what_this_release_does_not_evaluate(tmp_path: Path) -> None:
    file = tmp_path / "later.yaml"
    file.write_text(GOOD + "sources: [{id: shop, kind: file}]\n")
    result = usher("validate", str(file))
    assert result.exit_code == 0
    assert "files are not read as a source" in result.stderr
    assert "1 warning" in result.stderr


def test_validate_of_a_missing_file_is_a_fault_with_its_name() -> None:
    result = usher("validate", "nowhere.yaml")
    assert result.exit_code == 1
    assert "nowhere.yaml" in result.stderr


# --- plan and apply --------------------------------------------------------------------------------


def test_apply_publishes_and_says_the_version(good: str) -> None:
    with hosted(document=None) as here:
        text = Path(good).read_text() + "settings: {partitions: 16}\n"
        Path(good).write_text(text)
        assert usher("plan", good, here=here).exit_code == 0
        assert here.controller.state.published is None
        result = usher("apply", good, "--json", here=here)
        assert result.exit_code == 0
        assert json.loads(result.stdout)["version"] == 1
        assert here.controller.state.published is not None


def test_apply_shows_the_servers_faults_where_they_are_in_the_files(shared: Site, tmp_path: Path) -> None:
    file = tmp_path / "audience.yaml"
    file.write_text("version: 1\naudiences: [{id: x, parent: users, where: {event: track, within: soon}}]\n")
    result = usher("apply", str(file), here=shared)
    assert result.exit_code == 1
    assert f"{file}: audiences[0].where.within" in result.stderr
    assert "Nothing was changed" in result.stderr


def test_a_file_may_name_what_only_the_server_has(tmp_path: Path) -> None:
    file = tmp_path / "audience.yaml"
    file.write_text("version: 1\naudiences: [{id: x, parent: users, where: {event: track, within: 1m}}]\n")
    with hosted() as here:
        assert usher("apply", str(file), here=here).exit_code == 0
        assert usher("lookup", "x", "ann", here=here).exit_code == 0


# --- look-ups --------------------------------------------------------------------------------------


def test_lookup_of_one_user_says_since_when(shared: Site) -> None:
    result = usher("lookup", "buyers", "ann", here=shared)
    assert result.exit_code == 0
    assert result.stdout.startswith("ann is in buyers since 2025-11-30 15:59:59.995 UTC")
    row = json.loads(usher("lookup", "buyers", "ann", "--json", here=shared).stdout)["memberships"][0]
    assert row == {
        "user": "ann", "isMember": True, "as_of": START_MS, "since": START_MS - 5, "changes_at": START_MS + 9,
        "version": 1,
    }  # fmt: skip


def test_lookup_of_several_users(shared: Site) -> None:
    rows = json.loads(usher("lookup", "buyers", "ann", "zed", "--json", here=shared).stdout)["memberships"]
    assert rows == [{"user": "ann", "isMember": True}, {"user": "zed", "isMember": False}]


def test_members_are_printed_one_a_line(shared: Site) -> None:
    assert usher("members", "buyers", here=shared).stdout == "ann\nbob\n"
    assert usher("members", "buyers", "--limit", "1", here=shared).stdout == "ann\n"


def test_an_unknown_audience_ends_with_1_a_short_panel_and_no_traceback(shared: Site) -> None:
    result = usher("lookup", "nothing", "ann", here=shared)
    assert result.exit_code == 1
    assert "no published audience" in result.stderr
    assert "`usher status` lists them" in result.stderr, "a command is told of commands, not of paths"
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("options", [(), ("--detach",), ("--port", "0")])
def test_a_second_start_names_the_first_and_not_its_port(tmp_path: Path, options: tuple[str, ...]) -> None:
    with DataDir(tmp_path).open():
        result = usher("up", "--data-dir", str(tmp_path), *options)
    assert result.exit_code == 1
    assert f"already (process {os.getpid()})" in result.stderr
    assert "usher down" in result.stderr


# --- keys, syncs, status ---------------------------------------------------------------------------


def test_a_new_key_is_alone_on_stdout() -> None:
    with hosted() as here:
        result = usher("keys", "create", "--role", "read", "--name", "shop", here=here)
        assert result.exit_code == 0
        assert result.stdout.startswith("ush_read_")
        assert result.stdout.count("\n") == 1
        assert "shop" in usher("keys", "list", here=here).stdout
        assert usher("keys", "revoke", "new-shop", here=here).exit_code == 0
        assert "shop" not in usher("keys", "list", here=here).stdout


def test_an_unknown_role_is_wrong_use(shared: Site) -> None:
    assert usher("keys", "create", "--role", "boss", here=shared).exit_code == 2


def test_syncs_log_and_retry(shared: Site) -> None:
    assert usher("syncs", here=shared).exit_code == 0
    assert json.loads(usher("log", "push", "--json", here=shared).stdout) == {"sync": "push", "rows": [], "next": 0}
    assert json.loads(usher("retry", "push", "--json", here=shared).stdout) == {"sync": "push", "retried": 0}


def test_the_log_is_asked_for_a_user_outcomes_and_a_time() -> None:
    with hosted() as here:
        options = ("--user", "ann", "--outcome", "dead", "--outcome", "retry", "--since", "2h", "--until", "2026-11-23")
        assert usher("log", "push", *options, "--detail", here=here).exit_code == 1, "a day is no time"
        assert usher("log", "push", *options[:-2], "--detail", here=here).exit_code == 0
        ((_, _, query),) = here.delivery.asked
        assert (query.user, query.outcomes, query.detail) == ("ann", ("dead", "retry"), True)
        assert 0 <= SystemClock().now_ms() - 2 * 3_600_000 - query.since_ms < 600_000


def test_a_sync_is_paused_resumed_and_resynced(shared: Site) -> None:
    assert json.loads(usher("pause", "push", "--json", here=shared).stdout) == {"sync": "push", "paused": True}
    assert "goes on" in usher("resume", "push", here=shared).stdout
    assert json.loads(usher("resync", "push", "--json", here=shared).stdout)["began_at"].startswith("2026")
    assert "never told of stay: an endpoint of yours is not asked." in usher("resync", "push", here=shared).stdout
    assert usher("resync", "none", here=shared).exit_code == 1


def test_an_alert_channel_is_tried_out(shared: Site) -> None:
    assert "took it" in usher("test-alert", "ops", here=shared).stderr
    refused = usher("test-alert", "silent", "--json", here=shared)
    assert (refused.exit_code, json.loads(refused.stdout)["failure"]) == (1, "it answers 404")
    assert usher("test-alert", "none", here=shared).exit_code == 1


def test_a_destination_is_shown_and_with_send_tried_out(shared: Site) -> None:
    shown = usher("test-destination", "hook", "--user", "ann", here=shared)
    assert (shown.exit_code, shown.stdout) == (0, "# to make the change\nPOST https://example.com/hook\nx: ***\n\n{}\n")
    assert "Nothing was sent; --send sends it." in shown.stderr
    sent = usher("test-destination", "hook", "--user", "ann", "--send", here=shared)
    assert sent.exit_code == 0
    assert "→ 204" in sent.stdout
    assert "→ delivered" in sent.stdout
    dropped = usher("test-destination", "hook", "--user", "nobody", "--json", here=shared)
    assert (dropped.exit_code, json.loads(dropped.stdout)["requests"]) == (1, [])
    assert usher("test-destination", "none", "--user", "ann", here=shared).exit_code == 1
    assert usher("test-destination", "hook", here=shared).exit_code == 2


@pytest.fixture
def with_traits(shared: Site) -> Iterator[Site]:
    """A site whose trait loader needs three looks for a refresh."""
    row = {"parent": "users", "state": "ok", "rows": 5, "loaded_at_ms": START_MS, "source": "u.parquet", "error": None}
    refreshes = {"asked": 0, "answered": 0}

    async def status() -> dict[str, Any]:
        refreshes["answered"] += refreshes["asked"] > refreshes["answered"] and next(looks) % 3 == 2
        return {"traits": [{**row, "refreshes": dict(refreshes)}, {**row, "parent": "accounts", "source": ""}]}

    async def refresh(parent: str) -> dict[str, Any]:
        refreshes["asked"] += 1
        return {"refreshing": parent}

    looks = itertools.count()
    before = shared.controller.status, shared.traits.refresh
    shared.controller.status, shared.traits.refresh = status, refresh  # type: ignore[method-assign]
    yield shared
    shared.controller.status, shared.traits.refresh = before  # type: ignore[method-assign]


def test_traits_shows_snapshots_and_their_sources(with_traits: Site) -> None:
    result = usher("traits", here=with_traits)
    assert result.exit_code == 0
    assert "u.parquet" in result.stdout
    shown = json.loads(usher("traits", "--json", here=with_traits).stdout)["traits"]
    assert [row["parent"] for row in shown] == ["users", "accounts"]


def test_a_refresh_waits_until_it_was_answered_and_reads_every_source_unless_told(with_traits: Site) -> None:
    result = usher("traits", "refresh", "--json", here=with_traits)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["refreshing"] == ["users"]
    assert found["traits"][0]["refreshes"] == {"asked": 1, "answered": 1}
    assert usher("traits", "refresh", "users", "--no-wait", here=with_traits).stdout == "Reading: users.\n"
    assert usher("traits", "refresh", "nobody", here=with_traits).exit_code == 1


def test_a_refresh_that_takes_too_long_says_who_is_still_read(with_traits: Site) -> None:
    result = usher("traits", "refresh", "--timeout", "0", here=with_traits)
    assert result.exit_code == 1
    assert "users are still being read" in result.stderr


def test_status_prints_the_servers_report_as_json(shared: Site) -> None:
    assert json.loads(usher("status", "--json", here=shared).stdout)["url"] == "http://here"
    assert "http://here" in usher("status", here=shared).stdout


# --- wrong use, no server --------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["lookup"], ["nothing"], ["up", "--port", "high"], ["validate", "--what"]])
def test_wrong_use_ends_with_2(arguments: list[str]) -> None:
    assert usher(*arguments).exit_code == 2


def test_without_a_running_usher_the_next_step_is_named(tmp_path: Path) -> None:
    result = usher("status", "--data-dir", str(tmp_path))
    assert result.exit_code == 1
    assert "usher up" in result.stderr


def test_down_without_a_running_usher_ends_with_1(tmp_path: Path) -> None:
    assert usher("down", "--data-dir", str(tmp_path / "none")).exit_code == 1


def test_the_admin_key_of_a_data_dir_goes_to_its_own_usher_alone(shared: Site, tmp_path: Path) -> None:
    described = {"pid": 1, "url": "http://127.0.0.1:1", "address": "", "started_at_ms": 0, "version": "0",
                 "drain_deadline_ms": 30_000}
    (tmp_path / "admin.key").write_text(shared.controller.api_keys["admin"])
    (tmp_path / "usher.json").write_text(json.dumps(described))
    elsewhere = usher("status", "--url", shared.url, "--data-dir", str(tmp_path))
    assert elsewhere.exit_code == 1
    assert "API key is missing" in elsewhere.stderr
    (tmp_path / "usher.json").write_text(json.dumps({**described, "url": shared.url}))
    assert usher("status", "--data-dir", str(tmp_path)).exit_code == 0


@pytest.mark.parametrize(
    "command", ["up", "down", "status", "demo", "validate", "plan", "apply", "replay", "lookup", "members", "syncs",
                "log", "test-alert", "retry", "pause", "resume", "resync", "bench", "version", "traits",
                "traits refresh", "ingest", "events", "keys", "keys create", "keys list", "keys revoke"],
)  # fmt: skip
def test_every_command_has_help(command: str) -> None:
    result = usher(*command.split(), "--help")
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_the_command_line_starts_without_the_heavy_parts() -> None:
    """Ray, numba and pyarrow take seconds to import; `--help` and `lookup` need none of them."""
    heavy = ["ray", "numba", "numpy", "pyarrow", "pydantic", "aiohttp", "yaml"]
    code = (
        "import sys, cluster.cli.main, cluster.client.blocking\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_unexpected_error_is_one_line_and_says_how_to_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cluster.cli import main as module

    def broken() -> None:
        message = "the floor fell in"
        raise RuntimeError(message)

    monkeypatch.setattr(module, "app", broken)
    monkeypatch.delenv("USHER_DEBUG", raising=False)
    with pytest.raises(SystemExit, match="1"):
        module.main()
    shown = capsys.readouterr().err
    assert "the floor fell in" in shown
    assert "USHER_DEBUG=1" in shown
    assert "Traceback" not in shown

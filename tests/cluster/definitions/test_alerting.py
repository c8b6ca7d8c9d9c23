"""Alerts of a document: every key arrives, every fault is told where it is."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.definitions.alerting import CHANNEL_MODELS, RULE_MODELS, Alert, EmailChannel, NoEvents, SlackChannel
from cluster.definitions.parsing import load_paths
from cluster.errors import DefinitionError, Fault
from destinations.registry import KINDS
from tests.cluster.definitions.sample import document, parse

CHANNELS: list[dict[str, Any]] = [
    {"id": "hook", "kind": "webhook", "url": "https://example.com/alerts", "secret": "hush-hush"},
    {"id": "chat", "kind": "slack", "url": "https://hooks.slack.com/services/T0/B0/hush-hush", "name": "Ops"},
    {"id": "mail", "kind": "email", "host": "smtp.example.com", "from": "usher@example.org", "to": "ops@example.org",
     "username": "usher", "password": "hush-hush"},
]  # fmt: skip
ALERTS: list[dict[str, Any]] = [
    {"id": "failing", "rule": "failure_rate", "above": "5%", "over": "10m", "at_least": 50, "cooldown": "2h",
     "channels": ["hook", "mail"]},
    {"id": "late", "rule": "backlog_age", "above": "10m", "syncs": ["quiet_sync"], "channels": "chat"},
    {"id": "refused", "rule": "credentials", "channels": ["chat"]},
    {"id": "size", "rule": "audience_size", "above": "0.5 %", "audiences": "quiet", "channels": ["chat"]},
    {"id": "silence", "rule": "no_events", "for": "15m", "channels": ["chat"]},
]  # fmt: skip


def with_alerts() -> dict[str, Any]:
    return {**document(), "alert_channels": copy.deepcopy(CHANNELS), "alerts": copy.deepcopy(ALERTS)}


def fault(section: str, index: int, key: str, value: Any) -> Fault:
    tree = with_alerts()
    if value is ...:
        del tree[section][index][key]
    else:
        tree[section][index][key] = value
    with pytest.raises(DefinitionError) as caught:
        parse(tree)
    (found,) = caught.value.faults
    assert "hush-hush" not in str(caught.value)
    return found


def test_every_key_arrives_and_no_secret_is_shown() -> None:
    found = parse(with_alerts())
    assert list(found.alert_channels) == ["hook", "chat", "mail"]
    mail = found.alert_channels["mail"].settings
    assert isinstance(mail, EmailChannel)
    assert (mail.port, mail.security, mail.sender, mail.recipients) == (
        587, "starttls", "usher@example.org", ["ops@example.org"]
    )  # fmt: skip
    assert mail.password is not None
    assert mail.password.get_secret_value() == "hush-hush"
    assert isinstance(found.alert_channels["chat"].settings, SlackChannel)
    assert "hush-hush" not in repr((found.alert_channels["hook"], found.alert_channels["mail"]))
    failing, late = found.alerts["failing"], found.alerts["late"]
    assert (failing.channels, failing.cooldown_ms, failing.rule.above, failing.rule.over) == (
        ("hook", "mail"), 7_200_000, 0.05, 600_000
    )  # fmt: skip
    assert (late.cooldown_ms, late.rule.syncs, late.rule.above) == (3_600_000, ["quiet_sync"], 600_000)
    assert found.alerts["size"].rule.above == 0.005
    assert found.alerts["silence"] == Alert("silence", "no_events", NoEvents(**{"for": "15m"}), ("chat",))


@pytest.mark.parametrize(("section", "index", "key", "value", "path", "message", "allowed"), [
    ("alerts", 0, "rule", "failures", "alerts[0].rule", "unknown value (did you mean failure_rate?)",
     "failure_rate, backlog_age, credentials, audience_size, no_events"),
    ("alerts", 0, "above", 5, "alerts[0].above", "not a share", "a number above 0 and a percent sign: 5%, 0.5%"),
    ("alerts", 1, "above", "5%", "alerts[1].above", "not a duration",
     "an integer and a unit (ms, s, m, h, d), joinable: 30s, 5m, 1h30m, 7d"),
    ("alerts", 1, "sync", "x", "alerts[1].sync", 'unknown key "sync" (did you mean syncs?)',
     "id, rule, channels, cooldown, name, description, syncs, above"),
    ("alerts", 1, "syncs", ["quit_sync"], "alerts[1].syncs[0]", 'no sync "quit_sync" (did you mean quiet_sync?)', None),
    ("alerts", 2, "channels", ["chatt"], "alerts[2].channels[0]", 'no alert channel "chatt" (did you mean chat?)',
     "hook, chat, mail"),
    ("alerts", 2, "channels", [], "alerts[2].channels", "must not be empty", "at least one"),
    ("alerts", 3, "audiences", ["quite"], "alerts[3].audiences[0]", 'no audience "quite" (did you mean quiet?)', None),
    ("alerts", 4, "for", ..., "alerts[4]", "required key for is missing",
     "id, rule, channels, cooldown, name, description, event_models, sources, for"),
    ("alerts", 4, "event_models", "no_such", "alerts[4].event_models[0]", 'no event model "no_such"', None),
    ("alerts", 4, "sources", ["no_such"], "alerts[4].sources[0]", 'no source "no_such"', None),
    ("alert_channels", 0, "url", "http://example.com/x", "alert_channels[0].url",
     "url is refused: plain http needs allow_private: true (allow_private: true opens http and private networks)",
     "https://HOST/PATH of a public HOST; allow_private: true opens http and private networks too"),
    ("alert_channels", 1, "url", "https://10.0.0.7/x", "alert_channels[1].url",
     "url is refused: private address 10.0.0.7 (allow_private: true opens http and private networks)", None),
    ("alert_channels", 2, "host", "localhost", "alert_channels[2]",
     "the mail server is refused: loopback host localhost", None),
    ("alert_channels", 2, "security", "none", "alert_channels[2]", "the mail server is refused: security: none", None),
    ("alert_channels", 2, "password", ..., "alert_channels[2]", "username and password come together",
     "both, or neither"),
    ("alert_channels", 2, "from", "Usher <u@x.org>", "alert_channels[2].from", "not an e-mail address",
     "somebody@example.org"),
])  # fmt: skip
def test_a_fault_says_where_it_is_and_what_is_allowed(
    section: str, index: int, key: str, value: Any, path: str, message: str, allowed: str | None
) -> None:
    found = fault(section, index, key, value)
    assert (found.path, found.message) == (path, message)
    assert allowed is None or found.allowed == allowed


def test_the_example_of_the_docs_is_sound(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    (text,) = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "alerts.md").read_text(), re.DOTALL)
    shown = tmp_path / "alerts.yaml"
    shown.write_text("version: 1\n" + text)
    names = set(re.findall(r"\$\{(\w+)\}", text + (root / "examples" / "definitions.yaml").read_text()))
    environment = {name: "https://hooks.slack.com/services/T0/B0/x" for name in names}
    found = load_paths([root / "examples" / "definitions.yaml", shown], environment, KINDS)
    assert {alert.kind for alert in found.alerts.values()} == set(RULE_MODELS)
    assert {channel.kind for channel in found.alert_channels.values()} == set(CHANNEL_MODELS)

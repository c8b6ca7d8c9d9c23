from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from destinations.registry import ENTRY_POINT_GROUP, KINDS, OWN, with_installed

PLUGIN = '''
from destinations.contract import Destination
from destinations.limits import Limits
from destinations.outcomes import Delivered, for_all
from destinations.requests import Request
from destinations.settings import HttpSettings


class Pigeon(Destination):
    kind = "pigeon"
    settings_model = HttpSettings

    def limits(self, settings):
        return Limits(1, 10)

    def encode(self, settings, batch):
        return b"coo"

    def build(self, settings, sealed, attempt):
        return Request("POST", "https://pigeon.example/", {}, sealed.body, settings.timeout)

    def judge(self, settings, sealed, request, answer):
        return for_all(Delivered(), sealed.record_count)
'''
POINTS = """[usher.destinations]
pigeon = usher_pigeon:Pigeon
broken = usher_pigeon:NoSuchThing
webhook = usher_pigeon:Pigeon
"""


def test_every_kind_is_found_under_its_own_name_and_can_do_a_removal() -> None:
    for name, kind in KINDS.items():
        assert kind.kind == name
        assert "remove" in kind.exits
        assert kind.settings_model.model_config["extra"] == "forbid"


def test_an_installed_distribution_adds_a_kind_and_a_faulty_one_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "usher_pigeon.py").write_text(PLUGIN)
    info = tmp_path / "usher_pigeon-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: usher-pigeon\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    script = (
        "from destinations.registry import KINDS, FAULTS\n"
        "assert KINDS['pigeon'].kind == 'pigeon'\n"
        "assert type(KINDS['webhook']).__name__ == 'WebhookDestination'\n"
        "assert len(FAULTS) == 2, FAULTS\n"
        "from cluster.definitions.parsing import load_paths\n"
        "import pathlib, sys\n"
        "definitions = load_paths([pathlib.Path(sys.argv[1])], {}, KINDS)\n"
        "assert definitions.destinations['loft'].settings.timeout == 3000\n"
    )
    document = tmp_path / "shop.yaml"
    document.write_text("version: 1\ndestinations: [{id: loft, kind: pigeon, timeout: 3s}]\n")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, str(document)], check=False, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "destination broken (usher_pigeon:NoSuchThing) is left out: AttributeError" in done.stderr
    assert "a kind 'webhook' is there already" in done.stderr or "its kind is 'pigeon'" in done.stderr


@pytest.mark.parametrize(("name", "value", "why"), [
    ("x", "destinations.webhook.definition:BATCH_AGE_DEFAULT_MS", "no destinations.contract.Destination"),
    ("x", "destinations.webhook.definition:WebhookDestination", "its kind is 'webhook'"),
    ("webhook", "destinations.webhook.definition:WebhookDestination", "there already"),
    ("x", "no_such_module:Kind", "ModuleNotFoundError"),
])  # fmt: skip
def test_what_an_entry_point_names_is_checked(name: str, value: str, why: str) -> None:
    kinds, (fault,) = with_installed(OWN, [EntryPoint(name, value, ENTRY_POINT_GROUP)])

    assert kinds == OWN
    assert why in fault

"""The manifest and the page on deploying are true of the code: options, versions, files, environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer
import yaml

from cluster.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
KUBERNETES = ROOT / "examples" / "kubernetes"
PAGE = (ROOT / "docs" / "deploy.md").read_text()
MANIFEST = list(yaml.safe_load_all((KUBERNETES / "raycluster.yaml").read_text()))


def options_of_up() -> set[str]:
    command: Any = typer.main.get_command(app)
    return {option for parameter in command.commands["up"].params for option in parameter.opts}


def pods() -> list[Any]:
    spec = MANIFEST[0]["spec"]
    return [spec["headGroupSpec"]["template"]["spec"], spec["workerGroupSpecs"][0]["template"]["spec"]]


def test_usher_up_knows_every_option_that_is_shown() -> None:
    [command] = pods()[0]["containers"][0]["args"]
    shown = set(re.findall(r"(?<= )(--[a-z-]+)", command.partition("exec usher up")[2]))
    assert {"--address", "--log", "--state-uri", "--host"} <= shown <= options_of_up()
    blocks = "".join(re.findall(r"usher up[^`]*?(?=`|\n\n)", PAGE))
    assert set(re.findall(r"(?<= )(--[a-z-]+)", blocks)) <= options_of_up()


def test_every_place_names_the_same_ray() -> None:
    [locked] = re.findall(r"^ray==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert MANIFEST[0]["spec"]["rayVersion"] == locked
    assert f"FROM rayproject/ray:{locked}-" in (KUBERNETES / "Dockerfile").read_text()
    assert f"Ray ({'.'.join(locked.split('.')[:2])})" in PAGE


def test_pods_find_what_they_mount_and_the_service_finds_their_port() -> None:
    claims = {document["metadata"]["name"] for document in MANIFEST if document["kind"] == "PersistentVolumeClaim"}
    service = next(document for document in MANIFEST if document["kind"] == "Service")
    for pod in pods():
        [container] = pod["containers"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
        named = {volume["persistentVolumeClaim"]["claimName"] for volume in volumes.values() if len(volume) > 1
                 and "persistentVolumeClaim" in volume}  # fmt: skip
        assert named <= claims
        assert service["spec"]["ports"][0]["targetPort"] in {port["name"] for port in container["ports"]}
    assert service["spec"]["selector"] == {"ray.io/cluster": MANIFEST[0]["metadata"]["name"]}


def test_a_drain_ends_before_the_pod_is_killed() -> None:
    [command] = pods()[0]["containers"][0]["args"]
    [seconds] = re.findall(r"--drain-deadline (\d+)s", command)
    assert int(seconds) < pods()[0]["terminationGracePeriodSeconds"]

"""Which nodes are used, who goes where, where edges listen, and what is shared on a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataDirError
from cluster.runtime import nodes
from cluster.runtime.nodes import Node, edge_address, emptiest, node_folder, used_nodes

HOME, OTHER, THIRD = Node("c0", "10.0.0.1"), Node("a0", "10.0.0.2"), Node("b0", "10.0.0.3")


def reported(node: Node, *, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": node.id, "NodeManagerAddress": node.address, "Alive": alive, "Resources": resources}


def test_all_living_nodes_are_used_home_first() -> None:
    said = [reported(THIRD), reported(Node("d0", "10.0.0.4"), alive=False), reported(HOME), reported(OTHER)]
    assert used_nodes(said, "c0") == (HOME, OTHER, THIRD)


def test_where_some_are_set_aside_only_those_are_used_and_home() -> None:
    said = [reported(HOME), reported(OTHER, CPU=8.0), reported(THIRD, usher=1.0)]
    assert used_nodes(said, "c0") == (HOME, THIRD)
    assert used_nodes([*said[:2], reported(THIRD, alive=False, usher=1.0)], "c0") == (HOME, OTHER)


def test_the_next_evaluator_goes_where_the_fewest_are() -> None:
    assert emptiest((HOME, OTHER), []) == HOME
    assert emptiest((HOME, OTHER), ["c0"]) == OTHER
    assert emptiest((HOME, OTHER, THIRD), ["c0", "a0", "b0", "c0", "gone", "gone"]) == OTHER


@pytest.mark.parametrize(
    ("host", "elsewhere"),
    [
        ("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "localhost"), ("0.0.0.0", "0.0.0.0"), ("::", "::"),
        ("10.0.0.1", "10.0.0.2"), ("usher.example", "10.0.0.2"),
    ],
)  # fmt: skip
def test_an_edge_listens_as_at_home_or_on_its_own_machines_address(host: str, elsewhere: str) -> None:
    assert edge_address(HOME, HOME, host, 8080, []) == (host, 8080)
    assert edge_address(OTHER, HOME, host, 8080, [HOME]) == (elsewhere, 8080)


def test_nodes_that_share_a_machine_take_ports_of_their_own() -> None:
    beside = Node("e0", HOME.address)
    assert edge_address(beside, HOME, "127.0.0.1", 8080, [HOME]) == ("127.0.0.1", 0)


def test_at_home_the_data_dir_is_shared_elsewhere_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes.tempfile, "gettempdir", lambda: str(tmp_path))
    data_dir = tmp_path / "data"
    assert node_folder(data_dir, "c0", "c0") == data_dir
    folder = node_folder(data_dir, "c0", "a0" * 20)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder == node_folder(data_dir, "c0", "a0" * 20)
    assert folder != node_folder(data_dir, "c0", "b0" * 20)
    assert folder != node_folder(tmp_path / "other", "c0", "a0" * 20)
    folder.chmod(0o755)
    with pytest.raises(DataDirError, match="lets others in"):
        node_folder(data_dir, "c0", "a0" * 20)

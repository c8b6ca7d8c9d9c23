"""Imports go one way (docs/architecture.md), and cores are pure: read from the source, file by file."""

from __future__ import annotations

import ast
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cluster", "actors", "destinations", "benchmarks")

#: Layers from the ground up: a file imports from its own layer and those before it.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("vocabulary", (
        # which addresses anything of ours may be sent to: rules over texts, for definitions as for destinations
        "destinations/ssrf.py",
        "cluster/errors.py", "cluster/arrays.py", "cluster/clock.py", "cluster/limits.py", "cluster/model/*",
        "cluster/definitions/*", "cluster/wire/*", "cluster/admission/*",
        # what shells and processes say to each other: protocols and records, nothing that runs
        "cluster/runtime/protocols.py", "cluster/log/contract.py", "cluster/log/records.py", "cluster/log/settings.py",
        "cluster/checkpoints/parts.py", "cluster/checkpoints/settings.py",
    )),
    ("destinations", ("destinations/*",)),
    ("cores", ()),  # what is in actors/ and no shell
    ("shells", (
        "actors/*/actor.py", *(f"actors/delivery/{name}.py" for name in (
            "attempts", "backlog", "commits", "followups", "held", "ledger", "letters", "present", "reader", "room",
            "roster", "runner", "store", "strays", "sync_log", "tokens", "transport", "trying", "upkeep", "writer",
            "alerting/mail", "alerting/watch", "alerting/sampling",
        )),
        "actors/evaluator/membership_files.py", "actors/evaluator/worker.py",
        "actors/evaluator/recovery.py", "actors/evaluator/stored.py", "actors/evaluator/backfill.py",
        "actors/evaluator/shadow.py", "actors/evaluator/showing.py", "actors/evaluator/entries.py",
        "actors/evaluator/room.py", "actors/evaluator/trait_offers.py", "actors/evaluator/trait_taking.py",
        "actors/evaluator/room.py", "actors/evaluator/ledger.py", "actors/evaluator/trimming.py",
        "actors/evaluator/succession/following.py",
        "actors/evaluator/succession/importing.py", "actors/evaluator/succession/handing.py",
        "actors/evaluator/checkpointing/checkpointer.py", "actors/evaluator/checkpointing/restoring.py",
        "actors/evaluator/checkpointing/keeping.py", "actors/evaluator/checkpointing/copying.py",
        "actors/traits/reading.py", "actors/traits/store.py", "actors/traits/sources/*",
    )),
    ("processes", ("cluster/*",)),
    ("benchmarks", ("benchmarks/*",)),
)  # fmt: skip
NAMES = [name for name, _ in LAYERS]
#: What shells use of the processes' layer: the log they commit to, the checkpoints they keep, the data dir they own.
USED_BY_SHELLS = ("cluster/log/*", "cluster/checkpoints/*", "cluster/runtime/data_dir.py")

FORBIDDEN_IN_CORES = {"ray", "aiohttp", "asyncio", "threading", "random", "time"}
EXACT_FILES = ("cluster/clock.py",)  # the only reader of real time


def source_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def layer_of(name: str) -> str:
    for layer, patterns in LAYERS:
        if layer == "cores" and name.startswith("actors/") and not is_shell(name):
            return layer
        if any(fnmatch(name, pattern) for pattern in patterns):
            return layer
    message = f"{name} belongs to no layer: add it to LAYERS"
    raise AssertionError(message)


def is_shell(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in dict(LAYERS)["shells"])


def imported_modules(path: Path) -> set[str]:
    """Absolute names of every module imported anywhere in the file, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            assert node.module is not None
            # `from package import name` names a module of the package, or something that its own file holds
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if file_of(name) else node.module for name in names)
    return found


def file_of(module: str) -> str | None:
    """The project's file that a module name stands for; None: not ours, or no module."""
    base = ROOT.joinpath(*module.split("."))
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file() and module.split(".")[0] in PACKAGES:
            return name_of(candidate)
    return None


def is_core(name: str) -> bool:
    return name not in EXACT_FILES and layer_of(name) in ("vocabulary", "destinations", "cores")


def test_every_source_file_is_seen_and_has_one_layer() -> None:
    on_disk = {name_of(path) for package in PACKAGES for path in (ROOT / package).glob("**/*.py")}
    by_layer = {name: layer_of(name) for name in on_disk}
    assert set(by_layer) == {name_of(path) for path in source_files()}
    assert {name for name, layer in by_layer.items() if layer == "cores"} >= {
        name for name in on_disk if fnmatch(name, "actors/*/machine.py")
    }
    assert on_disk, "no source file found: the test looks in the wrong place"


def test_every_declared_layer_has_files() -> None:
    used = {layer_of(name_of(path)) for path in source_files()}
    assert used == set(NAMES)


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    name = name_of(path)
    own = NAMES.index(layer_of(name))
    upward = {
        imported: layer_of(imported)
        for module in imported_modules(path)
        if (imported := file_of(module)) is not None
        and NAMES.index(layer_of(imported)) > own
        and not (layer_of(name) == "shells" and any(fnmatch(imported, used) for used in USED_BY_SHELLS))
    }
    assert upward == {}, f"{name} ({layer_of(name)}) imports from above"


@pytest.mark.parametrize("path", [p for p in source_files() if is_core(name_of(p))], ids=name_of)
def test_core_imports_no_ray_no_loop_no_clock_no_chance(path: Path) -> None:
    stray = {module.split(".")[0] for module in imported_modules(path)} & FORBIDDEN_IN_CORES
    assert stray == set()


def test_a_stray_import_would_be_found(tmp_path: Path) -> None:
    stray = tmp_path / "stray.py"
    stray.write_text("import numpy\n\ndef f():\n    from time import monotonic\n    return monotonic()\n")
    assert {module.split(".")[0] for module in imported_modules(stray)} & FORBIDDEN_IN_CORES == {"time"}

"""Documents to Definitions, or to a DefinitionError that holds every fault at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.definitions.checking import build
from cluster.definitions.faults import NO_FILE, Faults, Origins
from cluster.definitions.kinds import DestinationKind
from cluster.definitions.loading import read_files
from cluster.definitions.merging import merge_trees, substitute
from cluster.definitions.model import Definitions
from cluster.definitions.reading import check_tree, read_tree
from cluster.errors import Fault


def parse_documents(
    files: Sequence[tuple[str, str | bytes]], env: Mapping[str, str], kinds: Mapping[str, DestinationKind]
) -> Definitions:
    """Parse (name, content) pairs, merged by id, with `${NAME}` from `env`.

    The name's ending tells YAML from JSON. Raises DefinitionError with every fault.
    """
    return _parse(files, env, kinds, Faults())


def load_paths(
    paths: Sequence[str | Path], env: Mapping[str, str], kinds: Mapping[str, DestinationKind]
) -> Definitions:
    """As `parse_documents`, from files and folders (their .yaml, .yml and .json files, also in subfolders)."""
    faults = Faults()
    return _parse(read_files(paths, faults), env, kinds, faults)


def located(faults: Sequence[Fault], paths: Sequence[str | Path]) -> list[Fault]:
    """Give faults of the document merged from these files (here or by a server) the files and paths they have there."""
    noted = Faults()
    trees = [(file, read_tree(file, content, noted)) for file, content in read_files(paths, noted)]
    merge_trees([(file, tree) for file, tree in trees if tree is not None], noted)
    return [noted.origins.relocate(fault) for fault in faults]


def parse_document(document: Mapping[str, Any], file: str, kinds: Mapping[str, DestinationKind]) -> Definitions:
    """Parse a document that is JSON already, merged and with `${NAME}` substituted; `file` is named in faults."""
    faults = Faults()
    tree = dict(document)
    if not check_tree(tree, file or NO_FILE, faults):
        faults.raise_if_any()
    return _checked([(file or NO_FILE, tree)], None, kinds, faults)


def _parse(
    files: Sequence[tuple[str, str | bytes]],
    env: Mapping[str, str],
    kinds: Mapping[str, DestinationKind],
    faults: Faults,
) -> Definitions:
    if not files and not faults.found:
        faults.add_to_file(NO_FILE, (), "no definitions file was given", allowed="files or folders")
    trees = [(file, read_tree(file, content, faults)) for file, content in files]
    return _checked([(file, tree) for file, tree in trees if tree is not None], env, kinds, faults)


def _checked(
    trees: list[tuple[str, Any]], env: Mapping[str, str] | None, kinds: Mapping[str, DestinationKind], faults: Faults
) -> Definitions:
    faults.origins = Origins(file=trees[0][0] if trees else NO_FILE)
    merged = merge_trees(trees, faults)
    faults.shown = merged
    document = merged if env is None else substitute(merged, env, faults)
    definitions = build(document, kinds, faults)
    faults.raise_if_any()
    assert definitions is not None, "no definitions and no fault"
    return definitions

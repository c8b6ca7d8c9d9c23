"""What `apply` and `plan` take: a document, or files and folders, read and merged here with this environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from cluster.errors import InputError

#: One document as JSON, or files and folders.
Documents: TypeAlias = Mapping[str, Any] | str | Path | Sequence[str | Path]


def whole_document(documents: Documents) -> Mapping[str, Any]:
    """Give one document; files are merged and `${NAME}` is replaced. Raises DefinitionError.

    References are left to the server: with `merge` they may name what only it has.
    """
    if isinstance(documents, Mapping):
        return documents
    paths = [documents] if isinstance(documents, str | Path) else list(documents)
    if not paths:
        message = "Nothing to apply: give a document, or files and folders."
        raise InputError(message)
    return read_and_merge(paths, os.environ)


def read_and_merge(paths: Sequence[str | Path], env: Mapping[str, str]) -> Mapping[str, Any]:
    """Read files and folders to one document, without looking at references; raises DefinitionError."""
    # Parsing loads pyarrow for regular expressions: half a second that a look-up need not pay.
    from cluster.definitions.faults import Faults, Origins
    from cluster.definitions.loading import read_files
    from cluster.definitions.merging import merge_trees, substitute
    from cluster.definitions.reading import read_tree

    faults = Faults()
    trees = [(file, read_tree(file, content, faults)) for file, content in read_files(paths, faults)]
    faults.origins = Origins(file=trees[0][0] if trees else "<none>")
    merged = merge_trees([(file, tree) for file, tree in trees if tree is not None], faults)
    faults.shown = merged
    document: Mapping[str, Any] = substitute(merged, env, faults)
    faults.raise_if_any()
    return document

"""What of a trait source is read, and whether its columns are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.definitions.model import ParentModel, ValueType
from cluster.errors import SnapshotError


@dataclass(frozen=True, slots=True)
class Wanted:
    """The column of keys, then the others, each with its declared type.

    `where` names the whole in messages: "the traits of 'users'".
    """

    where: str
    key: str
    columns: Mapping[str, ValueType]

    def names(self) -> list[str]:
        """Name the columns that the source must have, each once: a key may be a trait as well."""
        return list(dict.fromkeys([self.key, *self.columns]))


def wanted_of(parent: ParentModel) -> Wanted:
    """Give what a parent model reads of its source."""
    types = {column.name: column.type for column in parent.columns.values()}
    return Wanted(f"the traits of {parent.id!r}", parent.primary_key, types)


def check_schema(names: Sequence[str], wanted: Wanted, where: str) -> None:
    """Raise `SnapshotError` unless every needed column is there exactly once; cheap, before any data is read."""
    found = list(names)
    for name in wanted.names():
        count = found.count(name)
        if count == 1:
            continue
        if count == 0:
            message = f"{where}: the column {name!r} is missing; found columns: {', '.join(found) or 'none'}."
            step = "Add it to the source or take it out of the definitions."
            raise SnapshotError(message, reason="missing_column", next_step=step)
        message = f"{where}: {count} columns are called {name!r}."
        raise SnapshotError(message, reason="ambiguous_column", next_step="Leave one of them.")

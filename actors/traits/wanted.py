"""What of a trait source is read, and whether its columns are there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.definitions.model import ParentModel, RelatedTable, TraitTable, ValueType
from cluster.errors import SnapshotError


@dataclass(frozen=True, slots=True)
class Read:
    """One column to be read: as what, at which type, from which column of the source."""

    name: str
    type: ValueType
    column: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The column of keys, then the others. `where` names the whole in messages: "the traits of 'users'"."""

    where: str
    key: str
    reads: tuple[Read, ...]

    def names(self) -> list[str]:
        """Name the columns that the source must have, each once: a key may be a trait as well."""
        return list(dict.fromkeys([self.key, *(read.column for read in self.reads)]))

    def lists(self) -> list[str]:
        """Name the columns that are read as lists and as nothing else."""
        others = {self.key, *(read.column for read in self.reads if read.type != "list")}
        return [name for name in self.names() if name not in others]


def wanted_of(table: TraitTable, parent: ParentModel) -> Wanted:
    """Give what is read of a table with one row a user."""
    reads = tuple(Read(name, parent.columns[name].type, column) for name, column in table.columns.items())
    return Wanted(_where(parent, table.id), table.key, reads)


def wanted_of_related(table: RelatedTable, parent: ParentModel) -> Wanted:
    """Give what is read of a table with any number of rows a user: what its traits look at."""
    reads = tuple(Read(column.name, column.type, column.path[0]) for column in table.columns.values())
    return Wanted(_where(parent, table.id), table.key, reads)


def main_table(parent: ParentModel, source: object) -> TraitTable:
    """Give the table that one source with every trait as a column of its name stands for."""
    columns = {name: name for name in parent.snapshot_columns}
    return TraitTable("", source, parent.primary_key, columns)  # type: ignore[arg-type]


def _where(parent: ParentModel, table: str) -> str:
    return f"the traits of {parent.id!r}" + (f", table {table!r}" if table else "")


def first_up(text: str) -> str:
    """Begin a sentence."""
    return text[:1].upper() + text[1:]


def check_names(names: Mapping[str, object], reserved: Iterable[str], parent: str) -> None:
    """Raise `SnapshotError` where a trait has a name that snapshots use themselves."""
    for name in reserved:
        if name in names:
            message = f"The trait {name!r} of {parent!r} has a name that snapshots use themselves."
            raise SnapshotError(message, reason="reserved_name", next_step="Give the trait another name.")


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

"""`parent_models[].traits`: the main table, further tables, and related tables whose rows become traits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import pydantic

from cluster.definitions import document as doc
from cluster.definitions.conditions import ModelShape, Scope, column_type, head_of, only_keys, parse_filter
from cluster.definitions.faults import Faults, Place, listed, show
from cluster.definitions.model import (
    Column,
    Filter,
    Quantifier,
    RelatedTable,
    RelatedTrait,
    TraitTable,
    ValueType,
)
from cluster.definitions.operators import OPERATORS
from cluster.definitions.plain_words import add_faults
from cluster.definitions.trait_sources import TRAIT_SOURCES, TraitSource

QUANTIFIERS: Final[tuple[Quantifier, ...]] = get_args(Quantifier)
_TESTS: Final = ("any", "all", "none")
_LABELS: Final = ("pii", "name", "description")
#: The types that a quantifier reads, and the one that it gives (None: that of its column).
_READS: Final[dict[str, tuple[ValueType, ...]]] = {
    "sum": ("number",), "avg": ("number",), "min": ("number", "timestamp"), "max": ("number", "timestamp"),
    "distinct": ("string", "number", "boolean", "timestamp"), "list": ("string",),
}  # fmt: skip
_GIVES: Final[dict[str, ValueType | None]] = {
    "count": "number", "any": "boolean", "all": "boolean", "none": "boolean", "sum": "number", "avg": "number",
    "min": None, "max": None, "distinct": "number", "list": "list",
}  # fmt: skip


@dataclass(slots=True)
class Traits:
    """What a parent model has of traits."""

    columns: dict[str, Column] = field(default_factory=dict)
    tables: tuple[TraitTable, ...] = ()
    related: tuple[RelatedTable, ...] = ()


def read_traits(read: doc.TraitsDocument, primary_key: str, place: Place, faults: Faults) -> Traits:
    """Resolve a valid shape; whatever is wrong beyond it is noted."""
    traits = Traits()
    ids: set[str] = set()
    main = _source(read.source, (*place, "source"), faults) if read.source else None
    at_columns: Place = (*place, "columns")
    columns = _columns(_of_table(read.columns, traits, at_columns, faults), at_columns, traits, faults)
    tables = [] if main is None else [TraitTable("", main, primary_key, columns)]
    for index, table in enumerate(read.tables):
        at: Place = (*place, "tables", index)
        _check_id(table.id, at, ids, faults)
        source = _source(table.source, (*at, "source"), faults)
        columns = _columns(table.columns, (*at, "columns"), traits, faults)
        if source is not None:
            tables.append(TraitTable(table.id, source, table.key or primary_key, columns))
    traits.tables = tuple(tables)
    traits.related = tuple(_related(read.related, primary_key, (*place, "related"), traits, ids, faults))
    return traits


def trait_types(raw: Mapping[str, Any]) -> Mapping[str, ValueType | None] | None:
    """Give the type of each trait of a raw parent model, also of a faulty one.

    None for a faulty trait, None at all where the columns cannot be told.
    """
    traits = raw.get("traits")
    if traits is None:
        return {}
    if not isinstance(traits, dict):
        return None
    parts = [column_types(traits.get("columns", {}))]
    parts += [column_types(table.get("columns", {})) for table in _mappings(traits.get("tables"))]
    parts += [_related_types(table) for table in _mappings(traits.get("related"))]
    if any(part is None for part in parts):
        return None
    return {name: type_ for part in parts if part is not None for name, type_ in part.items()}


def said_traits(raw: Mapping[str, Any]) -> set[str]:
    """Name the traits of a raw parent model, also of a faulty one, that come with identify calls."""
    traits = raw.get("traits")
    columns = traits.get("columns") if isinstance(traits, dict) else None
    found = columns.items() if isinstance(columns, dict) else ()
    return {name for name, column in found if isinstance(column, dict) and column.get("source") == "identify"}


def column_types(columns: object) -> Mapping[str, ValueType | None] | None:
    """Give each column's type, None for a faulty column, None at all where columns are no mapping."""
    if not isinstance(columns, dict):
        return None
    return {name: _type_of(column) for name, column in columns.items()}


def _type_of(column: object) -> ValueType | None:
    type_ = column.get("type") if isinstance(column, dict) else None
    return type_ if isinstance(type_, str) and type_ in OPERATORS else None  # type: ignore[return-value]


def _mappings(raw: object) -> Iterator[dict[str, Any]]:
    """Give the objects of a list; what is none has a fault of its own."""
    yield from (item for item in raw if isinstance(item, dict)) if isinstance(raw, list) else ()


def _related_types(table: Mapping[str, Any]) -> Mapping[str, ValueType | None] | None:
    traits, columns = table.get("traits", {}), column_types(table.get("columns", {})) or {}
    if not isinstance(traits, dict):
        return None
    types: dict[str, ValueType | None] = {}
    for name, trait in traits.items():
        heads = [head for head in QUANTIFIERS if isinstance(trait, dict) and head in trait]
        column = trait[heads[0]] if heads else None
        given = _GIVES[heads[0]] if len(heads) == 1 else None
        types[name] = given or (columns.get(column) if isinstance(column, str) else None)
    return types


def _check_id(id_: str, at: Place, ids: set[str], faults: Faults) -> None:
    if id_ in ids:
        faults.add((*at, "id"), "the id is used twice in these traits", allowed="each id once")
    ids.add(id_)


def _source(read: doc.TraitSourceDocument, place: Place, faults: Faults) -> TraitSource | None:
    model = TRAIT_SOURCES.get(read.kind)
    if model is None:
        hint = faults.suggestion(read.kind, TRAIT_SOURCES)
        message = f"unknown kind of trait source {show(read.kind)}{hint}"
        faults.add((*place, "kind"), message, allowed=", ".join(TRAIT_SOURCES))
        return None
    raw = {"kind": read.kind, **(read.model_extra or {})}
    try:
        return model.model_validate(raw)
    except pydantic.ValidationError as error:
        add_faults(error, model, raw, place, faults)
        return None


def _of_table(
    read: Mapping[str, doc.MainTraitColumnDocument], traits: Traits, place: Place, faults: Faults
) -> dict[str, doc.TraitColumnDocument]:
    """Give the main table's columns, and declare those that come with identify calls."""
    own: dict[str, doc.TraitColumnDocument] = {}
    for name, column in read.items():
        at: Place = (*place, name)
        if column.source is None:
            own[name] = column
            if column.path is not None:
                faults.add((*at, "path"), "path goes with source: identify", allowed="column, for a table's own name")
            continue
        if column.column is not None:
            message = "a trait comes from a table or from identify calls, not from both"
            faults.add((*at, "column"), message, allowed="path, its place in the call: traits.plan")
        path: Any = column.path or ("traits", name)
        _declare(Column(name, column.type, path, column.pii), at, traits, faults)
    return own


def _columns(
    read: Mapping[str, doc.TraitColumnDocument], place: Place, traits: Traits, faults: Faults
) -> dict[str, str]:
    """Add columns to the traits and give where each is in its source."""
    for name, column in read.items():
        _declare(Column(name, column.type, (), column.pii), (*place, name), traits, faults)
    return {name: column.column or name for name, column in read.items()}


def _declare(column: Column, place: Place, traits: Traits, faults: Faults) -> None:
    if column.name in traits.columns:
        faults.add(place, "the trait is declared twice", allowed="each trait in one table; `column` renames one")
    traits.columns.setdefault(column.name, column)


def _related(
    read: list[doc.RelatedTableDocument], primary_key: str, place: Place, traits: Traits, ids: set[str], faults: Faults
) -> Iterator[RelatedTable]:
    for index, table in enumerate(read):
        at: Place = (*place, index)
        _check_id(table.id, at, ids, faults)
        source = _source(table.source, (*at, "source"), faults)
        columns = {name: Column(name, one.type, (one.column or name,)) for name, one in table.columns.items()}
        parser = _RelatedTraits({name: column.type for name, column in columns.items()}, faults)
        found = []
        for name, trait in table.traits.items():
            parsed = parser.parse(name, trait.model_extra or {}, (*at, "traits", name))
            if parsed is not None:
                related, type_ = parsed
                _declare(Column(name, type_, (), trait.pii), (*at, "traits", name), traits, faults)
                found.append(related)
        if source is not None:
            yield RelatedTable(table.id, source, table.key or primary_key, columns, tuple(found))


class _RelatedTraits:
    """Parses the traits of one related table."""

    def __init__(self, columns: Mapping[str, ValueType], faults: Faults) -> None:
        self._columns = columns
        self._faults = faults
        self._shape = ModelShape(None, columns, None, noun="related table")
        self._scope = Scope(None, None, {}, {}, faults)

    def parse(self, name: str, raw: dict[str, Any], place: Place) -> tuple[RelatedTrait, ValueType] | None:
        """Give a trait and its type, None after noting why not."""
        head = head_of(raw, QUANTIFIERS, "related trait", place, self._faults)
        if head is None:
            return None
        only_keys(raw, (head, "where", *_LABELS), place, self._faults)
        where = self._filter(raw.get("where"), (*place, "where")) if "where" in raw else None
        test, column, type_ = None, None, _GIVES[head]
        if head in _TESTS:
            test = self._filter(raw[head], (*place, head))
        elif head == "count":
            if raw[head] is not True:
                self._faults.add(
                    (*place, head), "count counts rows", allowed="true, with `where` to count some of them"
                )
        else:
            column = raw[head]
            type_ = self._read_type(head, column, (*place, head))
        wrong = (head in _TESTS and test is None) or type_ is None or ("where" in raw and where is None)
        if wrong:
            return None
        assert type_ is not None
        return RelatedTrait(name, head, column, test, where), type_  # type: ignore[arg-type]

    def _filter(self, raw: object, place: Place) -> Filter | None:
        return parse_filter(raw, place, self._shape, self._scope)

    def _read_type(self, head: str, column: object, place: Place) -> ValueType | None:
        if not isinstance(column, str):
            self._faults.add(place, f"{head} names a column by text", allowed=listed(self._columns))
            return None
        type_ = column_type(column, self._columns, place, self._faults, "related table")
        if type_ is not None and type_ not in _READS[head]:
            message = f"{head} does not fit a {type_} column"
            self._faults.add(place, message, allowed=f"a column of type {' or '.join(_READS[head])}")
            return None
        return type_ and (_GIVES[head] or type_)

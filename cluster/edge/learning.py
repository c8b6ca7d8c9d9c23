"""What events of one name look like, from samples: which fields, of which types, how often. Bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cluster.admission.structs import walk
from cluster.admission.timestamps import Format
from cluster.admission.wire_paths import wire_path
from cluster.definitions.model import Path
from cluster.model.values import coerce_timestamp

#: Fields of one name that are told apart, how deep they may lie, and how long their names may be.
FIELDS_MAX: Final = 80
_DEPTH_MAX: Final = 3
_KEY_LENGTH_MAX: Final = 100
_ID_PATHS: Final[tuple[Path, ...]] = (("user_id",), ("anonymous_id",), ("group_id",))
_OBJECT_PATHS: Final[tuple[Path, ...]] = (("properties",), ("traits",))


class Fields:
    """The fields of some samples, each with how many had it as what."""

    def __init__(self) -> None:
        self.samples = 0
        self._types: dict[str, Counter[str]] = {}

    def learn(self, fmt: Format, event: Any) -> None:
        """Take one parsed event, by canonical paths."""
        self.samples += 1
        for path, value in _fields(fmt, event):
            name = ".".join(path)
            if name in self._types or len(self._types) < FIELDS_MAX:
                self._types.setdefault(name, Counter())[_type_of(value)] += 1

    def report(self) -> list[dict[str, Any]]:
        """List the fields, those that came first first."""
        return [
            {"path": path, "types": dict(types), "share": round(types.total() / self.samples, 3)}
            for path, types in self._types.items()
        ]


def merged(reports: list[tuple[int, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Put together what several learned, each with its number of samples."""
    samples = sum(count for count, _ in reports)
    types: dict[str, Counter[str]] = {}
    for _, fields in reports:
        for field in fields:
            types.setdefault(field["path"], Counter()).update(field["types"])
    return [
        {"path": path, "types": dict(found), "share": round(found.total() / samples, 3)}
        for path, found in types.items()
    ]


def _fields(fmt: Format, event: Any) -> Iterator[tuple[Path, Any]]:
    for path in _ID_PATHS:
        value = _at(fmt, event, path)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            yield path, value
    for path in _OBJECT_PATHS:
        value = _at(fmt, event, path)
        if isinstance(value, dict):
            yield from _below(path, value)


def _at(fmt: Format, event: Any, path: Path) -> Any:
    place = wire_path(fmt, path)
    return None if place is None else walk(event, place)


def _below(path: Path, value: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        # A path is keys joined by dots: what has one in its name cannot be read by a column.
        if item is None or not key or "." in key or len(key) > _KEY_LENGTH_MAX:
            continue
        own = (*path, key)
        if isinstance(item, dict):
            if len(own) <= _DEPTH_MAX:
                yield from _below(own, item)
        else:
            yield own, item


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "timestamp" if coerce_timestamp(value) is not None else "string"
    return "list"

"""msgspec Structs made from the paths that definitions read: the fast way from JSON to the values at those paths.

A tree of Structs mirrors the paths; every other field of an event is skipped by the parser and becomes no Python
object. A path whose middle is absent or null reads as None, and so does one that is absent itself, though of paths that
are *watched* it can be asked whether something is there at all. A path below another one that is read too
(`properties` and `properties.cart`), or below a key that msgspec cannot name, is walked in the parsed value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import msgspec

from cluster.definitions.model import Path

_UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')


class _Node:
    """One object of the tree: `field_of[key]` names the Struct's field, `children[key]` the nested objects.

    `watched` are the paths, from here on, whose fields are UNSET where the object has no such key.
    """

    def __init__(self, keys: Mapping[str, Any], watched: frozenset[Path]) -> None:
        self.watched = watched
        self.field_of = {key: f"f{index}" for index, key in enumerate(keys)}
        self.children = {
            key: _Node(below, frozenset(path[1:] for path in watched if path[0] == key and len(path) > 1))
            for key, below in keys.items()
            if below and not any(map(_UNNAMEABLE.search, below))
        }
        self.struct = msgspec.defstruct(
            "Node",
            [(field, self._type(key), self._absent(key)) for key, field in self.field_of.items()],
            rename={field: key for key, field in self.field_of.items()},
            gc=False,
        )
        #: Stands for an absent or null object.
        self.empty = self.struct()

    def _type(self, key: str) -> Any:
        return self.children[key].struct | None if key in self.children else Any

    def _absent(self, key: str) -> Any:
        return msgspec.UNSET if (key,) in self.watched and key not in self.children else None

    def build(self, parsed: Mapping[str, Any]) -> Any:
        """Make the Struct of a parsed object; where an object is wanted and something else found, it is None."""
        fields = {}
        for key, field in self.field_of.items():
            value = parsed.get(key, self._absent(key))
            child = self.children.get(key)
            if child is not None:
                value = child.build(value) if isinstance(value, dict) else None
            fields[field] = value
        return self.struct(**fields)


class StructTree:
    """The Structs for a set of paths, their decoder, and the way to the values. Immutable; shareable in a process.

    `watched`: those of the paths that `PathReader.present` is asked for.
    """

    def __init__(self, paths: Iterable[Path], watched: Iterable[Path] = ()) -> None:
        self._root = _Node(_tree(set(paths)), frozenset(watched))
        self.decoder: msgspec.json.Decoder[list[Any]] = msgspec.json.Decoder(list[self._root.struct])  # type: ignore[name-defined]

    def build(self, parsed: Mapping[str, Any]) -> Any:
        """Make the root Struct of an event that was parsed another way."""
        return self._root.build(parsed)

    def reader(self, events: list[Any]) -> PathReader:
        """Read paths out of decoded events."""
        return PathReader(self._root, events)


class PathReader:
    """Values by path over one list of decoded events; every path and every nested level is read once."""

    def __init__(self, root: _Node, events: list[Any]) -> None:
        self._root = root
        self._levels: dict[Path, list[Any]] = {(): events}
        self._values: dict[Path, list[Any]] = {}

    def values(self, path: Path) -> list[Any]:
        """Give each event's raw JSON value at `path`, None where it is null or absent; the list is shared."""
        found = self._values.get(path)
        if found is None:
            found = self._values[path] = self._read(path)
        return found

    def present(self, path: Path) -> list[bool]:
        """Say of each event whether something, be it null, is at a watched `path`."""
        field, below, values = self._field(path)
        if field is None:
            return [False] * len(values)
        if not below:
            return [value is not msgspec.UNSET for value in values]
        objects = [walk(value, below[:-1]) for value in values]
        return [isinstance(found, dict) and below[-1] in found for found in objects]

    def select(self, rows: list[int]) -> PathReader:
        """Give a reader of some of the events."""
        events = self._levels[()]
        return PathReader(self._root, [events[row] for row in rows])

    def _read(self, path: Path) -> list[Any]:
        field, below, values = self._field(path)
        if field is None:
            return [None] * len(values)
        if below:
            return [walk(value, below) for value in values]
        if path in self._root.watched:
            return [None if value is msgspec.UNSET else value for value in values]
        return values

    def _field(self, path: Path) -> tuple[str | None, Path, list[Any]]:
        """Give the field that a path leads to, what is left of the path there, and each event's value of it.

        Without such a field: each event.
        """
        node, depth = self._root, 0
        while depth < len(path) - 1 and path[depth] in node.children:
            node, depth = node.children[path[depth]], depth + 1
        field = node.field_of.get(path[depth])
        if field is None:
            return None, (), self._levels[()]
        return field, path[depth + 1:], _attributes(field)(self._level(path[:depth]))

    def _level(self, prefix: Path) -> list[Any]:
        objects = self._levels.get(prefix)
        if objects is None:
            node = self._root
            for key in prefix[:-1]:
                node = node.children[key]
            empty = node.children[prefix[-1]].empty
            parents = _attributes(node.field_of[prefix[-1]])(self._level(prefix[:-1]))
            objects = self._levels[prefix] = [found or empty for found in parents]
        return objects


@cache
def _attributes(field: str) -> Callable[[list[Any]], list[Any]]:
    """Give the function that reads one field (`f0`, `f1`, ...) of many Structs: 14 ns each, half of `attrgetter`'s."""
    assert field.startswith("f"), field
    assert field[1:].isdecimal(), field
    reader: Callable[[list[Any]], list[Any]] = eval(f"lambda events: [event.{field} for event in events]")
    return reader


def walk(value: Any, path: Path) -> Any:
    """Follow `path` into a parsed JSON value; None where it leads nowhere."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _tree(paths: set[Path]) -> dict[str, Any]:
    """Nest the paths by key; a path that is itself read is a leaf, whatever lies below it."""
    tree: dict[str, Any] = {}
    for path in sorted(paths, key=len):
        if any(path[:length] in paths for length in range(1, len(path))):
            continue
        level = tree
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = {}
    return tree

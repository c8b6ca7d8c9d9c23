"""YAML text to a JSON tree, read event by event: bounded in depth and size before anything is built.

PyYAML's own composer is C recursion without a bound: a few kilobytes of `[` end the process. Plain scalars are read by
the core schema of YAML 1.2, not PyYAML's 1.1: `no`, `on` and `12:30` are text, `1e3` is a number, times stay text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from cluster.definitions.faults import Place
from cluster.limits import DEFINITIONS_DEPTH_MAX, DEFINITIONS_NODES_MAX

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")
_MERGE_KEY: Final = "<<"
_INTEGER_DIGITS_MAX: Final = 400


class Unreadable(Exception):
    """The text is no tree that a definitions document can be; `place` says where, `allowed` what would be right."""

    def __init__(self, message: str, place: Place = (), allowed: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.allowed = allowed


class Duplicated(dict[str, Any]):
    """A mapping that had keys twice: the reader of the whole tree reports them with their place."""

    keys_twice: tuple[str, ...] = ()


def from_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping, a `Duplicated` where a key is there twice (the last value counts)."""
    mapping = dict(pairs)
    if len(mapping) == len(pairs):
        return mapping
    marked = Duplicated(mapping)
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key, _ in pairs:
        if key in seen:
            twice[key] = None
        seen.add(key)
    marked.keys_twice = tuple(twice)
    return marked


def read_integer(text: str) -> int:
    """Read decimal digits; Python itself refuses thousands of them with a ValueError."""
    if len(text) > _INTEGER_DIGITS_MAX:
        message = f"an integer of {len(text)} digits"
        raise Unreadable(message, allowed="integers of at most 64 bits")
    return int(text)


def too_deep(place: Place) -> Unreadable:
    """What is raised for a tree deeper than DEFINITIONS_DEPTH_MAX."""
    message = f"nested more than {DEFINITIONS_DEPTH_MAX} levels deep"
    return Unreadable(message, place[:10], f"at most {DEFINITIONS_DEPTH_MAX} levels")


def read_yaml(text: str) -> Any:
    """Give the tree of the text's one document, None for an empty one. Raises Unreadable."""
    loader: Any = None
    try:
        loader = _Loader(text)
        return _Reader(loader).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" at {_line(mark)}, column {mark.column + 1}" if mark else ""
        message = f"not valid YAML: {error.problem or error.context or 'unreadable'}{at}"
        raise Unreadable(message) from error
    except yaml.YAMLError as error:
        message = f"not valid YAML: {' '.join(str(error).split())}"
        raise Unreadable(message) from error
    finally:
        if loader is not None:
            loader.dispose()


class _Reader:
    """Builds one document's tree. Recursion is bounded by DEFINITIONS_DEPTH_MAX, values by DEFINITIONS_NODES_MAX."""

    def __init__(self, loader: Any) -> None:
        self._next = loader.get_event
        self._anchors: dict[str, Any] = {}
        self._nodes = 0

    def read(self) -> Any:
        self._next()  # stream start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        tree = self._build(self._next(), ())
        self._next()  # document end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            message = f"a second document begins at {_line(event.start_mark)}"
            raise Unreadable(message, allowed="one document a file")
        return tree

    def _build(self, event: Any, place: Place) -> Any:
        self._count(place)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                message = f"the alias *{event.anchor} names no anchor before it ({_line(event.start_mark)})"
                raise Unreadable(message, place, "aliases of what is complete above them")
            return self._copied(self._anchors[event.anchor], place)
        value = self._value(event, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _value(self, event: Any, place: Place) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, place)
        if event.tag is not None:
            raise _strange_tag(event.tag, place)
        return self._list(place) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(place)

    def _list(self, place: Place) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._build(event, (*place, len(items))))
        return items

    def _mapping(self, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        pairs: list[tuple[str, Any]] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                message = f"a key is a list, a mapping or an alias ({_line(event.start_mark)})"
                raise Unreadable(message, place, "keys are text")
            key: str = event.value
            value = self._build(self._next(), (*place, key))
            if key == _MERGE_KEY and not event.style:
                _merge(value, (*place, key), merged)
            else:
                pairs.append((key, value))
        own = from_pairs(pairs)
        return own if isinstance(own, Duplicated) else {**merged, **own}

    def _copied(self, value: Any, place: Place) -> Any:
        """Write an alias out: a shared part would be walked as often anyway, and must count as often."""
        self._count(place)
        if isinstance(value, list):
            return [self._copied(item, (*place, index)) for index, item in enumerate(value)]
        if isinstance(value, dict):
            copied = type(value)({key: self._copied(item, (*place, key)) for key, item in value.items()})
            if isinstance(value, Duplicated) and isinstance(copied, Duplicated):
                copied.keys_twice = value.keys_twice
            return copied
        return value

    def _count(self, place: Place) -> None:
        self._nodes += 1
        if self._nodes > DEFINITIONS_NODES_MAX:
            message = f"more than {DEFINITIONS_NODES_MAX:,} values, aliases written out"
            raise Unreadable(message, allowed="fewer aliases, or a smaller file")
        if len(place) > DEFINITIONS_DEPTH_MAX:
            raise too_deep(place)


def _merge(value: Any, place: Place, merged: dict[str, Any]) -> None:
    for part in value if isinstance(value, list) else [value]:
        if not isinstance(part, dict):
            message = "a merge key takes a mapping or a list of mappings"
            raise Unreadable(message, place)
        for key, item in part.items():
            merged.setdefault(key, item)


def _scalar(event: Any, place: Place) -> Any:
    if event.tag in _TEXT_TAGS or (event.tag is None and event.style):
        return event.value
    if event.tag is not None:
        raise _strange_tag(event.tag, place)
    return _plain(event.value, place)


def _plain(text: str, place: Place) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return read_integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)  # what overflows is found with the other numbers that are no JSON
    if _NOT_FINITE.fullmatch(text):
        message = f"{text} is no number a definition can hold"
        raise Unreadable(message, place, "finite numbers")
    return text


def _strange_tag(tag: str, place: Place) -> Unreadable:
    message = f"the YAML tag {tag[:60]} is not supported"
    return Unreadable(message, place, "plain YAML without tags")


def _line(mark: Any) -> str:
    return f"line {mark.line + 1}"

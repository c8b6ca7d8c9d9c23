"""One file's text to a JSON tree: YAML or JSON, bounded, no duplicate keys, no alias bombs.

YAML is read by the core schema of YAML 1.2, not PyYAML's 1.1: `no`, `on` and `12:30` are text, `1e3` is a number, and
times stay the text they were written as.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import yaml

from cluster.definitions.faults import Faults, Place
from cluster.limits import DEFINITIONS_DEPTH_MAX, DEFINITIONS_FILE_BYTES_MAX, DEFINITIONS_NODES_MAX

#: How a definitions file's name ends.
SUFFIXES: Final = (".yaml", ".yml", ".json")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_EXPONENT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)[eE][-+]?[0-9]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}
_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge", "map", "seq")
)
_INTEGER_DIGITS_MAX = 400


class _Unreadable(Exception):
    """The text is no tree that a definitions document can be; `place` says where."""

    def __init__(self, message: str, place: Place = (), allowed: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.allowed = allowed


class _Duplicated(dict[str, Any]):
    """A mapping that had a key twice, until `_check_tree` has reported it."""

    keys_twice: tuple[str, ...] = ()


def read_tree(file: str, content: str | bytes, faults: Faults) -> Any:
    """Give the file's JSON tree, or None after noting why it has none.

    `.json` is read as JSON, `.yaml` and `.yml` as YAML; other names as JSON where the text starts with a brace.
    """
    try:
        text = _decoded(content)
        as_json = file.endswith(".json") or (not file.endswith(SUFFIXES) and text.lstrip().startswith("{"))
        tree = _read_json(text) if as_json else _read_yaml(text)
        if tree is None:
            message = "the file is empty"
            raise _Unreadable(message, allowed="a mapping with version, sources, parent_models, …")
    except _Unreadable as error:
        faults.add_to_file(file, error.place, str(error), allowed=error.allowed)
        return None
    return tree if check_tree(tree, file, faults) else None


def check_tree(tree: Any, file: str, faults: Faults) -> bool:
    """Check that a tree is plain JSON, not too deep, valid Unicode, and without duplicate keys; note what is not."""
    before = len(faults.found)
    _check(tree, (), file, faults)
    return len(faults.found) == before


def _decoded(content: str | bytes) -> str:
    if len(content) > DEFINITIONS_FILE_BYTES_MAX:
        message = "the file is too large"
        raise _Unreadable(message, allowed=f"at most {DEFINITIONS_FILE_BYTES_MAX:,} bytes a file; split it")
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8 text (byte {error.start})"
        raise _Unreadable(message, allowed="YAML or JSON in UTF-8") from error


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_from_pairs, parse_constant=_no_constant, parse_int=_integer)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise _Unreadable(message) from error
    except RecursionError as error:
        raise _too_deep(()) from error


def _from_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    return mapping if len(mapping) == len(pairs) else _duplicated(mapping, [key for key, _ in pairs])


def _duplicated(mapping: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    marked = _Duplicated(mapping)
    marked.keys_twice = tuple(dict.fromkeys(key for key in keys if keys.count(key) > 1))
    return marked


def _no_constant(name: str) -> Any:
    message = f"not valid JSON: {name}"
    raise _Unreadable(message, allowed="finite numbers")


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS_MAX:
        message = f"an integer of {len(text)} digits"
        raise _Unreadable(message, allowed="integers of at most 64 bits")
    return int(text)


def _read_yaml(text: str) -> Any:
    loader: Any = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _YamlBuilder().build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        message = f"not valid YAML: {error.problem or error.context or 'unreadable'}{at}"
        raise _Unreadable(message) from error
    except yaml.YAMLError as error:
        message = f"not valid YAML: {' '.join(str(error).split())}"
        raise _Unreadable(message) from error
    except RecursionError as error:
        raise _too_deep(()) from error
    finally:
        if loader is not None:
            loader.dispose()


class _YamlBuilder:
    """Builds the JSON tree of one YAML document, counting what aliases expand to."""

    def __init__(self) -> None:
        self._nodes = 0

    def build(self, node: Any, place: Place) -> Any:
        """Give the tree below `node`. An alias is written out each time, within the bound."""
        self._nodes += 1
        if self._nodes > DEFINITIONS_NODES_MAX:
            message = f"more than {DEFINITIONS_NODES_MAX:,} values, aliases written out"
            raise _Unreadable(message, allowed="fewer aliases, or a smaller file")
        if len(place) > DEFINITIONS_DEPTH_MAX:
            raise _too_deep(place)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, place)
        if node.tag not in _TAGS:
            raise _strange_tag(node.tag, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._mapping(node, place)

    def _mapping(self, node: Any, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        pairs: list[tuple[str, Any]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                message = f"a key is a list or a mapping (line {key_node.start_mark.line + 1})"
                raise _Unreadable(message, place, "keys are text")
            key: str = key_node.value
            if key == "<<" and not key_node.style:
                self._merge(value_node, (*place, key), merged)
            else:
                pairs.append((key, self.build(value_node, (*place, key))))
        own = _from_pairs(pairs)
        return own if isinstance(own, _Duplicated) else {**merged, **own}

    def _merge(self, node: Any, place: Place, merged: dict[str, Any]) -> None:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in nodes:
            if not isinstance(part, yaml.MappingNode):
                message = "a merge key takes a mapping or a list of mappings"
                raise _Unreadable(message, place)
            for key, value in self.build(part, place).items():
                merged.setdefault(key, value)


def _scalar(node: Any, place: Place) -> Any:
    text: str = node.value
    if node.tag not in _TAGS:
        raise _strange_tag(node.tag, place)
    if node.style:
        return text
    if node.tag == "tag:yaml.org,2002:str":
        # 1.1 takes 1e3 for text; 1.2 and JSON for a number
        return float(text) if text[-1:].isdigit() and _EXPONENT.fullmatch(text) else text
    return _plain(text, place)


def _plain(text: str, place: Place) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)  # `check_tree` refuses what overflows
    if _NOT_FINITE.fullmatch(text):
        message = f"{text} is no number a definition can hold"
        raise _Unreadable(message, place, "finite numbers")
    return text


def _strange_tag(tag: str, place: Place) -> _Unreadable:
    message = f"the YAML tag {tag[:60]} is not supported"
    return _Unreadable(message, place, "plain YAML without tags")


def _too_deep(place: Place) -> _Unreadable:
    message = f"nested more than {DEFINITIONS_DEPTH_MAX} levels deep"
    return _Unreadable(message, place[:10], f"at most {DEFINITIONS_DEPTH_MAX} levels")


def _check(value: Any, place: Place, file: str, faults: Faults) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, str):
        if not value.isascii() and not _is_unicode(value):
            faults.add_to_file(file, place, "the text has half a surrogate pair", allowed="valid Unicode")
    elif isinstance(value, int):
        if value.bit_length() > 1024:
            faults.add_to_file(file, place, "an integer too large", allowed="integers of at most 64 bits")
    elif isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            faults.add_to_file(file, place, "NaN and infinities are no JSON", allowed="finite numbers")
    elif isinstance(value, dict | list):
        _check_container(value, place, file, faults)
    else:
        message = f"a value of type {type(value).__name__} is no JSON"
        faults.add_to_file(file, place, message, allowed="mappings, lists, text, numbers, booleans, null")


def _check_container(value: dict[Any, Any] | list[Any], place: Place, file: str, faults: Faults) -> None:
    if len(place) >= DEFINITIONS_DEPTH_MAX:
        error = _too_deep(place)
        faults.add_to_file(file, error.place, str(error), allowed=error.allowed)
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, (*place, index), file, faults)
        return
    if isinstance(value, _Duplicated):
        for key in value.keys_twice:
            faults.add_to_file(file, (*place, key), "the key is there twice", allowed="each key once")
    for key, item in value.items():
        if not isinstance(key, str):
            faults.add_to_file(file, place, f"the key {key!r} is no text", allowed="keys are text")
        elif not key.isascii() and not _is_unicode(key):
            faults.add_to_file(file, place, "a key has half a surrogate pair", allowed="valid Unicode")
        else:
            _check(item, (*place, key), file, faults)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

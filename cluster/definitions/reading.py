"""One file's text to a JSON tree: YAML or JSON, bounded, no duplicate keys, nothing that JSON cannot hold."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from cluster.definitions.faults import Faults, Place
from cluster.definitions.yaml_trees import Duplicated, Unreadable, from_pairs, read_integer, read_yaml, too_deep
from cluster.limits import DEFINITIONS_DEPTH_MAX, DEFINITIONS_FILE_BYTES_MAX

#: How a definitions file's name ends.
SUFFIXES: Final = (".yaml", ".yml", ".json")
def read_tree(file: str, content: str | bytes, faults: Faults) -> Any:
    """Give the file's JSON tree, or None after noting why it has none.

    `.json` is read as JSON, `.yaml` and `.yml` as YAML; other names as JSON where the text starts with a brace.
    """
    try:
        text = _decoded(content)
        as_json = file.endswith(".json") or (not file.endswith(SUFFIXES) and text.lstrip().startswith("{"))
        tree = _read_json(text) if as_json else read_yaml(text)
        if tree is None:
            message = "the file is empty"
            raise Unreadable(message, allowed="a mapping with version, sources, parent_models, …")
    except Unreadable as error:
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
        raise Unreadable(message, allowed=f"at most {DEFINITIONS_FILE_BYTES_MAX:,} bytes a file; split it")
    if isinstance(content, str):
        return content.removeprefix("\ufeff")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"the file is not UTF-8 text (byte {error.start})"
        raise Unreadable(message, allowed="YAML or JSON in UTF-8") from error


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=from_pairs, parse_constant=_no_constant, parse_int=read_integer)
    except json.JSONDecodeError as error:
        message = f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise Unreadable(message) from error
    except RecursionError as error:
        raise too_deep(()) from error


def _no_constant(name: str) -> Any:
    message = f"not valid JSON: {name}"
    raise Unreadable(message, allowed="finite numbers")


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
        if not math.isfinite(value):
            faults.add_to_file(file, place, "NaN and infinities are no JSON", allowed="finite numbers")
    elif isinstance(value, dict | list):
        _check_container(value, place, file, faults)
    else:
        message = f"a value of type {type(value).__name__} is no JSON"
        faults.add_to_file(file, place, message, allowed="mappings, lists, text, numbers, booleans, null")


def _check_container(value: dict[Any, Any] | list[Any], place: Place, file: str, faults: Faults) -> None:
    if len(place) >= DEFINITIONS_DEPTH_MAX:
        error = too_deep(place)
        faults.add_to_file(file, error.place, str(error), allowed=error.allowed)
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, (*place, index), file, faults)
        return
    if isinstance(value, Duplicated):
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

"""Several files' trees to one document, merged by id, and `${NAME}` from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from cluster.definitions.canonical import canonical_json
from cluster.definitions.document import SECTIONS, TOP_KEYS
from cluster.definitions.faults import Faults, Place, show

#: `$${` is a literal `${`; `${NAME}` is the variable; a `${` that is neither is a fault.
_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_VERSION: Final = 1
#: (section, id) -> (file, object).
_Seen: TypeAlias = dict[tuple[str, str], tuple[str, Any]]


def merge_trees(trees: Sequence[tuple[str, Any]], faults: Faults) -> dict[str, Any]:
    """Merge (file, tree) pairs into one document and say in `faults.origins` where each object came from.

    An object that is in two files with the same content counts once; with different content it is a fault that names
    both files. Settings are merged key by key.
    """
    merged: dict[str, Any] = {}
    seen: _Seen = {}
    sound = [(file, tree) for file, tree in trees if _is_document(file, tree, faults)]
    for file, tree in sound:
        _merge_settings(file, tree.get("settings"), merged, faults)
        for section in SECTIONS:
            _merge_section(file, section, tree.get(section), merged, seen, faults)
    if sound and not any("version" in tree for _, tree in sound):
        faults.add_to_file(sound[0][0], (), "required key version is missing", allowed="version: 1")
    merged["version"] = _VERSION
    return {key: merged[key] for key in TOP_KEYS if key in merged}


def merge_documents(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Give `base` with the objects of `change` put in by id (whole objects) and its settings by key."""
    merged = {**base, **{key: value for key, value in change.items() if key not in SECTIONS and key != "settings"}}
    if isinstance(change.get("settings"), dict):
        merged["settings"] = {**(base.get("settings") or {}), **change["settings"]}
    for section in SECTIONS:
        new = change.get(section)
        if isinstance(new, list):
            merged[section] = _merged_by_id(base.get(section) or (), new)
        elif new is not None:
            merged[section] = new  # at fault: parsing says so
    return merged


def _merged_by_id(base: Sequence[Any], new: Sequence[Any]) -> list[Any]:
    """Put `new` in, in the places of `base` where it has the id; what has no id or repeats one stays, for its fault."""
    by_id = {item["id"]: item for item in base}
    taken: set[str] = set()
    odd: list[Any] = []
    for item in new:
        id_ = item.get("id") if isinstance(item, dict) else None
        if not isinstance(id_, str) or id_ in taken:
            odd.append(item)
        else:
            taken.add(id_)
            by_id[id_] = item
    return [*by_id.values(), *odd]


def substitute(value: Any, env: Mapping[str, str], faults: Faults, place: Place = ()) -> Any:
    """Give a copy of the tree with `${NAME}` replaced in every text (not in keys); a name not in `env` is a fault."""
    if isinstance(value, str):
        return _substituted(value, env, faults, place) if "${" in value else value
    if isinstance(value, list):
        return [substitute(item, env, faults, (*place, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {key: substitute(item, env, faults, (*place, key)) for key, item in value.items()}
    return value


def _substituted(text: str, env: Mapping[str, str], faults: Faults, place: Place) -> str:
    sound = True

    def replace(match: re.Match[str]) -> str:
        nonlocal sound
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None:
            sound = False
            faults.add(place, "`${` without a name and a closing brace", allowed="${NAME}, or $${ for the text ${")
        elif name not in env:
            sound = False
            hint = faults.suggestion(name, env)
            message = f"the environment variable {name} is not set{hint}"
            faults.add(place, message, found=f"${{{name}}}", allowed=f"set {name}, or write $${{ for the text ${{")
        else:
            faults.substituted[env[name]] = name
            return env[name]
        return match[0]

    result = _REFERENCE.sub(replace, text)
    if not sound:
        faults.unset.add(place)
    return result


def _is_document(file: str, tree: Any, faults: Faults) -> bool:
    if not isinstance(tree, dict):
        faults.add_to_file(file, (), "the document is no mapping", found=show(tree), allowed=", ".join(TOP_KEYS))
        return False
    for key in tree:
        if key not in TOP_KEYS:
            hint = faults.suggestion(key, TOP_KEYS)
            faults.add_to_file(
                file, (key,), f"unknown key {show(key)}{hint}", found=show(tree[key]), allowed=", ".join(TOP_KEYS)
            )
    version = tree.get("version", _VERSION)
    if version != _VERSION or isinstance(version, bool):
        faults.add_to_file(file, ("version",), "unknown version", found=show(version), allowed=str(_VERSION))
    return True


def _merge_settings(file: str, settings: Any, merged: dict[str, Any], faults: Faults) -> None:
    if settings is None:
        return
    if not isinstance(settings, dict):
        faults.add_to_file(file, ("settings",), "settings is a mapping", found=show(settings), allowed="a mapping")
        return
    target = merged.setdefault("settings", {})
    for key, value in settings.items():
        if key in target and canonical_json(target[key]) != canonical_json(value):
            other = faults.origins.settings[key]
            message = f"the setting differs from the one in {other}"
            faults.add_to_file(file, ("settings", key), message, found=show(value), allowed="each setting in one file")
            continue
        faults.origins.settings.setdefault(key, file)
        target.setdefault(key, value)


def _merge_section(
    file: str, section: str, items: Any, merged: dict[str, Any], seen: _Seen, faults: Faults
) -> None:
    if items is None:
        return
    if not isinstance(items, list):
        faults.add_to_file(file, (section,), f"{section} is a list", found=show(items), allowed="a list of objects")
        return
    target = merged.setdefault(section, [])
    for index, item in enumerate(items):
        if _is_new(file, section, index, item, seen, faults):
            faults.origins.objects[section, len(target)] = (file, index)
            target.append(item)


def _is_new(
    file: str, section: str, index: int, item: Any, seen: _Seen, faults: Faults
) -> bool:
    id_ = item.get("id") if isinstance(item, dict) else None
    if not isinstance(id_, str):
        return True  # at fault: its own check says so
    if (section, id_) not in seen:
        seen[section, id_] = (file, item)
        return True
    other_file, other = seen[section, id_]
    place: Place = (section, index, "id")
    if other_file == file:
        faults.add_to_file(file, place, "the id is used twice", found=show(id_), allowed="each id once a section")
    elif canonical_json(other) != canonical_json(item):
        message = f"the id is in {other_file} too, with other content"
        faults.add_to_file(file, place, message, found=show(id_), allowed="each id once, or the same content in both")
    return False

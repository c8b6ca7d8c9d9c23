"""Definitions documents as the API shows and takes them: secrets hidden on the way out, put back on the way in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cluster.definitions.document import SECTIONS
from cluster.definitions.faults import Faults
from cluster.definitions.reading import read_tree
from cluster.definitions.trait_sources import SECRET_KEYS, secrets_of_uri
from cluster.edge import problems
from cluster.errors import DefinitionError

#: What is shown in place of a secret. Sent back unchanged, it stands for the secret that is stored.
HIDDEN: Final = "(hidden)"
_SECRET_NAME: Final = re.compile(
    r"secret|write_key|token|passw|credential|authorization|headers|api_?key|private_key|service_account", re.I
)
_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
#: Sections that a marketer may change.
EDITABLE: Final = frozenset({"audiences", "syncs", "alerts"})


def read_body(body: bytes, content_type: str) -> dict[str, Any]:
    """Give the tree of a document sent as JSON or YAML; raises Problem 400, 415 or 422."""
    file = _file_name(content_type)
    faults = Faults()
    tree = read_tree(file, body, faults)
    try:
        faults.raise_if_any()
    except DefinitionError as error:
        unreadable = problems.of_faults(list(error.faults))
        raise problems.Problem(400, "unreadable", "The body cannot be read.", unreadable.errors) from error
    if not isinstance(tree, dict):
        raise problems.unprocessable("The body is no mapping.")
    refuse_variables(tree)
    return tree


def _file_name(content_type: str) -> str:
    """Name the body for faults, so that its ending says how it is read; without a type its first byte decides."""
    if content_type in ("", "application/octet-stream", "text/plain"):
        return "body"
    if content_type == "application/json" or content_type.endswith("+json"):
        return "body.json"
    if content_type.endswith(("yaml", "yml")):
        return "body.yaml"
    message = f"The content type {content_type!r} is not read here; allowed: application/json, application/yaml."
    raise problems.Problem(415, "unsupported_media_type", message)


def refuse_variables(tree: Any) -> None:
    """Refuse `${NAME}`: it stands for the environment of whoever applies, which the server must not read for them."""
    found: list[Mapping[str, Any]] = [
        {"path": path, "message": "an environment variable is not read by the server", "found": text}
        for path, text in _texts(tree, "")
        if _VARIABLE.fullmatch(text)
    ]
    if found:
        raise problems.unprocessable("Apply documents with ${NAME} by `usher apply`, which puts the values in.", found)


def _texts(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _texts(value, f"{path}[{index}]")


def hide_secrets(section: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Give a copy of an object with its secrets hidden. Looks only where secrets can be: columns may be named so."""
    if section == "sources" and isinstance(config := item.get("config"), Mapping):
        item = {**item, "config": dict.fromkeys(config, HIDDEN)}
    if section in ("sources", "destinations"):
        return dict(_hidden(item, False))
    if section == "alert_channels":
        # Whoever knows the URL of an incoming webhook may post there.
        return {**_hidden(item, False), **({"url": HIDDEN} if "url" in item else {})}
    traits = item.get("traits")
    if section == "parent_models" and isinstance(traits, Mapping):
        return {**item, "traits": _hidden_sources(traits)}
    return dict(item)


def _hidden_sources(traits: Mapping[str, Any]) -> dict[str, Any]:
    """Hide secrets in the source of each table."""
    hidden = {**traits, "source": _hidden_source(traits["source"])} if "source" in traits else dict(traits)
    for section in ("tables", "related"):
        if isinstance(tables := traits.get(section), list):
            hidden[section] = [
                {**table, "source": _hidden_source(table.get("source"))} if isinstance(table, Mapping) else table
                for table in tables
            ]
    return hidden


def _hidden_source(source: Any) -> Any:
    """Hide a trait source's secret keys, and an address of any key that has a password in it."""
    if not isinstance(source, Mapping):
        return source
    secret = {
        key for key, value in source.items() if key in SECRET_KEYS or (isinstance(value, str) and secrets_of_uri(value))
    }
    return {**_hidden(source, False), **{key: HIDDEN for key in secret if source[key] is not None}}


def _hidden(tree: Any, secret: bool) -> Any:
    if isinstance(tree, Mapping):
        return {key: _hidden(value, secret or bool(_SECRET_NAME.search(key))) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_hidden(value, secret) for value in tree]
    return HIDDEN if secret and tree is not None else tree


def restore_secrets(tree: Any, stored: Any, path: str = "") -> Any:
    """Give a copy with hidden values put back from what is stored; raises Problem 422 where nothing is."""
    if isinstance(tree, Mapping):
        known = stored if isinstance(stored, Mapping) else {}
        return {
            key: restore_secrets(value, known.get(key), f"{path}.{key}" if path else str(key))
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [
            restore_secrets(value, _counterpart(value, index, stored), f"{path}[{index}]")
            for index, value in enumerate(tree)
        ]
    if tree == HIDDEN:
        if stored is None:
            row = {"path": path, "message": f"{HIDDEN} stands for a stored secret, but none is stored here"}
            raise problems.unprocessable("A secret is missing.", [row])
        return stored
    return tree


def _counterpart(value: Any, index: int, stored: Any) -> Any:
    """Give the stored item of a list that an item stands for: that of its id where it has one, else of its place."""
    known = stored if isinstance(stored, list) else []
    if isinstance(value, Mapping) and "id" in value:
        return next((item for item in known if isinstance(item, Mapping) and item.get("id") == value["id"]), None)
    return known[index] if index < len(known) else None


def restore_document(document: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Put hidden secrets back in a whole document, object by object by id."""
    restored = dict(document)
    for section in SECTIONS:
        items = document.get(section)
        if isinstance(items, list):
            restored[section] = [_restore_item(item, section, stored) for item in items]
    return restored


def _restore_item(item: Any, section: str, stored: Mapping[str, Any]) -> Any:
    if not isinstance(item, Mapping):
        return item
    known = find(stored, section, str(item.get("id")))
    return restore_secrets(item, known, f"{section}.{item.get('id')}")


def items(document: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    """Give the objects of a section."""
    return list(document.get(section) or [])


def find(document: Mapping[str, Any], section: str, object_id: str) -> dict[str, Any] | None:
    """Give one object of a section, None where there is none of that id."""
    return next((item for item in items(document, section) if item.get("id") == object_id), None)


def without(document: Mapping[str, Any], section: str, object_id: str) -> dict[str, Any]:
    """Give the document without one object."""
    kept = [item for item in items(document, section) if item.get("id") != object_id]
    return {**document, section: kept}


def sections_beyond(document: Mapping[str, Any], allowed: frozenset[str]) -> list[str]:
    """Name the sections that a document has and that are not allowed."""
    return sorted(set(document) - allowed - {"version"})

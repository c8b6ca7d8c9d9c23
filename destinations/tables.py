"""What docs/destinations.md says of each kind, from the kind itself: `python -m destinations.tables` prints it.

The tables can not go stale: a test holds the page to what this gives.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from destinations.contract import Destination
from destinations.registry import OWN
from destinations.settings import ApiSettings, HttpSettings

#: Keys that every kind has are described once.
SHARED = frozenset({*HttpSettings.model_fields, *ApiSettings.model_fields})


def shared_table() -> str:
    """Give the keys that every kind has."""
    return _table(ApiSettings, frozenset())


def settings_table(kind: Destination) -> str:
    """Give a kind's own keys, those of nested settings with a dot."""
    return _table(kind.settings_model, SHARED)


def identifiers_table(kind: Destination) -> str:
    """Give a kind's identifiers; empty where it takes any."""
    if kind.identifier_fields is None:
        return ""
    rows = [f"| `{name}` | {meaning} |" for name, meaning in kind.identifier_fields.items()]
    return "\n".join(["| identifier | meaning |", "|---|---|", *rows])


def _table(model: type[BaseModel], left_out: frozenset[str]) -> str:
    rows = [f"| `{name}` | {needed} | {text} |" for name, needed, text in _rows(model, "") if name not in left_out]
    return "\n".join(["| key | | meaning |", "|---|---|---|", *rows])


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        text = " ".join((field.description or "").split()).replace("|", "\\|")
        yield prefix + name, _needed(field), text
        for inner in _models_in(field.annotation):
            yield from _rows(inner, f"{prefix}{name}.")


def _needed(field: FieldInfo) -> str:
    words = ["required"] if field.is_required() else []
    words += ["secret"] if "SecretStr" in str(field.annotation) or field.annotation is SecretStr else []
    return ", ".join(words)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        for part in typing.get_args(annotation):
            yield from _models_in(part)


if __name__ == "__main__":
    print(shared_table())
    for _kind in OWN.values():
        print(f"\n## {_kind.kind}\n\n{settings_table(_kind)}\n\n{identifiers_table(_kind)}")

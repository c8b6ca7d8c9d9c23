"""Event models for events that arrived and that no model takes: a document to look over, not to trust."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cluster.definitions.document import EVENT_ROOTS

_TYPES: Final = ("track", "page", "screen", "identify", "group")
_PARENT: Final = "users"
#: Columns suggested for one model: those that most events had.
_COLUMNS_MAX: Final = 30
#: Names of columns that hold a person's own data.
_PERSONAL: Final = re.compile(r"e?mail|phone|mobile|address|birth|first_?name|last_?name|full_?name|^ip$", re.I)


def suggest(
    seen: Sequence[Mapping[str, Any]], document: Mapping[str, Any], names: Iterable[str] = ()
) -> dict[str, Any]:
    """Give a definitions document with a model for each row of `seen` that no model takes (of `names`, where given).

    What identify calls say becomes traits of a parent model that is suggested too.

    `seen` are the rows of `GET /api/v1/events/seen`, `document` the definitions in force. Without any parent model
    one is suggested too.
    """
    parents = [parent["id"] for parent in document.get("parent_models") or ()]
    taken = {model["id"] for model in document.get("event_models") or ()}
    wanted = set(names)
    result: dict[str, Any] = {"version": 1}
    parent: dict[str, Any] = {"id": _PARENT, "primary_key": "user_id"}
    if not parents:
        result["parent_models"] = [parent]
    models = []
    for row in seen:
        if row["type"] in _TYPES and (row["name"] in wanted if wanted else not row["models"]):
            models.append(_model(row, parents[0] if parents else _PARENT, taken))
            taken.add(models[-1]["id"])
            if not parents and row["type"] == "identify":
                _give_traits(parent, models[-1])
    return {**result, "event_models": models}


def _model(row: Mapping[str, Any], parent: str, taken: set[str]) -> dict[str, Any]:
    fields = {field["path"]: field for field in row["fields"]}
    keys = [name for name in ("user_id", "anonymous_id") if name in fields] or ["user_id"]
    model: dict[str, Any] = {"id": _id(row, taken), "parent": parent}
    if row["type"] != "track":
        model["type"] = row["type"]
    if row["name"] and row["type"] in ("track", "page", "screen"):
        model["event"] = row["name"]
    model["foreign_key"] = keys[0] if len(keys) == 1 else keys
    columns = _columns(list(fields.values()))
    return {**model, "columns": columns} if columns else model


def _give_traits(parent: dict[str, Any], model: dict[str, Any]) -> None:
    """Have the columns of an identify model that are in the call's traits as traits of the parent instead."""
    said, others = {}, {}
    for name, column in model.pop("columns", {}).items():
        if not column["path"].startswith("traits."):
            others[name] = column
            continue
        place = {} if column["path"] == f"traits.{name}" else {"path": column["path"]}
        personal = {"pii": True} if "pii" in column else {}
        said[name] = {"type": column["type"], "source": "identify", **place, **personal}
    if said:
        parent["traits"] = {"columns": said}
    if others:
        model["columns"] = others


def _id(row: Mapping[str, Any], taken: set[str]) -> str:
    text = re.sub(r"[^a-z0-9]+", "_", row["name"].lower()).strip("_") or row["type"]
    base = text[:100] if row["type"] == "track" or not row["name"] else f"{row['type']}_{text}"[:100]
    id_, number = base, 2
    while id_ in taken:
        id_, number = f"{base}_{number}", number + 1
    return id_


def _columns(fields: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Give the columns, the most frequent ones first; a name that two paths would share is the whole path."""
    own = [field for field in fields if "." in field["path"] and field["path"].partition(".")[0] in EVENT_ROOTS]
    own.sort(key=lambda field: -field["share"])
    columns: dict[str, Any] = {}
    for field in own[:_COLUMNS_MAX]:
        path = field["path"]
        short = path.rpartition(".")[2]
        name = short if short not in columns else path.replace(".", "_")
        column: dict[str, Any] = {"path": path, "type": _type(field["types"])}
        columns[name] = {**column, "pii": True} if _PERSONAL.search(short) else column
    return columns


def _type(types: Mapping[str, int]) -> str:
    """Give the type that reads every value: where they differ, text does (but for lists)."""
    found = set(types)
    if len(found) == 1:
        return next(iter(found))
    return "list" if found == {"list"} else "string"

"""Whole definitions documents, and trait snapshots that fit their parents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.conftest import START_MS
from tests.reference.values import duration_ms
from tests.strategies.conditions import ALL_HEADS, CHANNELS, NUMBERS, TAGS, TIMES, Node, conditions

COLUMNS: dict[str, Node] = {
    "channel": {"path": "properties.channel", "type": "string"},
    "amount": {"path": "properties.amount", "type": "number"},
    "first": {"path": "properties.is_first", "type": "boolean"},
    "sku": {"path": "properties.item.sku", "type": "string"},
    "seen_at": {"path": "properties.seen_at", "type": "timestamp"},
    "tags": {"path": "properties.tags", "type": "list"},
}
TRAIT_TYPES = {
    "ltv": "number",
    "tier": "string",
    "opted_in": "boolean",
    "last_seen": "timestamp",
    "interests": "list",
}
#: Traits that identify calls say.
SAID: dict[str, Node] = {
    "plan": {"type": "string", "source": "identify"},
    "score": {"type": "number", "source": "identify", "path": "traits.stats.score"},
    "trial": {"type": "boolean", "source": "identify"},
    "renews": {"type": "timestamp", "source": "identify"},
    "likes": {"type": "list", "source": "identify"},
}
said = st.just(()) | st.sets(st.sampled_from(sorted(SAID)), min_size=1, max_size=3)
USERS = ("u1", "u2", "12", "Zoë 🛒")
GROUPS = ("g1", "g2")
RETENTIONS = ("2s", "10s", "1m30s", "5m")

ARROW_TYPES = {
    "number": pa.float64(),
    "string": pa.string(),
    "boolean": pa.bool_(),
    "timestamp": pa.timestamp("ms", tz="UTC"),
    "list": pa.list_(pa.string()),
}


def retentions(document: Mapping[str, Any]) -> dict[str, int]:
    """The retention in ms of each event model."""
    own = document.get("settings", {}).get("retention", "7d")
    return {model["id"]: duration_ms(model.get("retention", own)) for model in document["event_models"]}


@st.composite
def documents(
    draw: st.DrawFn, heads: Sequence[str] = ALL_HEADS, audience_count: tuple[int, int] = (1, 5)
) -> Node:
    """A checked document: sources, one or two parents, several event models, audiences of the given heads."""
    parents = [_parent("users", "user_id", draw(st.booleans()), draw(said))]
    if draw(st.integers(0, 3)) == 0:
        parents.append(_parent("accounts", "account_id", draw(st.booleans()), draw(said)))
    document: Node = {
        "version": 1,
        "sources": [{"id": name, "kind": "http", "write_key": f"key-of-{name}"} for name in ("web", "app")],
        "parent_models": parents,
        "event_models": draw(event_models(parents)),
        "audiences": [],
    }
    settings = draw(_settings())
    if settings:
        document["settings"] = settings
    document["audiences"] = draw(audiences(document, heads, audience_count))
    return document


@st.composite
def audiences(
    draw: st.DrawFn, document: Node, heads: Sequence[str] = ALL_HEADS, count: tuple[int, int] = (1, 5)
) -> list[Node]:
    """Audiences over a document's models; a later one may name an earlier one of its parent."""
    made: list[Node] = []
    retention = retentions(document)
    for index in range(draw(st.integers(*count))):
        parent = draw(st.sampled_from(document["parent_models"]))
        models = [model for model in document["event_models"] if model["parent"] == parent["id"]]
        earlier = [each["id"] for each in made if each["parent"] == parent["id"]]
        where = draw(conditions(parent, models, {m["id"]: retention[m["id"]] for m in models}, earlier, heads))
        made.append({"id": f"a{index}", "name": f"Audience {index}", "parent": parent["id"], "where": where})
    return made


def _parent(name: str, key: str, with_traits: bool, said: Iterable[str]) -> Node:
    parent: Node = {"id": name, "primary_key": key}
    if with_traits:
        columns: Node = {trait: {"type": declared} for trait, declared in TRAIT_TYPES.items()}
        source = {"kind": "parquet", "path": f"{name}.parquet"}
        parent["traits"] = {"source": source, "refresh": "60s", "columns": columns}
    for trait in sorted(said):
        parent.setdefault("traits", {"columns": {}})["columns"][trait] = SAID[trait]
    return parent


def _settings() -> st.SearchStrategy[Node]:
    dedup = st.fixed_dictionaries({}, optional={"horizon": st.sampled_from(["1s", "2s"]), "max_ids": st.just(2)})
    return st.fixed_dictionaries(
        {}, optional={"retention": st.sampled_from(["5s", "1m30s"]), "dedup": dedup}
    )


@st.composite
def event_models(draw: st.DrawFn, parents: Sequence[Node]) -> list[Node]:
    """Event models: one model of each parent at least; the same event feeds several of them."""
    keys = {"users": ["user_id", ["user_id", "anonymous_id"], ["properties.buyer", "user_id"]],
            "accounts": ["group_id", ["properties.account", "group_id"]]}  # fmt: skip
    kinds = st.sampled_from([
        {"event": "view"}, {"event": "order"}, {}, {}, {"type": "page", "event": "view"}, {"type": "identify"},
    ])  # fmt: skip
    common = st.sampled_from([{"event": "view"}, {}])
    models = []
    for index in range(max(len(parents), draw(st.integers(1, 5)))):
        parent = parents[index]["id"] if index < len(parents) else draw(st.sampled_from(parents))["id"]
        model: Node = {"id": f"m{index}", "parent": parent, **draw(kinds if index else common)}
        model["foreign_key"] = draw(st.sampled_from(keys[parent]))
        model["timestamp"] = draw(st.sampled_from(["timestamp", "timestamp", "properties.seen_at"]))
        chosen = draw(st.sets(st.sampled_from(sorted(COLUMNS)), max_size=4))
        model["columns"] = {name: COLUMNS[name] for name in sorted(chosen)}
        if draw(st.integers(0, 6)) == 3:
            model["source"] = "web"
        if draw(st.booleans()):
            model["retention"] = draw(st.sampled_from(RETENTIONS))
        models.append(model)
    for parent in parents:
        calls = [model for model in models if (model["parent"], model.get("type")) == (parent["id"], "identify")]
        if said_columns(parent) and not calls:
            key = draw(st.sampled_from(keys[parent["id"]]))
            retention = draw(st.sampled_from(RETENTIONS))
            models.append({
                "id": f"m{len(models)}", "parent": parent["id"], "type": "identify", "foreign_key": key,
                "columns": {}, "retention": retention,
            })  # fmt: skip
    return models


def said_columns(parent: Mapping[str, Any]) -> dict[str, Node]:
    """A parent's traits that identify calls say."""
    columns = parent.get("traits", {}).get("columns", {})
    return {name: column for name, column in columns.items() if "source" in column}


@st.composite
def trait_tables(draw: st.DrawFn, document: Mapping[str, Any]) -> dict[str, pa.Table]:
    """A snapshot for each parent that declares traits: some users have no row, some values are null."""
    return {
        parent["id"]: draw(_table(parent)) for parent in document["parent_models"] if "traits" in parent
    }


@st.composite
def _table(draw: st.DrawFn, parent: Node) -> pa.Table:
    known = USERS if parent["id"] == "users" else GROUPS
    keys = sorted(draw(st.sets(st.sampled_from([*known, "cold"]), max_size=4)))
    columns: dict[str, Any] = {parent["primary_key"]: pa.array(keys, pa.string())}
    own = {name: column for name, column in parent["traits"]["columns"].items() if "source" not in column}
    for name, column in own.items():
        values = draw(st.lists(_trait_values(column["type"]), min_size=len(keys), max_size=len(keys)))
        columns[name] = pa.array(values, ARROW_TYPES[column["type"]])
    return pa.table(columns)


def _trait_values(declared: str) -> st.SearchStrategy[Any]:
    values: dict[str, st.SearchStrategy[Any]] = {
        "number": st.sampled_from([float(number) for number in NUMBERS]),
        "string": st.sampled_from(CHANNELS),
        "boolean": st.booleans(),
        "timestamp": st.sampled_from([*TIMES, START_MS + 3_000]),
        "list": st.lists(st.sampled_from(TAGS) | st.none(), max_size=3),
    }
    return st.none() | values[declared]

"""Whatever is done to a sound document, it parses or it raises DefinitionError; parsing scales with its size."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cluster.definitions.evaluable import unsupported
from cluster.definitions.model import Definitions
from cluster.definitions.parsing import parse_document, parse_documents
from cluster.definitions.versions import document_for_evaluation, publish
from cluster.errors import DefinitionError, Fault
from tests.cluster.definitions.sample import KINDS, Tree, document, faults_of

KEYS = st.sampled_from([
    "id", "where", "event", "all", "any", "not", "trait", "property", "audience", "sequence", "within", "since",
    "this", "tz",
    "between_ago", "after", "not_followed_by", "sum", "gt", "eq", "in", "matches", "type", "path", "columns",
    "parent", "x",
])  # fmt: skip
SCALARS = st.sampled_from([
    None, True, False, 0, -1, 1.5, 10**30, 10**400, "", "1h", "99999d", "users", "order", "channel", "ltv",
    "quiet", "hide_promo",
    "published", "archived", "(", "\ud800", "${X}", "$${", "a" * 2_000, ".", "a..b", "2026-11-01T00:00:00Z",
    "Europe/Berlin", "é",
])  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)


def attempt(parse: Callable[[], Definitions]) -> Definitions | list[Fault]:
    """Give what was parsed, or the faults; any other exception is the test's failure."""
    try:
        return parse()
    except DefinitionError as error:
        return error.faults


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the place of every value below a tree's top."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [below for key, item in items for below in ((*place, key), *places(item, (*place, key)))]


def mutate(tree: Tree, data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places(tree)))
    holder: Any = tree
    for step in place[:-1]:
        holder = holder[step]
    match data.draw(st.sampled_from(["replace", "remove", "add", "repeat"])):
        case "replace":
            holder[place[-1]] = data.draw(VALUES)
        case "remove":
            del holder[place[-1]]
        case "add" if isinstance(holder, dict):
            holder[data.draw(KEYS)] = data.draw(VALUES)
        case _ if isinstance(holder, list):
            holder.append(holder[place[-1]])


@given(st.data())
def test_a_mutated_document_parses_or_has_faults(data: st.DataObject) -> None:
    tree = document()
    for _ in range(data.draw(st.integers(1, 4))):
        if places(tree):
            mutate(tree, data)
    definitions = attempt(lambda: parse_document(tree, "shop.json", KINDS))
    if isinstance(definitions, list):
        assert definitions
        assert all(fault.file == "shop.json" and fault.message for fault in definitions)
        return
    assert parse_document(definitions.document, "shop.json", KINDS) == definitions
    read = parse_document(document_for_evaluation(definitions), "log", {})
    assert read.audiences == definitions.audiences
    unsupported(definitions)
    assert publish(publish(None, definitions), definitions).version == 2


@given(st.data())
def test_a_mutated_text_parses_or_has_faults(data: st.DataObject) -> None:
    text = json.dumps(document(), indent=data.draw(st.sampled_from([None, 1])))
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 20)))
    text = text[:at] + data.draw(st.text(max_size=5) | st.sampled_from(list('{}[],:"*&!|>#%@`-?\t'))) + text[until:]
    file = data.draw(st.sampled_from(["a.json", "a.yaml"]))
    assert attempt(lambda: parse_documents([(file, text)], {"X": "x"}, KINDS))


def test_ten_thousand_audiences_parse_each_once() -> None:
    """The bound on time is the test's timeout; what this holds is that nothing is quadratic and breaks it."""
    tree = document()
    first = tree["audiences"][0]
    tree["audiences"] = [{**first, "id": f"a{number}"} for number in range(10_000)]
    tree["syncs"] = []
    assert len(parse_document(tree, "shop.json", KINDS).audiences) == 10_000
    for audience in tree["audiences"]:
        audience["where"] = {"audience": f"{audience['id']}x"}
    assert len(faults_of(tree)) == 10_000

"""Definitions as the table that every peer's program is given: pure, and the same for all of them.

    {"start_ms", "until_ms", "models": how many,
     "leaves": [{"model", "at_least", "within_ms", "channel"?: eq, "amount_from"?: gte}],   by model
     "traits": [{"column", "above": number} or {"column", "texts": [...]}],
     "audiences": [{"number", "any": [[literal, ...], ...]}]}

A literal is the index of a leaf, or of a trait test behind the leaves; ~index is its negation. Audiences come
grouped by the event models they read; `number` is their place in the definitions.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from cluster.definitions.model import (
    All,
    AnyOf,
    Condition,
    EventCount,
    Not,
    PropertyTest,
    Published,
    TraitTest,
    Within,
)
from cluster.errors import InputError

Leaf = EventCount | TraitTest


def program_table(published: Published, *, start_ms: int, until_ms: int) -> dict[str, Any]:
    """Give the table as JSON values. Raises InputError for what the benchmark's definitions never hold."""
    definitions = published.definitions
    models = {name: index for index, name in enumerate(definitions.event_models)}
    conditions = [audience.where for audience in definitions.audiences.values()]
    found: dict[Leaf, None] = {leaf: None for condition in conditions for leaf in _leaves(condition)}
    counts = sorted((x for x in found if isinstance(x, EventCount)), key=lambda count: models[count.event])
    tests = [x for x in found if isinstance(x, TraitTest)]
    leaves: list[Leaf] = [*counts, *tests]
    numbers = {leaf: number for number, leaf in enumerate(leaves)}
    audiences = [{"number": number, "any": _terms(condition, numbers, negated=False)}
                 for number, condition in enumerate(conditions)]

    def models_read(audience: dict[str, Any]) -> list[int]:
        return [models[counts[x].event] for term in audience["any"] for x in term if 0 <= x < len(counts)]

    return {
        "start_ms": start_ms,
        "until_ms": until_ms,
        "models": len(models),
        "leaves": [{"model": models[count.event], **_count(count)} for count in counts],
        "traits": [_trait(test) for test in tests],
        "audiences": sorted(audiences, key=models_read),
    }


def _leaves(node: Condition) -> list[Leaf]:
    if isinstance(node, All | AnyOf):
        return [leaf for child in node.children for leaf in _leaves(child)]
    if isinstance(node, Not):
        return _leaves(node.child)
    if isinstance(node, EventCount | TraitTest):
        return [node]
    raise _unknown(node)


def _terms(node: Condition, numbers: dict[Leaf, int], *, negated: bool) -> list[list[int]]:
    """Give a condition in disjunctive form."""
    if isinstance(node, Not):
        return _terms(node.child, numbers, negated=not negated)
    if isinstance(node, All | AnyOf):
        parts = [_terms(child, numbers, negated=negated) for child in node.children]
        if isinstance(node, All) == negated:
            return [term for part in parts for term in part]
        return [[literal for term in terms for literal in term] for terms in product(*parts)]
    assert isinstance(node, EventCount | TraitTest), "the leaves were gathered before"
    return [[~numbers[node] if negated else numbers[node]]]


def _count(count: EventCount) -> dict[str, Any]:
    if count.comparison != "at_least" or not isinstance(count.window, Within):
        raise _unknown(count)
    table: dict[str, Any] = {"at_least": count.count, "within_ms": count.window.duration_ms}
    match count.where:
        case None:
            return table
        case PropertyTest(column="channel", test=test) if test.op == "eq" and not test.ignore_case:
            return {**table, "channel": test.operand}
        case PropertyTest(column="amount", test=test) if test.op == "gte":
            return {**table, "amount_from": test.operand}
        case _:
            raise _unknown(count)


def _trait(trait: TraitTest) -> dict[str, Any]:
    match trait.test.op, trait.test.operand:
        case "gt", float(above):
            return {"column": trait.trait, "above": above}
        case "in", tuple(texts) if not trait.test.ignore_case:
            return {"column": trait.trait, "texts": list(texts)}
        case _:
            raise _unknown(trait)


def _unknown(node: object) -> InputError:
    message = f"The peers' programs cannot express {node!r}."
    return InputError(message, next_step="They know event counts (at_least, within; channel eq, amount gte), "
                                         "traits (number gt, string in), all, any and not.")

"""Conditions -> program: leaves shared across audiences, rings shared across leaves, trees as postfix code.

`at_least n` is a leaf (true until the n-th latest + D). `at_most n` is its complement at n + 1, `exactly n` is
both: so a ring of n + 1 timestamps answers all three, and nothing ever counts. Leaves of the same event and filter
share one ring, whatever their n and D.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from actors.evaluator.filters import true_for_missing
from actors.evaluator.layout import (
    BLOCK_RINGS,
    OP_AND,
    OP_FALSE,
    OP_NOT,
    OP_OR,
    OP_TRUE,
    SMALL_RING,
    STACK_MAX,
    U64,
    ProgramArrays,
)
from actors.evaluator.program import Program, Ring, TraitLeaf
from cluster.admission.plan import EventPlan
from cluster.definitions.model import (
    All,
    AnyOf,
    Audience,
    Condition,
    EventCount,
    Filter,
    Not,
    Published,
    Test,
    TraitTest,
    Within,
)
from cluster.errors import InternalError

#: An event leaf: (model index, filter, n, duration_ms). A trait leaf: (parent index, trait, test).
_EventKey = tuple[int, Filter | None, int, int]
_TraitKey = tuple[int, str, Test]
_Symbol = _EventKey | _TraitKey | int


@dataclass(slots=True)
class _Collected:
    """What the audiences' trees name, before leaves have numbers."""

    model_index: dict[str, int]
    parent_index: dict[str, int]
    rings: dict[tuple[int, Filter | None], set[tuple[int, int]]] = field(default_factory=dict)
    traits: dict[_TraitKey, None] = field(default_factory=dict)


def compile_program(published: Published) -> Program:
    """Compile all evaluated audiences of `published`; O(nodes).

    Raises InternalError for a head this release does not evaluate: publishing refuses those before
    (`cluster.definitions.evaluable`).
    """
    definitions = published.definitions
    parents = tuple(definitions.parent_models)
    models = tuple(definitions.event_models.values())
    audiences = [audience for audience in definitions.audiences.values() if audience.evaluated]
    collected = _Collected(
        {model.id: i for i, model in enumerate(models)}, {parent: i for i, parent in enumerate(parents)}
    )
    trees = [_symbols(audience.where, audience, collected) for audience in audiences]
    rings, event_leaves = _number_events(collected, len(models))
    trait_leaves, leaf_words, word_parent = _number_traits(collected, len(event_leaves), len(parents))
    numbers: dict[_Symbol, int] = {key: leaf for key, leaf in event_leaves.items()}
    for leaves, (parent, _) in zip(trait_leaves, enumerate(parents), strict=True):
        numbers.update({(parent, leaf.trait, leaf.test): leaf.leaf for leaf in leaves})
    codes = [[_code(symbol, numbers) for symbol in tree] for tree in trees]
    default_words = _default_words(trait_leaves, leaf_words)
    audience_parent = [collected.parent_index[audience.parent] for audience in audiences]
    member_words = max(1, -(-len(audiences) // 64))
    arrays = ProgramArrays(
        **_model_arrays(published, rings, event_leaves, models),
        **_audience_arrays(codes, audience_parent, default_words, len(parents), leaf_words * 64),
        default_words=default_words,
        parent_retention=np.array([definitions.parent_retention_ms(p) for p in parents], np.int64),
        word_parent=np.array(word_parent, np.int32),
        shape=np.array(_shape(leaf_words, member_words, len(models)), np.int64),
    )
    return Program(
        published=published,
        arrays=arrays,
        parents=parents,
        models=models,
        model_columns=tuple(
            {name: f"c{place}" for name, place in columns.items()}
            for columns in EventPlan(definitions).columns_of_model
        ),
        rings=tuple(Ring(model, where) for model, where in rings),
        trait_leaves=trait_leaves,
        trait_columns=tuple(definitions.parent_models[p].columns for p in parents),
        audiences=tuple(audience.id for audience in audiences),
        audience_index={audience.id: i for i, audience in enumerate(audiences)},
        audience_versions=tuple(published.audience_versions[audience.id] for audience in audiences),
        leaf_words=leaf_words,
        member_words=member_words,
    )


def _shape(leaf_words: int, member_words: int, models: int) -> list[int]:
    first_member = 6 + leaf_words
    first_block = first_member + member_words
    return [leaf_words, member_words, models, first_member, first_block, first_block + models]


def _symbols(node: Condition, audience: Audience, out: _Collected) -> list[_Symbol]:
    """Write a tree as postfix symbols, collecting its leaves."""
    if isinstance(node, All | AnyOf):
        op = OP_AND if isinstance(node, All) else OP_OR
        result: list[_Symbol] = []
        for i, child in enumerate(node.children):
            result += _symbols(child, audience, out)
            if i:
                result.append(op)
        return result
    if isinstance(node, Not):
        return [*_symbols(node.child, audience, out), OP_NOT]
    if isinstance(node, TraitTest):
        key = (out.parent_index[audience.parent], node.trait, node.test)
        out.traits[key] = None
        return [key]
    if isinstance(node, EventCount) and isinstance(node.window, Within):
        return _count_symbols(node, node.window.duration_ms, out)
    message = f"audience {audience.id}: {type(node).__name__} is not evaluated by this release"
    raise InternalError(message)


def _count_symbols(node: EventCount, duration_ms: int, out: _Collected) -> list[_Symbol]:
    def at_least(n: int) -> list[_Symbol]:
        if n <= 0:
            return [OP_TRUE]
        model = out.model_index[node.event]
        out.rings.setdefault((model, node.where), set()).add((n, duration_ms))
        return [(model, node.where, n, duration_ms)]

    if node.comparison == "at_least":
        return at_least(node.count)
    too_many = [*at_least(node.count + 1), OP_NOT]
    if node.comparison == "at_most":
        return too_many
    return [*at_least(node.count), *too_many, OP_AND]


def _number_events(
    collected: _Collected, models: int
) -> tuple[list[tuple[int, Filter | None]], dict[_EventKey, int]]:
    """Order rings by model; leaves by ring, so that a ring's leaves are a range of leaf numbers."""
    rings = sorted(collected.rings, key=lambda ring: ring[0])
    assert all(model < models for model, _ in rings)
    leaves: dict[_EventKey, int] = {}
    for model, where in rings:
        for n, duration_ms in sorted(collected.rings[model, where]):
            leaves[model, where, n, duration_ms] = len(leaves)
    return rings, leaves


def _number_traits(
    collected: _Collected, first: int, parents: int
) -> tuple[tuple[tuple[TraitLeaf, ...], ...], int, list[int]]:
    """Give each parent's trait leaves words of their own, after those of the event leaves."""
    words = max(1, -(-first // 64))
    word_parent = [-1] * words
    result: list[tuple[TraitLeaf, ...]] = []
    for parent in range(parents):
        keys = [key for key in collected.traits if key[0] == parent]
        start = words * 64
        result.append(tuple(TraitLeaf(start + i, key[1], key[2]) for i, key in enumerate(keys)))
        more = -(-len(keys) // 64)
        words += more
        word_parent += [parent] * more
    return tuple(result), words, word_parent


def _code(symbol: _Symbol, numbers: dict[_Symbol, int]) -> int:
    return symbol if isinstance(symbol, int) else numbers[symbol]


def _default_words(trait_leaves: tuple[tuple[TraitLeaf, ...], ...], leaf_words: int) -> U64:
    result = np.zeros((max(1, len(trait_leaves)), leaf_words), np.uint64)
    for parent, leaves in enumerate(trait_leaves):
        for leaf in leaves:
            if true_for_missing(leaf.test):
                result[parent, leaf.leaf >> 6] |= np.uint64(1 << (leaf.leaf & 63))
    return result


def run_code(code: Iterable[int], truth: list[bool]) -> bool:
    """Run postfix code over leaf truths: the plain twin of `kernels.membership.evaluate`."""
    stack: list[bool] = []
    for op in code:
        if op >= 0:
            stack.append(truth[op])
        elif op in (OP_TRUE, OP_FALSE):
            stack.append(op == OP_TRUE)
        elif op == OP_NOT:
            stack.append(not stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            stack.append((left and right) if op == OP_AND else (left or right))
    return stack.pop()


def stack_depth(code: Iterable[int]) -> int:
    """Give the most values that the code holds at once."""
    depth = deepest = 0
    for op in code:
        if op >= 0 or op in (OP_TRUE, OP_FALSE):
            depth += 1
            deepest = max(deepest, depth)
        elif op in (OP_AND, OP_OR):
            depth -= 1
    return deepest


def _csr(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.zeros(len(lists) + 1, np.int32)
    starts[1:] = np.cumsum([len(items) for items in lists])
    flat = [item for items in lists for item in items]
    return starts, np.array(flat, np.int32)


def _audience_arrays(
    codes: list[list[int]], audience_parent: list[int], default_words: U64, parents: int, leaves: int
) -> dict[str, np.ndarray]:
    readers: list[list[int]] = [[] for _ in range(leaves)]
    by_parent: list[list[int]] = [[] for _ in range(parents)]
    defaults: list[list[int]] = [[] for _ in range(parents)]
    truths = [
        [bool(int(words[i >> 6]) >> (i & 63) & 1) for i in range(leaves)] for words in default_words
    ]
    for audience, code in enumerate(codes):
        if stack_depth(code) > STACK_MAX:
            message = f"audience number {audience} nests deeper than {STACK_MAX}"
            raise InternalError(message)
        parent = audience_parent[audience]
        by_parent[parent].append(audience)
        for leaf in dict.fromkeys(op for op in code if op >= 0):
            readers[leaf].append(audience)
        if run_code(code, truths[parent]):
            defaults[parent].append(audience)
    leaf_audiences, leaf_audience = _csr(readers)
    audience_code, code_flat = _csr(codes)
    parent_audiences, parent_audience = _csr(by_parent)
    default_audiences, default_audience = _csr(defaults)
    return {
        "leaf_audiences": leaf_audiences,
        "leaf_audience": leaf_audience,
        "audience_parent": np.array(audience_parent, np.int32),
        "audience_code": audience_code,
        "code": code_flat,
        "default_audiences": default_audiences,
        "default_audience": default_audience,
        "parent_audiences": parent_audiences,
        "parent_audience": parent_audience,
    }


def _model_arrays(
    published: Published,
    rings: list[tuple[int, Filter | None]],
    event_leaves: dict[_EventKey, int],
    models: tuple[object, ...],
) -> dict[str, np.ndarray]:
    definitions = published.definitions
    parent_index = {parent: i for i, parent in enumerate(definitions.parent_models)}
    by_ring: dict[tuple[int, Filter | None], list[tuple[int, int]]] = {ring: [] for ring in rings}
    for model, where, n, duration_ms in event_leaves:
        by_ring[model, where].append((n, duration_ms))
    capacity = [max(n for n, _ in by_ring[ring]) for ring in rings]
    block = [BLOCK_RINGS] * len(models)
    offset = []
    per_model = [0] * len(models)
    for (model, _), size in zip(rings, capacity, strict=True):
        offset.append(block[model])
        block[model] += size if size <= SMALL_RING else size + 1
        per_model[model] += 1
    all_models = list(definitions.event_models.values())
    return {
        "model_parent": np.array([parent_index[m.parent] for m in all_models], np.int32),
        "model_retention": np.array([m.retention_ms for m in all_models], np.int64),
        "model_block": np.array(block, np.int64),
        "model_rings": np.concatenate([[0], np.cumsum(per_model)]).astype(np.int32),
        "ring_offset": np.array(offset, np.int64),
        "ring_capacity": np.array(capacity, np.int64),
        "ring_leaves": np.concatenate([[0], np.cumsum([len(by_ring[r]) for r in rings])]).astype(np.int32),
        "ring_reach": np.array([max(d for _, d in by_ring[r]) for r in rings], np.int64),
        "leaf_n": np.array([key[2] for key in event_leaves], np.int64),
        "leaf_duration": np.array([key[3] for key in event_leaves], np.int64),
    }

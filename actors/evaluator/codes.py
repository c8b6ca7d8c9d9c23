"""Audiences as postfix code, in order of dependency, and what of it is true of a user of whom nothing is known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from actors.evaluator.layout import (
    OP_AND,
    OP_AUDIENCE,
    OP_FALSE,
    OP_NOT,
    OP_OR,
    OP_TRUE,
    STACK_MAX,
    U64,
)
from cluster.definitions.cycles import references
from cluster.definitions.model import Audience
from cluster.errors import InternalError


def in_order_of_dependency(audiences: Iterable[Audience]) -> list[Audience]:
    """Order audiences so that what one refers to lies before it, else as they are; there is no cycle."""
    named = {audience.id: audience for audience in audiences}
    result: dict[str, Audience] = {}
    for audience in named.values():
        waiting = [audience]
        while waiting:
            missing = [id_ for id_ in references(waiting[-1].where) if id_ in named and id_ not in result]
            if missing:
                waiting.append(named[missing[0]])
            else:
                last = waiting.pop()
                result[last.id] = last
    return list(result.values())


def referred(code: Iterable[int]) -> list[int]:
    """Give the audiences that a code reads, each once."""
    return list(dict.fromkeys(OP_AUDIENCE - op for op in code if op <= OP_AUDIENCE))


def in_order_of_reading(codes: Sequence[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Give an order of audiences in which those that read the same leaves lie together, and their codes in it.

    What refers to others lies behind all that refers to less. An event flips leaves that lie together, and membership
    bits should be found together too: with 10,000 audiences a row of them is 20 cache lines.
    """
    depths: list[int] = []
    for code in codes:
        depths.append(1 + max((depths[other] for other in referred(code)), default=-1))
    first_leaf = [min((op for op in code if op >= 0), default=0) for code in codes]
    order = sorted(range(len(codes)), key=lambda audience: (depths[audience], first_leaf[audience], audience))
    place = {audience: i for i, audience in enumerate(order)}
    moved = [
        [OP_AUDIENCE - place[OP_AUDIENCE - op] if op <= OP_AUDIENCE else op for op in codes[audience]]
        for audience in order
    ]
    return order, moved


def run_code(code: Iterable[int], truth: Sequence[bool], members: Sequence[bool]) -> bool:
    """Run postfix code over leaf truths and memberships: the plain twin of `kernels.membership.evaluate`."""
    stack: list[bool] = []
    for op in code:
        if op >= 0:
            stack.append(truth[op])
        elif op <= OP_AUDIENCE:
            stack.append(members[OP_AUDIENCE - op])
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
        if op in (OP_AND, OP_OR):
            depth -= 1
        elif op != OP_NOT:
            depth += 1
            deepest = max(deepest, depth)
    return deepest


def csr(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Flatten lists: int32 starts, one more than lists, and their items."""
    starts = np.zeros(len(lists) + 1, np.int32)
    starts[1:] = np.cumsum([len(items) for items in lists])
    return starts, np.array([item for items in lists for item in items], np.int32)


def audience_arrays(
    codes: list[list[int]], audience_parent: list[int], default_words: U64, parents: int
) -> dict[str, np.ndarray]:
    """Give the arrays of `ProgramArrays` that are about audiences; O(codes)."""
    leaves = default_words.shape[1] * 64
    readers: list[list[int]] = [[] for _ in range(leaves)]
    referrers: list[list[int]] = [[] for _ in codes]
    by_parent: list[list[int]] = [[] for _ in range(parents)]
    defaults: list[list[int]] = [[] for _ in range(parents)]
    truths = [[bool(bit) for bit in np.unpackbits(words.view(np.uint8), bitorder="little")] for words in default_words]
    true_by_default = [False] * len(codes)
    for audience, code in enumerate(codes):
        if stack_depth(code) > STACK_MAX:
            message = f"audience number {audience} nests deeper than {STACK_MAX}"
            raise InternalError(message)
        parent = audience_parent[audience]
        by_parent[parent].append(audience)
        for leaf in dict.fromkeys(op for op in code if op >= 0):
            readers[leaf].append(audience)
        for other in referred(code):
            referrers[other].append(audience)
        true_by_default[audience] = run_code(code, truths[parent], true_by_default)
        if true_by_default[audience] or referred(code):
            # One that refers may be true because another is not what it is by default, without a flip of its own.
            defaults[parent].append(audience)
    leaf_audiences, leaf_audience = csr(readers)
    audience_code, code_flat = csr(codes)
    parent_audiences, parent_audience = csr(by_parent)
    default_audiences, default_audience = csr(defaults)
    audience_referrers, audience_referrer = csr(referrers)
    return {
        "leaf_audiences": leaf_audiences,
        "leaf_audience": leaf_audience,
        "audience_parent": np.array(audience_parent, np.int32),
        "audience_code": audience_code,
        "code": code_flat,
        "audience_refers": np.array([bool(referred(code)) for code in codes], np.uint8),
        "audience_referrers": audience_referrers,
        "audience_referrer": audience_referrer,
        "default_audiences": default_audiences,
        "default_audience": default_audience,
        "parent_audiences": parent_audiences,
        "parent_audience": parent_audience,
    }

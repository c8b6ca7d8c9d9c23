"""Audiences of few inputs as tables of truth: the hot loop looks one up instead of running code, without a branch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from actors.evaluator.codes import referred, run_code
from actors.evaluator.layout import (
    FIRST_WORD,
    I64,
    OP_AUDIENCE,
    RULE_CODE,
    RULE_FOUR,
    RULE_INPUTS_MAX,
    RULE_WORDS,
)


def audience_rules(codes: Sequence[list[int]], first_member: int) -> I64:
    """Give `ProgramArrays.audience_rules`; `first_member`: the word of the user's row where membership begins.

    O(nodes * 2^RULE_INPUTS_MAX) at most.
    """
    known: dict[tuple[int, ...], list[int]] = {}
    rules = np.zeros((len(codes), RULE_WORDS), np.int64)
    for audience, code in enumerate(codes):
        leaves = list(dict.fromkeys(op for op in code if op >= 0))
        inputs = [*leaves, *(OP_AUDIENCE - other for other in referred(code))]
        # Most audiences have the shape of another.
        shape = tuple(inputs.index(op) if op in inputs else op - len(inputs) for op in code)
        if len(inputs) > RULE_INPUTS_MAX:
            rules[audience] = [0, 0, 0, RULE_CODE]
            continue
        if shape not in known:
            known[shape] = _table(code, inputs)
        bits = [(FIRST_WORD << 6) + op if op >= 0 else (first_member << 6) + OP_AUDIENCE - op for op in inputs]
        rules[audience] = [_signed(_bits(known[shape])), *_packed(bits or [0])]
    return rules.reshape(-1)


def _table(code: list[int], inputs: list[int]) -> list[int]:
    """Run the code on every assignment; input 0 is the lowest bit of a row's number."""
    rows = []
    for assignment in product((False, True), repeat=len(inputs)):
        truth = dict(zip(inputs, reversed(assignment), strict=True))
        renamed = [inputs.index(op) if op in truth else op for op in code]
        rows.append(int(run_code(renamed, [truth[op] for op in inputs], ())))
    return rows


def _bits(rows: list[int]) -> int:
    """Make 2^RULE_INPUTS_MAX rows of fewer, where what the missing inputs are does not matter, a number."""
    rows = rows * ((1 << RULE_INPUTS_MAX) // len(rows))
    return sum(row << place for place, row in enumerate(rows))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def _packed(bits: list[int]) -> list[int]:
    wide = len(bits) > 4
    bits = bits + bits[:1] * (RULE_INPUTS_MAX - len(bits))
    first, second, third = (bits[i] | bits[i + 1] << 32 for i in (0, 2, 4))
    return [first, second, third if wide else RULE_FOUR]

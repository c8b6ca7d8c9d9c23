"""From leaf flips to transitions: which audiences to look at again, what they say now, what is emitted.

The laws: membership is evaluated once per user and instant (semantics.md §3); kinds alternate because a transition
is emitted only where the membership bit differs; `n` counts the transitions of this user and audience at the same
`at`.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    ALIVE,
    ANY_REFERS,
    FIRST_MEMBER,
    FIRST_WORD,
    FLAGS,
    LAST_AT,
    LAST_TR,
    OP_AND,
    OP_AUDIENCE,
    OP_NOT,
    OP_OR,
    OP_TRUE,
    RULE_CODE,
    RULE_FOUR,
    RULE_INPUTS,
    RULE_TABLE,
    RULE_WORDS,
    S_CLOCK,
    S_DIRTY,
    S_HEAP,
    S_INSTANT_AT,
    S_INSTANT_LEN,
    S_OUT,
    S_STAMP,
    S_TOUCHED,
    S_WHEEL,
)

_ONE = np.uint64(1)
_ZERO = np.uint64(0)
#: The first of two inputs in a word of a rule.
_LOW = 0xFFFFFFFF


@inner
def touch(s: StateTable, user: int) -> None:
    """Note that the user's row changed, for the publication of membership."""
    if s.touched_stamp[user] == 0:
        s.touched_stamp[user] = 1
        s.touched[s.scalars[S_TOUCHED]] = user
        s.scalars[S_TOUCHED] += 1


@inner
def begin(s: StateTable) -> None:
    """Start a new collection of dirty audiences."""
    s.scalars[S_STAMP] += 1
    s.scalars[S_DIRTY] = 0


@inner
def mark_audience(s: StateTable, audience: int) -> None:
    """Note an audience to evaluate, once."""
    if s.audience_stamp[audience] != s.scalars[S_STAMP]:
        s.audience_stamp[audience] = s.scalars[S_STAMP]
        s.dirty[s.scalars[S_DIRTY]] = audience
        s.scalars[S_DIRTY] += 1


@inner
def mark_leaf(p: ProgramTable, s: StateTable, leaf: int) -> None:
    """Note the audiences that read a leaf."""
    for i in range(p.leaf_audiences[leaf], p.leaf_audiences[leaf + 1]):
        mark_audience(s, p.leaf_audience[i])


@inner
def mark_defaults(p: ProgramTable, s: StateTable, parent: int) -> None:
    """Note the audiences that are true for a user of whom nothing is known (trait-only, `not`-only)."""
    for i in range(p.default_audiences[parent], p.default_audiences[parent + 1]):
        mark_audience(s, p.default_audience[i])


@inner
def mark_parent(p: ProgramTable, s: StateTable, parent: int) -> None:
    """Note all audiences of a parent."""
    for i in range(p.parent_audiences[parent], p.parent_audiences[parent + 1]):
        mark_audience(s, p.parent_audience[i])


@inner
def _input(s: StateTable, user: int, place: int) -> int:
    """Give a bit of the user's row."""
    return int((s.words[user, place >> 6] >> np.uint64(place & 63)) & _ONE)


@inner
def evaluate(p: ProgramTable, s: StateTable, user: int, audience: int) -> bool:
    """Say whether an audience holds for a user: look its inputs up in its table of truth, or run its code."""
    if (s.users[user, FLAGS] & ALIVE) == 0:
        return False
    rule = audience * RULE_WORDS
    last = p.audience_rules[rule + RULE_INPUTS + 2]
    if last == RULE_CODE:
        return _run(p, s, user, audience)
    first = p.audience_rules[rule + RULE_INPUTS]
    second = p.audience_rules[rule + RULE_INPUTS + 1]
    inputs = _input(s, user, first & _LOW)
    inputs |= _input(s, user, first >> 32) << 1
    inputs |= _input(s, user, second & _LOW) << 2
    inputs |= _input(s, user, second >> 32) << 3
    if last != RULE_FOUR:
        inputs |= _input(s, user, last & _LOW) << 4
        inputs |= _input(s, user, last >> 32) << 5
    return ((p.audience_rules[rule + RULE_TABLE] >> inputs) & 1) != 0


@kernel
def _run(p: ProgramTable, s: StateTable, user: int, audience: int) -> bool:
    """Run one audience's postfix program on the user's leaf truths; O(its nodes)."""
    stack = _ZERO
    for i in range(p.audience_code[audience], p.audience_code[audience + 1]):
        code = p.code[i]
        if code >= 0:
            bit = (s.words[user, FIRST_WORD + (code >> 6)] >> np.uint64(code & 63)) & _ONE
            stack = (stack << _ONE) | bit
        elif code == OP_AND:
            stack = (stack >> _ONE) & (stack | ~_ONE)
        elif code == OP_OR:
            stack = (stack >> _ONE) | (stack & _ONE)
        elif code == OP_NOT:
            stack ^= _ONE
        elif code == OP_TRUE:
            stack = (stack << _ONE) | _ONE
        elif code <= OP_AUDIENCE:
            other = OP_AUDIENCE - code
            bit = (s.words[user, p.shape[FIRST_MEMBER] + (other >> 6)] >> np.uint64(other & 63)) & _ONE
            stack = (stack << _ONE) | bit
        else:
            stack = stack << _ONE
    return (stack & _ONE) == _ONE


@inner
def _emit(s: StateTable, user: int, audience: int, entered: bool, at: int, cause: int) -> None:
    # Once neither the wheel nor an input can come back to the latest instant noted, nobody's number goes on from it.
    if s.scalars[S_INSTANT_AT] < min(at, s.scalars[S_WHEEL], s.scalars[S_CLOCK]):
        s.scalars[S_INSTANT_LEN] = 0
    s.scalars[S_INSTANT_AT] = max(s.scalars[S_INSTANT_AT], at)
    n = 0
    previous = -1
    if s.users[user, LAST_AT] == at:
        previous = s.users[user, LAST_TR]
        look = previous
        while look >= 0:
            if s.instant_audience[look] == audience:
                n = s.instant_n[look] + 1
                break
            look = s.instant_previous[look]
    place = s.scalars[S_INSTANT_LEN]
    s.instant_audience[place] = audience
    s.instant_n[place] = n
    s.instant_previous[place] = previous
    s.scalars[S_INSTANT_LEN] = place + 1
    s.users[user, LAST_AT] = at
    s.users[user, LAST_TR] = place
    out = s.scalars[S_OUT]
    s.out_user[out] = user
    s.out_audience[out] = audience
    s.out_at[out] = at
    s.out_n[out] = n
    s.out_kind[out] = 1 if entered else 0
    s.out_cause[out] = cause
    s.scalars[S_OUT] = out + 1


@inner
def _decide(p: ProgramTable, s: StateTable, user: int, audience: int, at: int, cause: int) -> None:
    """Evaluate one audience; where membership changed, emit it and mark the audiences that refer to it."""
    word = p.shape[FIRST_MEMBER] + (audience >> 6)
    bit = np.uint64(audience & 63)
    was = ((s.words[user, word] >> bit) & _ONE) == _ONE
    now = evaluate(p, s, user, audience)
    if now != was:
        s.words[user, word] ^= _ONE << bit
        _emit(s, user, audience, now, at, cause)
        if p.shape[ANY_REFERS] != 0:
            for i in range(p.audience_referrers[audience], p.audience_referrers[audience + 1]):
                mark_audience(s, p.audience_referrer[i])


@kernel
def _push(s: StateTable, audience: int) -> None:
    """Put an audience on the heap of those that refer to others, the least index first."""
    child = s.scalars[S_HEAP]
    s.scalars[S_HEAP] = child + 1
    while child > 0:
        parent = (child - 1) >> 1
        if s.heap[parent] <= audience:
            break
        s.heap[child] = s.heap[parent]
        child = parent
    s.heap[child] = audience


@kernel
def _pop(s: StateTable) -> int:
    top = s.heap[0]
    last = s.scalars[S_HEAP] - 1
    s.scalars[S_HEAP] = last
    moved = s.heap[last]
    parent = 0
    while True:
        child = 2 * parent + 1
        if child >= last:
            break
        if child + 1 < last and s.heap[child + 1] < s.heap[child]:
            child += 1
        if s.heap[child] >= moved:
            break
        s.heap[parent] = s.heap[child]
        parent = child
    s.heap[parent] = moved
    return top


@inner
def settle(p: ProgramTable, s: StateTable, user: int, at: int, cause: int) -> None:
    """Evaluate the dirty audiences of a user once at one instant, referenced ones first, and emit what changed.

    Audiences lie in order of dependency, so those that refer to others go by index, after all that refer to none.
    """
    i = 0
    while i < s.scalars[S_DIRTY] or s.scalars[S_HEAP] > 0:
        while i < s.scalars[S_DIRTY]:
            audience = s.dirty[i]
            if p.shape[ANY_REFERS] != 0 and p.audience_refers[audience] != 0:
                _push(s, audience)
            else:
                _decide(p, s, user, audience, at, cause)
            i += 1
        if s.scalars[S_HEAP] > 0:
            _decide(p, s, user, _pop(s), at, cause)


@inner
def has_room(p: ProgramTable, s: StateTable, parent: int) -> bool:
    """Say whether one more evaluation of a user fits the output and instant buffers."""
    most = p.parent_audiences[parent + 1] - p.parent_audiences[parent]
    return (
        s.scalars[S_OUT] + most <= s.out_user.size
        and s.scalars[S_INSTANT_LEN] + most <= s.instant_audience.size
    )

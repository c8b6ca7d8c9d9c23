"""Where each number lies: columns of a user's row, words of a block, fields of the scalars, codes.

A user is one row of an int64 matrix, so that an event touches few cache lines:
`[LAST_TS, DUE, LAST_AT, LAST_TR, FLAGS, PRESENCE_DUE | leaf words | membership words | a block per event model]`.

A block holds all rings of one (user, event model) side by side in the block arena (int64):
`[user << 16 | model, armed due | ring 0 | ring 1 | ...]`. A ring of capacity n <= SMALL_RING is n timestamps, the
latest first; a larger one is circular with a leading word for the place of the latest. Block 0 is never given
out: it means none.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

#: No such time: before every timestamp, or after every due time.
NEVER_BEFORE: Final = -(2**62)
NEVER: Final = 2**62

# --- a user's row --------------------------------------------------------------------------------
LAST_TS: Final = 0  #: the greatest ts of an accepted event, NEVER_BEFORE if there is none
DUE: Final = 1  #: a lower bound of the user's next due time, NEVER if nothing is armed
LAST_AT: Final = 2  #: `at` of the user's latest transition
LAST_TR: Final = 3  #: its index in the instant buffer, valid while LAST_AT is the current instant
FLAGS: Final = 4
PRESENCE_DUE: Final = 5  #: when the armed universe timer fires, NEVER if none is armed
FIRST_WORD: Final = 6

ALIVE: Final = 1  #: in the universe (semantics.md, end of §1)
IN_SNAPSHOT: Final = 2  #: has a row in the current trait snapshot
LOADED: Final = 4  #: scratch mark of a snapshot being applied

# --- a block -------------------------------------------------------------------------------------
BLOCK_OWNER: Final = 0
BLOCK_DUE: Final = 1
BLOCK_RINGS: Final = 2
#: Up to this capacity a ring is shifted, above it is circular.
SMALL_RING: Final = 4

# --- scalars -------------------------------------------------------------------------------------
S_CLOCK: Final = 0
S_WHEEL: Final = 1  #: the next ms that the wheel has not worked off
S_USERS: Final = 2
S_ARENA_TOP: Final = 3
S_NODE_TOP: Final = 4
S_NODE_FREE: Final = 5  #: head of the free list of timer nodes, -1 none
S_NODES: Final = 6  #: timer nodes in use
S_OUT: Final = 7  #: transitions written to the output columns
S_INSTANT_AT: Final = 8
S_INSTANT_LEN: Final = 9
S_DUE_AT: Final = 10  #: the instant whose due list is being worked off
S_DUE_NEXT: Final = 11
S_DUE_LEN: Final = 12
S_KEY_TOP: Final = 13  #: bytes used of the key arena
S_DEDUP_COUNT: Final = 14
S_DEDUP_HEAD: Final = 15  #: first entry of the dedup queue
S_DEDUP_LEN: Final = 16
S_DEDUP_EVICTED: Final = 17  #: ids evicted early because of max_ids
S_DEDUP_HORIZON_FROM: Final = 18  #: the clock of the newest id evicted early: the effective horizon's start
S_STAMP: Final = 19
S_DIRTY: Final = 20
S_BLOCKS: Final = 21  #: blocks in use
S_ALIVE: Final = 22  #: users in the universe
S_TOUCHED: Final = 23
S_COUNT: Final = 32

# --- wheel ---------------------------------------------------------------------------------------
#: Two levels of 2^16 slots: 1 ms each, then 65.536 s each (49.7 days a turn).
WHEEL_BITS: Final = 16
WHEEL_SLOTS: Final = 1 << WHEEL_BITS
WHEEL_MASK: Final = WHEEL_SLOTS - 1

# --- boolean programs (postfix; a code >= 0 pushes that leaf's truth) -----------------------------
OP_NOT: Final = -1
OP_AND: Final = -2
OP_OR: Final = -3
OP_TRUE: Final = -4
OP_FALSE: Final = -5
#: The stack is one 64-bit word.
STACK_MAX: Final = 60

# --- results -------------------------------------------------------------------------------------
ACCEPTED: Final = 0
DUPLICATE: Final = 1
TOO_LATE: Final = 2

DONE: Final = 0
NEED_ROOM: Final = 1

CAUSE_EVENT: Final = 0
CAUSE_TIME: Final = 1
CAUSE_TRAITS: Final = 2
CAUSE_DEFINITION: Final = 3
CAUSES: Final = ("event", "time", "traits", "definition")


class ProgramArrays(NamedTuple):
    """The compiled definitions, flat. A: audiences, L: leaves, R: rings, M: event models, P: parents."""

    model_parent: I32  #: [M]
    model_retention: I64  #: [M] ms
    model_block: I64  #: [M] words of a block
    model_rings: I32  #: [M + 1] CSR into rings
    ring_offset: I64  #: [R] word inside the block
    ring_capacity: I64  #: [R]
    ring_leaves: I32  #: [R + 1] CSR into event leaves (leaf index = position)
    ring_reach: I64  #: [R] the longest duration of its leaves, ms
    leaf_n: I64  #: [event leaves]
    leaf_duration: I64  #: [event leaves] ms
    leaf_audiences: I32  #: [L + 1] CSR into leaf_audience
    leaf_audience: I32
    audience_parent: I32  #: [A]
    audience_code: I32  #: [A + 1] CSR into code
    code: I32
    default_audiences: I32  #: [P + 1] CSR into default_audience: true for a user of whom nothing is known
    default_audience: I32
    default_words: U64  #: [P, leaf words] truth of all leaves for such a user
    parent_retention: I64  #: [P] ms
    parent_audiences: I32  #: [P + 1] CSR into parent_audience
    parent_audience: I32
    word_parent: I32  #: [leaf words] parent whose trait leaves lie in it, -1 event leaves
    shape: I64  #: [leaf words, membership words, M, first membership column, first block column, row words]


class StateArrays(NamedTuple):
    """Everything that changes. `users` and `words` are two views of one matrix."""

    scalars: I64
    users: I64  #: [capacity, row words]
    words: U64  #: the same memory
    user_parent: I16
    user_hash: U64
    key_start: I64
    key_length: I32
    key_bytes: U8
    key_table: U64  #: high half of the hash | slot + 1; 0 empty; size a power of two
    arena: I64
    block_free: I64  #: [M] head of the free list of each model's blocks, 0 none (the next one in its word 1)
    node_next: I32
    node_target: I64  #: block, or -(user + 1) for a universe timer
    node_due: I64
    wheel_near: I32  #: [2^16] heads, -1 empty
    wheel_far: I32
    near_bits: U64  #: [1024] occupancy
    far_bits: U64
    due_keys: I64  #: user << 32 | index: the due list of one instant
    due_targets: I64
    dirty: I32  #: [A]
    audience_stamp: I64  #: [A]
    out_user: I32
    out_audience: I32
    out_at: I64
    out_n: I32
    out_kind: U8  #: 1 entered, 0 exited
    out_cause: U8
    instant_audience: I32
    instant_n: I32
    instant_previous: I32
    dedup_first: U64
    dedup_second: U64
    dedup_clock: I64  #: NEVER_BEFORE: empty
    dedup_queue_first: U64
    dedup_queue_second: U64
    dedup_queue_clock: I64
    touched: I32  #: users whose row changed since the last publication of membership
    touched_stamp: I64

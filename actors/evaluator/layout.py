"""Where each number lies: columns of a user's row, words of a page, fields of the scalars, codes.

A user is one row of an int64 matrix, so that an event touches few cache lines:
`[LAST_TS, DUE, LAST_AT, LAST_TR, FLAGS, DIRECTORY | leaf words | membership words | dues | places | trait times]`.

What an event leaves behind lies in *pages*: the structures (`ProgramArrays.struct_*`) that one user's events of one
kind feed, side by side in the arena (int64). The first DIRECT_PAGES pages of the program have a due time and a place
(32 bits: the number of its line) in the row; the others of which a user has one are listed in the user's directory,
sorted by page: `[count | page << 40 | place, due | ...]`. Place 0 is never given out: it means none.

Structures, by kind, as they lie in a page:
  RING      n timestamps of events, latest first; above SMALL_RING circular behind a word for the latest's place
  DISTINCT  [chunk, -, count]; chunk: (ts, value id), latest first: each value once, at its latest
  SUM       [chunk, head, count, sum, low part, error]; chunk: a deque of (ts, value), oldest first
  SEQUENCE  [chunk, head, count]; chunk: a deque of (ts, position, steps, best start of each prefix of the steps)
  ABANDON   [chunk, head, count, ts, row, ts, row]: the two latest follow-ups of different rows; a deque of (ts, row)
  LATEST    [0, 0, 0, ts, row, value, bits ...]: the latest row that says a trait; of its filters, which it satisfies
RING, DISTINCT and SUM of a window that begins A ago are fed late: events younger than A wait in a deque of their own
[chunk, head, count] behind the structure. A chunk is `[words | ...]`, words a power of two.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cluster.arrays import LINE_BYTES

I64 = NDArray[np.int64]
I16 = NDArray[np.int16]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

#: Rows, pages and chunks begin a line of the processor's cache and fill it: int64 words of one.
LINE_WORDS: Final = LINE_BYTES // 8


def whole_lines(words: int) -> int:
    """Give the words of the cache lines that so many need."""
    return -(-words // LINE_WORDS) * LINE_WORDS


#: No such time: before every timestamp, or after every due time.
NEVER_BEFORE: Final = -(2**62)
NEVER: Final = 2**62

# --- a user's row --------------------------------------------------------------------------------
LAST_TS: Final = 0  #: the greatest ts of an accepted event, NEVER_BEFORE if there is none
DUE: Final = 1  #: when the user's timer fires: a lower bound of the next due time; NEVER: not in the wheel
LAST_AT: Final = 2  #: `at` of the user's latest transition
LAST_TR: Final = 3  #: its index in the instant buffer, valid for as long as one more may come at LAST_AT
FLAGS: Final = 4
DIRECTORY: Final = 5  #: place of the chunk that lists the user's pages beyond the direct ones, 0 none
FIRST_WORD: Final = 6

ALIVE: Final = 1  #: in the universe (semantics.md, end of §1)
IN_SNAPSHOT: Final = 2  #: has a row in the current trait snapshot
LOADED: Final = 4  #: scratch mark of a snapshot being applied
FRESH: Final = 8  #: has other traits from S_TRAITS_AT on: `fresh_row` says where they are

#: In `fresh_row`: the snapshot has no row of this user.
GONE: Final = -1

#: Pages with a place in the row. More would widen every row for the few users that have them.
DIRECT_PAGES: Final = 16
#: A directory entry's first word is page << PLACE_BITS | place.
PLACE_BITS: Final = 40
PLACE_MASK: Final = (1 << PLACE_BITS) - 1

# --- structures ----------------------------------------------------------------------------------
RING: Final = 0
DISTINCT: Final = 1
SUM: Final = 2
SEQUENCE: Final = 3
ABANDON: Final = 4
LATEST: Final = 5
#: Up to this capacity a ring is shifted, above it is circular.
SMALL_RING: Final = 4
#: Words of a deque in its structure, and where each is.
DEQUE: Final = 3
D_CHUNK: Final = 0
D_HEAD: Final = 1
D_COUNT: Final = 2
#: Words of a sum: its deque, then the sum in two parts and the bound of its error (all three float64).
SUM_HIGH: Final = 3
SUM_LOW: Final = 4
SUM_ERROR: Final = 5
SUM_WORDS: Final = 6
#: Words of an abandonment: its deque, then two follow-ups.
FOLLOW_TS: Final = 3
FOLLOW_ROW: Final = 4
SECOND_TS: Final = 5
SECOND_ROW: Final = 6
ABANDON_WORDS: Final = 7
#: Words of a latest row: a deque's, which stay empty, then its ts, row and time; then a bit for each filter.
LATEST_TS: Final = 3
LATEST_ROW: Final = 4
LATEST_VALUE: Final = 5
LATEST_BITS: Final = 6
#: Words of an entry of each deque; a sequence's has one more per step.
PAIR: Final = 2
SEQUENCE_ENTRY: Final = 3
#: The smallest chunk, as a power of two.
CHUNK_BITS_MIN: Final = 4
CHUNK_CLASSES: Final = 48

# --- leaves --------------------------------------------------------------------------------------
#: How long an event at ts counts for a leaf. Until ts + span: WITHIN; only if ts >= origin: SINCE; but no longer than
#: to the next boundary of calendar `origin`: THIS.
WITHIN: Final = 0
SINCE: Final = 1
THIS: Final = 2
#: What a SUM's leaf compares, and how.
OF_SUM: Final = 0
OF_AVERAGE: Final = 1
GT: Final = 0
GTE: Final = 1
LT: Final = 2
LTE: Final = 3
EQ: Final = 4
#: Trait leaves that change as time passes (semantics.md §2).
WITHIN_LAST: Final = 0
MORE_THAN_AGO: Final = 1
WITHIN_NEXT: Final = 2
#: What a LATEST's leaf asks: one of these three of its time, or whether the row satisfies the leaf's filter.
OF_FILTER: Final = 3
#: A missing trait time.
MISSING: Final = -(2**63)

# --- scalars -------------------------------------------------------------------------------------
S_CLOCK: Final = 0
S_WHEEL: Final = 1  #: the first ms of which the wheel has not made all changes
S_USERS: Final = 2
S_ARENA_TOP: Final = 3
S_FED: Final = 4  #: structures fed by the step at hand that are to be looked at after it
S_POSITION: Final = 5  #: rows before the batch at hand: the position in the log is this plus the row
S_TIMERS: Final = 6  #: users in the wheel
S_OUT: Final = 7  #: transitions written to the output columns
S_INSTANT_AT: Final = 8  #: the latest `at` in the instant buffers
S_INSTANT_LEN: Final = 9
S_NEED: Final = 10  #: words of the arena without which the kernel could not go on
S_WORK: Final = 11  #: users brought up to date by the wheel since the call began
S_CAPPED: Final = 12  #: events that fell out of a full deque
S_KEY_TOP: Final = 13  #: bytes used of the key arena
S_DEDUP_COUNT: Final = 14
S_DEDUP_HEAD: Final = 15  #: first entry of the dedup queue
S_DEDUP_LEN: Final = 16
S_DEDUP_EVICTED: Final = 17  #: ids evicted early because of max_ids
S_DEDUP_HORIZON_FROM: Final = 18  #: the clock of the newest id evicted early: the effective horizon's start
S_STAMP: Final = 19
S_DIRTY: Final = 20
S_BLOCKS: Final = 21  #: pages in use
S_ALIVE: Final = 22  #: users in the universe
S_TOUCHED: Final = 23
S_HEAP: Final = 24
S_ARENA_USED: Final = 25  #: words of the arena in use by pages and chunks
#: Users of the wheel foreseen by the call at hand; of these, whose directory, and whose listed pages were asked for.
S_AHEAD: Final = 26
S_LISTED: Final = 27
S_PAGED: Final = 28
S_AHEAD_USER: Final = 29  #: who is foreseen next, -1: the first user of the next slot
S_AHEAD_MS: Final = 30  #: from when on that slot is looked for
S_TRAITS_AT: Final = 31  #: when the snapshot that is prepared holds from; NEVER: not known yet, or there is none
S_TRAITS_ON: Final = 32  #: 1: it was taken, and those who are FRESH are given its traits as they are brought up to date
S_TRAITS_LEFT: Final = 33  #: users that are FRESH
S_COUNT: Final = 40

# --- wheel ---------------------------------------------------------------------------------------
#: Two levels of 2^16 slots: 1 ms each, then 65.536 s each (49.7 days a turn); behind them the list being dealt out.
WHEEL_BITS: Final = 16
WHEEL_SLOTS: Final = 1 << WHEEL_BITS
WHEEL_MASK: Final = WHEEL_SLOTS - 1
DEALING: Final = 2 * WHEEL_SLOTS
#: Users whose memory is asked for together when timers are dealt out; and places for users foreseen, a power of two.
WAVE_STEP: Final = 32
AHEAD_STEP: Final = 32

# --- boolean programs (postfix; a code >= 0 pushes that leaf's truth) -----------------------------
OP_NOT: Final = -1
OP_AND: Final = -2
OP_OR: Final = -3
OP_TRUE: Final = -4
OP_FALSE: Final = -5
#: Codes at and below push membership: of audience OP_AUDIENCE - code.
OP_AUDIENCE: Final = -16
#: The stack is one 64-bit word.
STACK_MAX: Final = 60

# --- results -------------------------------------------------------------------------------------
ACCEPTED: Final = 0
DUPLICATE: Final = 1
TOO_LATE: Final = 2

DONE: Final = 0
NEED_ROOM: Final = 1
BEHIND: Final = 2  #: as much as was asked for is done, and something due remains

CAUSE_EVENT: Final = 0
CAUSE_TIME: Final = 1
CAUSE_TRAITS: Final = 2
CAUSE_DEFINITION: Final = 3
CAUSES: Final = ("event", "time", "traits", "definition")

# --- shape (ProgramArrays.shape) -----------------------------------------------------------------
LEAF_WORDS: Final = 0
MEMBER_WORDS: Final = 1
PAGES: Final = 2
FIRST_MEMBER: Final = 3
FIRST_DUE: Final = 4
FIRST_TIME: Final = 5
ROW_WORDS: Final = 6
DIRECT: Final = 7  #: pages with a place in the row
ANY_LATE: Final = 8  #: 1: some page grows as time passes
ANY_REFERS: Final = 9  #: 1: some audience refers to another
FIRST_PLACE: Final = 10  #: counted in 32 bits: a column of `halves`
FIRST_TRAIT: Final = 11  #: leaf words of traits, those of all parents, up to FIRST_MEMBER

# --- records: what the hot loop reads together lies together, int64 words ------------------------
FEED_WORDS: Final = 8
FEED_STRUCT: Final = 0
FEED_PAGE: Final = 1
FEED_OFFSET: Final = 2  #: `struct_offset`
FEED_CAPACITY: Final = 3
FEED_REACH: Final = 4  #: the longest span of its leaves, ms
FEED_RING: Final = 5  #: 1: a ring without a delay
#: Sequence: bits of the steps served; abandonment: 1 the first event, 2 a follow-up; latest: 0 the row itself, else
#: 1 + the filter that it satisfies.
FEED_STEPS: Final = 6
FEED_VALUE: Final = 7  #: column of the values, -1 none
#: In a simple or narrow page: where in it the n-th latest is, and for how many ms it counts.
END_WORDS: Final = 2
END_PLACE: Final = 0
END_SPAN: Final = 1
#: An audience of few inputs is a table of truth: bit i of it is what it says where i is made of its inputs. They are
#: bits of the user's row, two to a word; inputs that are not there are the first one again.
RULE_WORDS: Final = 4
RULE_TABLE: Final = 0
RULE_INPUTS: Final = 1
RULE_INPUTS_MAX: Final = 6
#: Instead of the last two inputs.
RULE_FOUR: Final = -1  #: the first four are all
RULE_CODE: Final = -2  #: there are more than RULE_INPUTS_MAX: its code is to be run

# --- pages (ProgramArrays.page_plain) -------------------------------------------------------------
GENERAL: Final = 0
PLAIN: Final = 1  #: small rings alone, none fed late
SIMPLE: Final = 2  #: and all of its windows are WITHIN
#: And all of its spans fit 32 bits, so its timestamps do: [base | offsets to it, 32 bits each]. Half as many lines.
NARROW: Final = 3
#: Such an offset: there is no event.
NARROW_NEVER: Final = -(2**31)
NARROW_MAX: Final = 2**31 - 1
#: 32-bit places of a narrow page before its first offset.
NARROW_FIRST: Final = 2


class ProgramArrays(NamedTuple):
    """The compiled definitions, flat. A: audiences, L: leaves, E: event leaves, F: filters, S: structures, G: pages,
    M: event models, P: parents.
    """  # noqa: D205

    model_parent: I32  #: [M]
    model_retention: I64  #: [M] ms
    model_words: I64  #: [M] words of all pages that its events may open
    model_plain: U8  #: [M] 1: its events feed rings alone, and none of them late
    filter_feeds: I32  #: [F + 1] CSR into feeds
    feeds: I64  #: [feeds * FEED_WORDS]
    struct_page: I32  #: [S]
    struct_offset: I64  #: [S] word inside the page; of a narrow page, 32 bits each
    struct_kind: I32  #: [S]
    #: [S] RING, DISTINCT: entries kept; SEQUENCE: steps; ABANDON: ms before the first event counts; LATEST: bit words
    struct_capacity: I64
    struct_leaves: I32  #: [S + 1] CSR into event leaves (leaf index = position)
    struct_reach: I64  #: [S] the longest span of its leaves, ms
    struct_delay: I64  #: [S] ms before an event counts, 0: at once
    struct_waiting: I64  #: [S] word inside the page of the deque of events that do not count yet
    struct_search: U8  #: [S] 1: a sequence in which one row may have two times
    page_structs: I32  #: [G + 1] CSR into structures
    page_words: I64  #: [G]
    page_late: U8  #: [G] 1: some structure of it grows as time passes
    page_plain: U8  #: [G] GENERAL, PLAIN, SIMPLE, NARROW
    page_leaves: I32  #: [G + 1] CSR into event leaves: a page's are a range
    leaf_n: I64  #: [E] RING, DISTINCT: the n of at_least n; LATEST: its bit
    leaf_ends: I64  #: [E * END_WORDS]
    leaf_window: I32  #: [E] WITHIN, SINCE, THIS
    leaf_span: I64  #: [E] ms
    leaf_origin: I64  #: [E] SINCE: ms; THIS: calendar; LATEST: ms of the operator
    leaf_of: I32  #: [E] SUM: OF_SUM, OF_AVERAGE; LATEST: WITHIN_LAST ... OF_FILTER
    leaf_compare: I32  #: [E] SUM: GT ... EQ
    leaf_value: F64  #: [E] SUM: what it is compared with
    leaf_audiences: I32  #: [L + 1] CSR into leaf_audience
    leaf_audience: I32
    time_leaves: I32  #: [P + 1] CSR into time_*: trait leaves that change as time passes
    time_leaf: I32  #: leaf
    time_column: I32  #: column of the trait times
    time_op: I32  #: WITHIN_LAST, MORE_THAN_AGO, WITHIN_NEXT
    time_span: I64  #: ms
    audience_parent: I32  #: [A] audiences lie in order of dependency: what one refers to lies before it
    audience_code: I32  #: [A + 1] CSR into code
    code: I32
    audience_rules: I64  #: [A * RULE_WORDS]
    audience_refers: U8  #: [A] 1: it refers to another
    audience_referrers: I32  #: [A + 1] CSR into audience_referrer
    audience_referrer: I32
    default_audiences: I32  #: [P + 1] CSR into default_audience: those that may be true of a user who comes in
    default_audience: I32
    default_words: U64  #: [P, leaf words] truth of all leaves for such a user
    parent_retention: I64  #: [P] ms
    parent_audiences: I32  #: [P + 1] CSR into parent_audience, ascending
    parent_audience: I32
    word_parent: I32  #: [leaf words] parent whose snapshot leaves lie in it, -1 others
    shape: I64  #: see LEAF_WORDS ... ANY_REFERS


class StateArrays(NamedTuple):
    """Everything that changes.

    `users`, `words` and `halves` are views of one matrix, `arena`, `reals` and `offsets` of one vector.
    """

    scalars: I64
    users: I64  #: [capacity, row words]
    words: U64  #: the same memory
    halves: I32  #: the same memory, 32 bits each
    user_parent: I16
    user_hash: U64
    key_place: I64  #: start in key_bytes << 16 | length
    key_bytes: U8
    key_table: U64  #: high half of the hash | slot + 1; 0 empty; size a power of two
    arena: I64
    reals: F64  #: the same memory
    offsets: I32  #: the same memory, 32 bits each
    page_free: I64  #: [G] head of the free list of each page's places, 0 none (the next one in its word 0)
    chunk_free: I64  #: [CHUNK_CLASSES] the same of chunks by size
    wheel: I32  #: [2 * 2^16 + 1] heads, -1 empty
    #: [2 * capacity] the next user of the same slot, -1 the last; the one before; the first: -2 - slot
    timer_links: I32
    near_bits: U64  #: [1024] occupancy
    far_bits: U64
    calendar_starts: I32  #: [calendars + 1] CSR into calendar_bounds
    calendar_bounds: I64  #: boundaries, ascending
    calendar_hint: I32  #: [calendars] the boundary last found
    wave: I32  #: [WAVE_STEP] users whose timers are dealt out
    ahead: I32  #: [AHEAD_STEP] users about to be brought up to date
    due_pages: I32  #: [G] pages of the user at hand that are due
    fed_struct: I32
    fed_page: I64
    dirty: I32  #: [A]
    heap: I32  #: [A]
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
    fresh_row: I32  #: of a FRESH user: 1 and its row in the snapshot that is prepared; GONE: it has none there
    fresh_words: U64  #: [rows, leaf words] trait truths of that snapshot
    fresh_times: I64  #: [rows, time columns]


class HitArrays(NamedTuple):
    """The hits of a slice, a row each but for the filters that match."""

    rows: I32
    models: I16
    slots: I32
    clocks: I64
    times: I64
    relative: U8  #: 1: its time is an offset to the clock
    timed: U8  #: 0: the clock is its time
    match_offsets: I32  #: [hits + 1] CSR into matches
    matches: I32  #: filters
    values: I64  #: [hits, value columns]
    first_hash: U64  #: of the message id; 0: it has none
    second_hash: U64
    outcomes: U8  #: written


class BatchKeys(NamedTuple):
    """Keys to be given slots: the buffers of an Arrow string column, and whose they are."""

    parents: I32
    offsets: I32  #: [keys + 1]
    data: U8
    slots: I32  #: written
    hashes: U64  #: written

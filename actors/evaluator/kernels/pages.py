"""Pages: the structures of one user's events of one kind, side by side, and where they are found.

The first DIRECT_PAGES of the program have a place and a due time in the user's row; others are listed in the user's
directory, so a user pays for the pages it has, whatever number there is.
"""

from __future__ import annotations

import numpy as np

from actors.evaluator.kernels.abandonment import abandonment_clear
from actors.evaluator.kernels.chunks import chunk_bits, clear, drop, free_chunk, new_chunk
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.latest import latest_clear
from actors.evaluator.kernels.narrow import narrow_clear
from actors.evaluator.kernels.prefetch import prefetch, prefetch_row
from actors.evaluator.kernels.rings import ring_clear
from actors.evaluator.kernels.sums import sum_clear
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    ABANDON,
    DIRECT,
    DIRECTORY,
    END_WORDS,
    FIRST_DUE,
    FIRST_MEMBER,
    FIRST_PLACE,
    FIRST_TIME,
    FIRST_TRAIT,
    FIRST_WORD,
    LATEST,
    LINE_WORDS,
    NARROW,
    NEVER,
    PAGES,
    PLACE_BITS,
    PLACE_MASK,
    RING,
    ROW_WORDS,
    RULE_WORDS,
    S_ARENA_TOP,
    S_ARENA_USED,
    S_BLOCKS,
    SUM,
)

#: Words of a page that are asked for at most.
_PAGE_ASKED = 32
#: Words of a row that are asked for whole.
_ROW_ASKED = 32
#: Pages up to which a directory is counted through.
_LISTED_FEW = 16


@inner
def direct_place(p: ProgramTable, s: StateTable, user: int, page: int) -> int:
    """Give the place of a user's direct page, 0 if there is none."""
    return int(s.halves[user, p.shape[FIRST_PLACE] + page]) * LINE_WORDS


@inner
def set_direct(p: ProgramTable, s: StateTable, user: int, page: int, place: int) -> None:
    """Give a direct page its place, 0: none; it is not due."""
    s.halves[user, p.shape[FIRST_PLACE] + page] = place // LINE_WORDS
    s.users[user, p.shape[FIRST_DUE] + page] = NEVER


@inner
def directory_count(s: StateTable, user: int) -> int:
    """Give how many pages the user's directory lists."""
    directory = s.users[user, DIRECTORY]
    return s.arena[directory + 1] if directory != 0 else 0


@kernel
def listed(s: StateTable, user: int, page: int) -> int:
    """Give the index of a page in the user's directory, or -(index where it would be) - 1."""
    low = 0
    high = directory_count(s, user)
    base = s.users[user, DIRECTORY] + 2
    if high <= _LISTED_FEW:
        # Counting without a branch beats halving with one that no predictor guesses.
        least = np.int64(page) << PLACE_BITS
        for i in range(high):
            low += int(s.arena[base + 2 * i] < least)
        if low < high and (s.arena[base + 2 * low] >> PLACE_BITS) == page:
            return low
        return -low - 1
    while low < high:
        middle = (low + high) // 2
        found = s.arena[base + 2 * middle] >> PLACE_BITS
        if found == page:
            return middle
        if found < page:
            low = middle + 1
        else:
            high = middle
    return -low - 1


@inner
def find_page(p: ProgramTable, s: StateTable, user: int, page: int) -> int:
    """Give where a page's entry lies: -1 for a direct one, else its place in the arena; 0: the user has none."""
    if page < p.shape[DIRECT]:
        return -1 if direct_place(p, s, user, page) != 0 else 0
    index = listed(s, user, page)
    return 0 if index < 0 else s.users[user, DIRECTORY] + 2 + 2 * index


@inner
def page_at(p: ProgramTable, s: StateTable, user: int, page: int) -> int:
    """Give the place of a user's page, 0 if there is none."""
    if page < p.shape[DIRECT]:
        return direct_place(p, s, user, page)
    index = listed(s, user, page)
    return 0 if index < 0 else s.arena[s.users[user, DIRECTORY] + 2 + 2 * index] & PLACE_MASK


@inner
def set_page_due(p: ProgramTable, s: StateTable, user: int, page: int, due: int) -> None:
    """Set the due time of a user's page; the page exists."""
    if page < p.shape[DIRECT]:
        s.users[user, p.shape[FIRST_DUE] + page] = due
    else:
        s.arena[s.users[user, DIRECTORY] + 3 + 2 * listed(s, user, page)] = due


@inner
def ask_row(p: ProgramTable, s: StateTable, user: int) -> None:
    """Ask for what any event or due time of a user touches of its row, all of it if that is little."""
    prefetch_row(s.users, user, 0)
    if p.shape[ROW_WORDS] <= _ROW_ASKED:
        for column in range(LINE_WORDS, p.shape[ROW_WORDS], LINE_WORDS):
            prefetch_row(s.users, user, column)
        return
    for column in range(p.shape[FIRST_DUE], p.shape[FIRST_TIME], LINE_WORDS):
        prefetch_row(s.users, user, column)
    # An audience reads its traits whenever one of its events comes.
    stop = min(p.shape[FIRST_MEMBER], p.shape[FIRST_TRAIT] + 2 * LINE_WORDS)
    for column in range(p.shape[FIRST_TRAIT], stop, LINE_WORDS):
        prefetch_row(s.users, user, column)


@inner
def ask_directory(s: StateTable, directory: int) -> None:
    """Ask for a user's directory, as far as one of few pages reaches."""
    for line in range(3):
        prefetch(s.arena, directory + line * LINE_WORDS)


@inner
def ask_words(p: ProgramTable, s: StateTable, user: int, page: int) -> None:
    """Ask for the words of a user's row that a page's events and due times touch: leaves, and their first audiences.

    And for what the program says of them, where it is too large to be at hand anyway.
    """
    leaf = np.int64(p.page_leaves[page])
    last = np.int64(p.page_leaves[page + 1])
    if leaf < last:
        prefetch_row(s.users, user, FIRST_WORD + (leaf >> 6))
        reader = p.leaf_audiences[leaf]
        large = p.shape[PAGES] > p.shape[DIRECT]
        if reader < p.leaf_audiences[leaf + 1]:
            audience = np.int64(p.leaf_audience[reader])
            prefetch_row(s.users, user, p.shape[FIRST_MEMBER] + (audience >> 6))
            if large:
                for word in range(RULE_WORDS * audience, RULE_WORDS * (audience + last - leaf), LINE_WORDS):
                    prefetch(p.audience_rules, word)
        if large:
            for word in range(END_WORDS * leaf, END_WORDS * last, LINE_WORDS):
                prefetch(p.leaf_ends, word)


@inner
def ask_place(p: ProgramTable, s: StateTable, page: int, place: int) -> None:
    """Ask for a page itself, as far as one is read at once."""
    for word in range(place, place + min(p.page_words[page], _PAGE_ASKED), LINE_WORDS):
        prefetch(s.arena, word)


@kernel
def _enter(s: StateTable, user: int, page: int, place: int) -> None:
    """List a new page in the user's directory."""
    index = -listed(s, user, page) - 1
    count = directory_count(s, user)
    old = s.users[user, DIRECTORY]
    if old == 0 or 2 * (count + 1) + 2 > s.arena[old]:
        fresh = new_chunk(s, chunk_bits(4 * (count + 1) + 1))
        for w in range(2 * count):
            s.arena[fresh + 2 + w] = s.arena[old + 2 + w]
        if old != 0:
            free_chunk(s, old)
        s.users[user, DIRECTORY] = fresh
        old = fresh
    base = old + 2
    for w in range(2 * count - 1, 2 * index - 1, -1):
        s.arena[base + w + 2] = s.arena[base + w]
    s.arena[base + 2 * index] = (np.int64(page) << PLACE_BITS) | place
    s.arena[base + 2 * index + 1] = NEVER
    s.arena[old + 1] = count + 1


@kernel
def _leave(s: StateTable, user: int, page: int) -> None:
    """Take a page from the user's directory."""
    index = listed(s, user, page)
    directory = s.users[user, DIRECTORY]
    count = s.arena[directory + 1] - 1
    if count == 0:
        free_chunk(s, directory)
        s.users[user, DIRECTORY] = 0
        return
    for w in range(2 * index, 2 * count):
        s.arena[directory + 2 + w] = s.arena[directory + 4 + w]
    s.arena[directory + 1] = count


@inner
def directory_growth(s: StateTable, user: int, more: int) -> int:
    """Give the words that may be taken until the user's directory lists `more` further pages."""
    return 8 * (directory_count(s, user) + more + 2)


@kernel
def new_page(p: ProgramTable, s: StateTable, user: int, page: int) -> int:
    """Give the user a page with empty structures; the caller made room in the arena."""
    place = s.page_free[page]
    if place != 0:
        s.page_free[page] = s.arena[place]
    else:
        place = s.scalars[S_ARENA_TOP]
        s.scalars[S_ARENA_TOP] = place + p.page_words[page]
    s.scalars[S_ARENA_USED] += p.page_words[page]
    s.scalars[S_BLOCKS] += 1
    if p.page_plain[page] == NARROW:
        narrow_clear(p, s, page, place)
    else:
        _clear(p, s, page, place)
    if page < p.shape[DIRECT]:
        set_direct(p, s, user, page, place)
    else:
        _enter(s, user, page, place)
    return place


@inner
def _clear(p: ProgramTable, s: StateTable, page: int, place: int) -> None:
    for struct in range(p.page_structs[page], p.page_structs[page + 1]):
        at = place + p.struct_offset[struct]
        kind = p.struct_kind[struct]
        if kind == RING:
            ring_clear(s.arena, at, p.struct_capacity[struct])
        else:
            clear(s, at)
            if kind == SUM:
                sum_clear(s, at)
            elif kind == ABANDON:
                abandonment_clear(s, at)
            elif kind == LATEST:
                latest_clear(s, at, p.struct_capacity[struct])
        if p.struct_delay[struct] > 0:
            clear(s, place + p.struct_waiting[struct])


@kernel
def free_page(p: ProgramTable, s: StateTable, user: int, page: int, place: int) -> None:
    """Give a page back with all that its structures hold."""
    for struct in range(p.page_structs[page], p.page_structs[page + 1]):
        if p.struct_kind[struct] != RING:
            drop(s, place + p.struct_offset[struct])
        if p.struct_delay[struct] > 0:
            drop(s, place + p.struct_waiting[struct])
    if page < p.shape[DIRECT]:
        set_direct(p, s, user, page, 0)
    else:
        _leave(s, user, page)
    s.arena[place] = s.page_free[page]
    s.page_free[page] = place
    s.scalars[S_ARENA_USED] -= p.page_words[page]
    s.scalars[S_BLOCKS] -= 1

"""Moving users into other arrays: what `compacting.py` runs."""

from __future__ import annotations

from actors.evaluator.kernels.chunks import chunk_bits, new_chunk
from actors.evaluator.kernels.jit import inner, kernel
from actors.evaluator.kernels.pages import direct_place
from actors.evaluator.kernels.tables import ProgramTable, StateTable
from actors.evaluator.layout import (
    D_CHUNK,
    DIRECT,
    DIRECTORY,
    FIRST_PLACE,
    I32,
    LINE_WORDS,
    PLACE_BITS,
    PLACE_MASK,
    RING,
    S_ARENA_TOP,
    S_ARENA_USED,
    S_BLOCKS,
)


@inner
def _copy_chunk(source: StateTable, target: StateTable, chunk: int) -> int:
    words = source.arena[chunk]
    fresh = new_chunk(target, chunk_bits(words - 1))
    for w in range(1, words):
        target.arena[fresh + w] = source.arena[chunk + w]
    return fresh


@inner
def _copy_deque(source: StateTable, target: StateTable, at: int) -> None:
    """Give the deque at `at` (in the target) a copy of its chunk."""
    chunk = target.arena[at + D_CHUNK]
    if chunk != 0:
        target.arena[at + D_CHUNK] = _copy_chunk(source, target, chunk)


@kernel
def _copy_page(p: ProgramTable, source: StateTable, target: StateTable, page: int, place: int) -> int:
    fresh = target.scalars[S_ARENA_TOP]
    words = p.page_words[page]
    target.scalars[S_ARENA_TOP] = fresh + words
    target.scalars[S_ARENA_USED] += words
    target.scalars[S_BLOCKS] += 1
    for w in range(words):
        target.arena[fresh + w] = source.arena[place + w]
    for struct in range(p.page_structs[page], p.page_structs[page + 1]):
        if p.struct_kind[struct] != RING:
            _copy_deque(source, target, fresh + p.struct_offset[struct])
        if p.struct_delay[struct] > 0:
            _copy_deque(source, target, fresh + p.struct_waiting[struct])
    return fresh


@kernel
def move_pages(p: ProgramTable, source: StateTable, target: StateTable, slots: I32) -> None:
    """Copy the pages of users `slots` of the source; they are users 0, 1, ... of the target, whose rows are copied.

    The target's arena has room for all that the source's holds.
    """
    for user in range(slots.size):
        for page in range(p.shape[DIRECT]):
            place = direct_place(p, target, user, page)
            if place != 0:
                place = _copy_page(p, source, target, page, place)
                target.halves[user, p.shape[FIRST_PLACE] + page] = place // LINE_WORDS
        directory = target.users[user, DIRECTORY]
        if directory != 0:
            directory = _copy_chunk(source, target, directory)
            target.users[user, DIRECTORY] = directory
            for i in range(target.arena[directory + 1]):
                entry = target.arena[directory + 2 + 2 * i]
                page = entry >> PLACE_BITS
                place = _copy_page(p, source, target, page, entry & PLACE_MASK)
                target.arena[directory + 2 + 2 * i] = (page << PLACE_BITS) | place

"""Leaves -> structures, and structures -> pages: what lies side by side in a user's memory.

A page should hold what an event touches together and nothing that it does not. A model whose structures are few has one
page. Else those found by one value of an equality filter have pages of their own: a user pays for the values met.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from actors.evaluator.layout import (
    ABANDON,
    ABANDON_WORDS,
    DEQUE,
    DISTINCT,
    GENERAL,
    LATEST,
    LATEST_BITS,
    NARROW,
    NARROW_FIRST,
    NARROW_MAX,
    PLAIN,
    RING,
    SEQUENCE,
    SIMPLE,
    SMALL_RING,
    SUM,
    SUM_WORDS,
    WITHIN,
)
from actors.evaluator.matching.matcher import equality_keys
from actors.evaluator.symbols import (
    AbandonLeaf,
    CountLeaf,
    EventLeaf,
    Latest,
    LatestLeaf,
    Ring,
    SequenceLeaf,
    Structure,
    Sum,
    SumLeaf,
    structure_of,
)
from cluster.definitions.model import Filter, PropertyTest

#: Words of a page at most where it can be helped: a user of one structure of it pays for all.
PAGE_WORDS_MAX: Final = 96
#: Leaves of a page at most where it can be helped: all of them are judged whenever one of its structures is fed.
PAGE_LEAVES_MAX: Final = 32
#: Leaves up to which a page is judged whole: of very many of one filter, only those that are true are looked at.
SIMPLE_LEAVES_MAX: Final = 64


#: Spans up to which a page may be narrow: an event that an offset cannot reach any more is out of every window.
NARROW_SPAN_MAX_MS: Final = NARROW_MAX


@dataclass(frozen=True, slots=True)
class Feed:
    """An event that matches `where` of a model feeds a structure; `steps` as in `ProgramArrays.feed_steps`."""

    model: int
    where: Filter | None
    struct: int
    steps: int
    column: str | None


@dataclass(frozen=True, slots=True)
class Placed:
    """A structure with its leaves, in its page at a word (of a narrow page: 32 bits each)."""

    structure: Structure
    leaves: tuple[EventLeaf, ...]
    capacity: int
    page: int
    page_kind: int
    offset: int

    @property
    def kind(self) -> int:
        """The layout's code."""
        return kind_of(self.structure)

    @property
    def reach_ms(self) -> int:
        """The longest time an event may count for one of the leaves, its delay included."""
        return max(span_of(leaf) for leaf in self.leaves)

    @property
    def delay_ms(self) -> int:
        """How long events wait."""
        return self.structure.delay_ms if isinstance(self.structure, Ring | Sum) else 0

    @property
    def waiting(self) -> int:
        """Where in the page the waiting events' deque is."""
        return self.offset + own_words(self.structure, self.capacity)

    @property
    def end(self) -> int:
        """The page's words up to the structure's last."""
        if self.page_kind == NARROW:
            return -(-(self.offset + self.capacity) // 2)
        return self.waiting + DEQUE if self.delay_ms > 0 else self.waiting


def kind_of(structure: Structure) -> int:
    """Give the layout's code of a structure."""
    if isinstance(structure, Ring):
        return RING if structure.column is None else DISTINCT
    if isinstance(structure, Sum):
        return SUM
    if isinstance(structure, Latest):
        return LATEST
    return SEQUENCE if isinstance(structure, SequenceLeaf) else ABANDON


def span_of(leaf: EventLeaf) -> int:
    """Give how long an event may count for a leaf."""
    if isinstance(leaf, CountLeaf):
        return leaf.window.span_ms
    if isinstance(leaf, LatestLeaf):
        return leaf.latest.retention_ms
    return leaf.sum.window.span_ms if isinstance(leaf, SumLeaf) else leaf.within_ms


def own_words(structure: Structure, capacity: int) -> int:
    """Give the words of a structure, without its waiting events."""
    kind = kind_of(structure)
    if kind == RING:
        return capacity if capacity <= SMALL_RING else capacity + 1
    if kind == LATEST:
        return LATEST_BITS + capacity
    return {DISTINCT: DEQUE, SUM: SUM_WORDS, SEQUENCE: DEQUE, ABANDON: ABANDON_WORDS}[kind]


def _capacity(structure: Structure, leaves: Iterable[EventLeaf]) -> int:
    """Give what `ProgramArrays.struct_capacity` says."""
    if isinstance(structure, Ring):
        return max(leaf.n for leaf in leaves if isinstance(leaf, CountLeaf))
    if isinstance(structure, SequenceLeaf):
        return len(structure.steps)
    if isinstance(structure, Latest):
        return -(-len(list(leaves)) // 64)
    return structure.after_ms if isinstance(structure, AbandonLeaf) else 0


def _home(structure: Structure) -> tuple[int, Filter | None]:
    """Give the model and filter whose events a structure lies with."""
    if isinstance(structure, SequenceLeaf):
        return structure.steps[0]
    if isinstance(structure, Latest):
        return structure.models[0], None
    return structure.first if isinstance(structure, AbandonLeaf) else (structure.model, structure.where)


def place(leaves: Iterable[EventLeaf], models: int) -> tuple[list[Placed], int]:
    """Give the structures of the leaves, in order of pages, and the number of pages; page i < models is model i's."""
    grouped: dict[Structure, list[EventLeaf]] = {}
    for leaf in leaves:
        grouped.setdefault(structure_of(leaf), []).append(leaf)
    by_model: list[list[Structure]] = [[] for _ in range(models)]
    for structure in grouped:
        by_model[_home(structure)[0]].append(structure)
    pages: list[list[Structure]] = [[] for _ in range(models)]
    for model, structures in enumerate(by_model):
        first, *more = _pages_of(structures, grouped)
        pages[model] = first
        pages += more
    result = []
    for page, structures in enumerate(pages):
        kind = _page_kind(structures, grouped)
        offset = NARROW_FIRST if kind == NARROW else 0
        for structure in structures:
            own = tuple(sorted(grouped[structure], key=_leaf_order))
            capacity = _capacity(structure, own)
            result.append(Placed(structure, own, capacity, page, kind, offset))
            offset += capacity if kind == NARROW else _words(structure, capacity)
    return result, len(pages)


def _page_kind(structures: Sequence[Structure], grouped: dict[Structure, list[EventLeaf]]) -> int:
    """Say how much may be taken for granted of a page."""
    kind = min((_kind_for(structure, grouped[structure]) for structure in structures), default=SIMPLE)
    if sum(len(grouped[structure]) for structure in structures) > SIMPLE_LEAVES_MAX:
        return min(kind, PLAIN)
    return kind


def _kind_for(structure: Structure, leaves: Sequence[EventLeaf]) -> int:
    """Say what a page may be for a structure of it."""
    counts = [leaf for leaf in leaves if isinstance(leaf, CountLeaf)]
    late = isinstance(structure, Ring) and structure.delay_ms > 0
    if kind_of(structure) != RING or late or _capacity(structure, leaves) > SMALL_RING:
        return GENERAL
    if any(leaf.window.kind != WITHIN for leaf in counts):
        return PLAIN
    return NARROW if all(leaf.window.span_ms <= NARROW_SPAN_MAX_MS for leaf in counts) else SIMPLE


def _leaf_order(leaf: EventLeaf) -> tuple[int, int]:
    return (leaf.n, leaf.window.span_ms) if isinstance(leaf, CountLeaf) else (0, 0)


def _words(structure: Structure, capacity: int) -> int:
    late = isinstance(structure, Ring | Sum) and structure.delay_ms > 0
    return own_words(structure, capacity) + (DEQUE if late else 0)


def _pages_of(structures: Sequence[Structure], grouped: dict[Structure, list[EventLeaf]]) -> list[list[Structure]]:
    """Cut a model's structures into pages, the first for those that no equality finds."""
    words = {structure: _words(structure, _capacity(structure, grouped[structure])) for structure in structures}
    leaves = {structure: len(grouped[structure]) for structure in structures}
    if sum(words.values()) <= PAGE_WORDS_MAX and sum(leaves.values()) <= PAGE_LEAVES_MAX:
        return [list(structures)]
    by_key: dict[object, list[Structure]] = {None: []}
    # As the index finds them: what is found by one value is fed together.
    alone = [structure for structure in structures if isinstance(structure, Ring | Sum)]
    found = dict(zip(alone, equality_keys([structure.where for structure in alone]), strict=True))
    for structure in structures:
        by_key.setdefault(found.get(structure) if isinstance(structure, Ring | Sum) else None, []).append(structure)
    result: list[list[Structure]] = []
    for group in by_key.values():
        result.append([])
        size = held = 0
        for structure in group:
            full = size + words[structure] > PAGE_WORDS_MAX or held + leaves[structure] > PAGE_LEAVES_MAX
            if result[-1] and full:
                result.append([])
                size = held = 0
            result[-1].append(structure)
            size += words[structure]
            held += leaves[structure]
    return result


def feeds_of(placed: Sequence[Placed]) -> list[Feed]:
    """Give who feeds what, in order of structures."""
    result = []
    for struct, one in enumerate(placed):
        structure = one.structure
        if isinstance(structure, Ring | Sum):
            result.append(Feed(structure.model, structure.where, struct, 0, structure.column))
            continue
        if isinstance(structure, Latest):
            result += _latest_feeds(structure, one.leaves, struct)
            continue
        if isinstance(structure, SequenceLeaf):
            served = [(step, 1 << k) for k, step in enumerate(structure.steps)]
        else:
            served = [(structure.first, 1), *((step, 2) for step in structure.follow_ups)]
        # An event that serves several steps comes once, with all of them.
        bits: dict[tuple[int, Filter | None], int] = {}
        for step, bit in served:
            bits[step] = bits.get(step, 0) | bit
        result += [Feed(model, where, struct, steps, None) for (model, where), steps in bits.items()]
    return result


def _latest_feeds(latest: Latest, leaves: Sequence[EventLeaf], struct: int) -> list[Feed]:
    """A row that says the trait comes by itself, with its time where the trait is one, and with what it satisfies."""
    column = latest.value if latest.type == "timestamp" else None
    tests = [(bit, leaf.test) for bit, leaf in enumerate(leaves) if isinstance(leaf, LatestLeaf) and not leaf.relative]
    result = []
    for model in latest.models:
        result.append(Feed(model, latest.said, struct, 0, column))
        result += [Feed(model, PropertyTest(latest.value, test), struct, bit + 1, None) for bit, test in tests]
    return result

"""Published definitions -> program: leaves shared across audiences, structures across leaves, everything flat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.evaluator.codes import audience_arrays, csr, in_order_of_dependency, in_order_of_reading, referred
from actors.evaluator.layout import (
    ANY_LATE,
    DIRECT_PAGES,
    EQ,
    FIRST_MEMBER,
    FIRST_TRAIT,
    FIRST_WORD,
    GT,
    GTE,
    LATEST,
    LT,
    LTE,
    MORE_THAN_AGO,
    OF_AVERAGE,
    OF_FILTER,
    OF_SUM,
    RING,
    SIMPLE,
    SUM,
    U64,
    WITHIN_LAST,
    WITHIN_NEXT,
    ProgramArrays,
    whole_lines,
)
from actors.evaluator.matching.operators import true_for_missing
from actors.evaluator.program import Program, Taken, TraitLeaf, ValueColumn
from actors.evaluator.rules import audience_rules
from actors.evaluator.structures import Feed, Placed, feeds_of, place, span_of
from actors.evaluator.symbols import (
    CountLeaf,
    EventLeaf,
    Latest,
    LatestLeaf,
    LeafWindow,
    SequenceLeaf,
    SumLeaf,
    Symbol,
    Symbols,
    TimeKey,
    TraitKey,
)
from cluster.admission.plan import EventPlan
from cluster.definitions.model import Definitions, EventModel, Filter, Published

_COMPARISONS = {"gt": GT, "gte": GTE, "lt": LT, "lte": LTE, "eq": EQ}
#: How a structure takes values; by their identity unless it is here.
_TAKEN_AS: dict[int, Taken] = {SUM: "number", LATEST: "time"}
_TIME_OPS = {"within_last": WITHIN_LAST, "more_than_ago": MORE_THAN_AGO, "within_next": WITHIN_NEXT}


def compile_program(published: Published) -> Program:
    """Compile all evaluated audiences of `published`; O(nodes)."""
    definitions = published.definitions
    plan = EventPlan(definitions)
    parents = tuple(definitions.parent_models)
    models = tuple(definitions.event_models.values())
    parent_index = {parent: i for i, parent in enumerate(parents)}
    audiences = in_order_of_dependency(a for a in definitions.audiences.values() if a.evaluated)
    symbols = Symbols(
        {model.id: (i, model) for i, model in enumerate(models)},
        parent_index,
        {audience.id: i for i, audience in enumerate(audiences)},
        _said(definitions),
    )
    trees = [symbols.of(audience.where, audience) for audience in audiences]
    placed, pages = place(symbols.leaves, len(models))
    event_leaves = [leaf for one in placed for leaf in one.leaves]
    times = sorted(symbols.times, key=lambda time: time.parent)
    trait_leaves, leaf_words, word_parent = _number_traits(symbols.traits, len(event_leaves) + len(times), len(parents))
    numbers: dict[Symbol, int] = {leaf: i for i, leaf in enumerate([*event_leaves, *times])}
    for parent, leaves in enumerate(trait_leaves):
        numbers.update({TraitKey(parent, leaf.trait, leaf.test): leaf.leaf for leaf in leaves})
    order, codes = in_order_of_reading(
        [[symbol if isinstance(symbol, int) else numbers[symbol] for symbol in tree] for tree in trees]
    )
    audiences = [audiences[i] for i in order]
    default_words = _default_words(trait_leaves, leaf_words, placed, models, parent_index)
    calendars = tuple(dict.fromkeys(w.calendar for w in map(_window, event_leaves) if w.calendar is not None))
    time_columns = tuple(
        tuple(dict.fromkeys(time.trait for time in times if time.parent == parent)) for parent in range(len(parents))
    )
    values = _value_columns(placed, models)
    filters, feed_arrays = _feed_arrays(placed, values, len(models))
    direct = _direct_pages(placed, pages, len(models))
    shape = _shape(leaf_words, codes, pages, direct, max(map(len, time_columns), default=0))
    shape[FIRST_TRAIT] = FIRST_WORD + next((w for w, parent in enumerate(word_parent) if parent >= 0), leaf_words)
    shape[ANY_LATE] = any(one.delay_ms > 0 for one in placed)
    arrays = ProgramArrays(
        **_model_arrays(published, placed, feeds_of(placed), parent_index),
        **feed_arrays,
        **_struct_arrays(placed, pages, models),
        **_leaf_arrays(placed, calendars),
        leaf_ends=_leaf_ends(placed),
        **_time_arrays(times, time_columns, len(event_leaves)),
        **audience_arrays(codes, [parent_index[a.parent] for a in audiences], default_words, len(parents)),
        audience_rules=audience_rules(codes, int(shape[FIRST_MEMBER])),
        default_words=default_words,
        parent_retention=np.array([definitions.parent_retention_ms(p) for p in parents], np.int64),
        word_parent=np.array(word_parent, np.int32),
        shape=shape,
    )
    return Program(
        published=published,
        arrays=arrays,
        parents=parents,
        models=models,
        model_columns=tuple(
            {name: f"c{position}" for name, position in columns.items()}
            | {name: f"p{position}" for name, position in presences.items()}
            for columns, presences in zip(plan.columns_of_model, plan.presences_of_model, strict=True)
        ),
        model_filters=filters,
        model_values=values,
        trait_leaves=trait_leaves,
        trait_columns=tuple(definitions.parent_models[p].snapshot_columns for p in parents),
        time_columns=time_columns,
        calendars=calendars,
        audiences=tuple(audience.id for audience in audiences),
        audience_index={audience.id: i for i, audience in enumerate(audiences)},
        audience_versions=tuple(published.audience_versions[audience.id] for audience in audiences),
        leaf_words=leaf_words,
        retention_ms=max((model.retention_ms for model in models), default=0),
    )


def _said(definitions: Definitions) -> dict[tuple[int, str], Latest]:
    """Give the traits that come with identify calls, by the parent's number and name."""
    numbers = {model: i for i, model in enumerate(definitions.event_models)}
    return {
        (parent, name): Latest(
            tuple(numbers[model.id] for model in definitions.identify_models(id_)),
            name, column.type, definitions.identify_retention_ms(id_),
        )
        for parent, (id_, model_) in enumerate(definitions.parent_models.items())
        for name, column in model_.identify_columns.items()
    }  # fmt: skip


def _direct_pages(placed: Sequence[Placed], pages: int, models: int) -> int:
    """Say how many pages have a place in the row: all if they are few, else those that hold what no value finds."""
    if pages <= DIRECT_PAGES:
        return pages
    return min(max((one.page + 1 for one in placed if one.page < models), default=0), DIRECT_PAGES)


def _shape(leaf_words: int, codes: Sequence[list[int]], pages: int, direct: int, times: int) -> np.ndarray:
    member_words = max(1, -(-len(codes) // 64))
    first_member = FIRST_WORD + leaf_words
    first_due = first_member + member_words
    first_place = first_due + direct
    first_time = first_place + -(-direct // 2)
    refers = any(referred(code) for code in codes)
    return np.array(
        [
            leaf_words, member_words, pages, first_member, first_due, first_time, whole_lines(first_time + times),
            direct, 0, refers, 2 * first_place, 0,
        ],
        np.int64,
    )


def _window(leaf: EventLeaf) -> LeafWindow:
    if isinstance(leaf, CountLeaf):
        return leaf.window
    return leaf.sum.window if isinstance(leaf, SumLeaf) else LeafWindow(span_of(leaf))


def _number_traits(
    keys: Sequence[TraitKey] | dict[TraitKey, None], first: int, parents: int
) -> tuple[tuple[tuple[TraitLeaf, ...], ...], int, list[int]]:
    """Give each parent's trait leaves words of their own, after those of the other leaves."""
    words = max(1, -(-first // 64))
    word_parent = [-1] * words
    result: list[tuple[TraitLeaf, ...]] = []
    for parent in range(parents):
        own = [key for key in keys if key.parent == parent]
        result.append(tuple(TraitLeaf(words * 64 + i, key.trait, key.test) for i, key in enumerate(own)))
        more = -(-len(own) // 64)
        words += more
        word_parent += [parent] * more
    return tuple(result), words, word_parent


def _default_words(
    trait_leaves: tuple[tuple[TraitLeaf, ...], ...],
    leaf_words: int,
    placed: Sequence[Placed],
    models: Sequence[EventModel],
    parent_index: dict[str, int],
) -> U64:
    """Give the truth of all leaves for a user without traits and events: of event leaves, of sums alone some hold."""
    result = np.zeros((max(1, len(trait_leaves)), leaf_words), np.uint64)

    def hold(parent: int, leaf: int) -> None:
        result[parent, leaf >> 6] |= np.uint64(1 << (leaf & 63))

    for parent, leaves in enumerate(trait_leaves):
        for trait in leaves:
            if true_for_missing(trait.test):
                hold(parent, trait.leaf)
    number = 0
    for one in placed:
        for leaf in one.leaves:
            if isinstance(leaf, SumLeaf) and not leaf.average and _compares(0.0, leaf.comparison, leaf.value):
                hold(parent_index[models[leaf.sum.model].parent], number)
            number += 1
    return result


def _compares(value: float, comparison: str, operand: float) -> bool:
    return {
        "gt": value > operand, "gte": value >= operand, "lt": value < operand, "lte": value <= operand,
        "eq": value == operand,
    }[comparison]


def _value_columns(placed: Sequence[Placed], models: Sequence[EventModel]) -> tuple[tuple[ValueColumn, ...], ...]:
    """Give, by model, the columns whose values its structures take."""
    result: list[dict[ValueColumn, None]] = [{} for _ in models]
    for feed in feeds_of(placed):
        if feed.column is not None:
            taken = _TAKEN_AS.get(placed[feed.struct].kind, "identity")
            result[feed.model][ValueColumn(feed.column, taken)] = None
    return tuple(tuple(columns) for columns in result)


def _feed_arrays(
    placed: Sequence[Placed], values: Sequence[Sequence[ValueColumn]], models: int
) -> tuple[tuple[tuple[Filter | None, ...], ...], dict[str, np.ndarray]]:
    """Give the distinct filters of each model in the order of their numbers, and the arrays of who they feed."""
    by_model: list[dict[Filter | None, list[Feed]]] = [{} for _ in range(models)]
    for feed in feeds_of(placed):
        by_model[feed.model].setdefault(feed.where, []).append(feed)
    ordered = [feed for filters in by_model for group in filters.values() for feed in group]
    starts, _ = csr([range(len(group)) for filters in by_model for group in filters.values()])

    def record(feed: Feed) -> list[int]:
        names = [column.name for column in values[feed.model]]
        value = -1 if feed.column is None else names.index(feed.column)
        one = placed[feed.struct]
        ring = one.kind == RING and one.delay_ms == 0
        return [feed.struct, one.page, one.offset, one.capacity, one.reach_ms, ring, feed.steps, value]

    return tuple(tuple(filters) for filters in by_model), {
        "filter_feeds": starts,
        "feeds": np.array([record(feed) for feed in ordered], np.int64).reshape(-1),
    }


def _model_arrays(
    published: Published, placed: Sequence[Placed], feeds: Sequence[Feed], parent_index: dict[str, int]
) -> dict[str, np.ndarray]:
    models = list(published.definitions.event_models.values())
    pages: list[set[int]] = [set() for _ in models]
    plain = [True] * len(models)
    words: dict[int, int] = {}
    for one in placed:
        words[one.page] = max(words.get(one.page, 0), one.end)
    for feed in feeds:
        one = placed[feed.struct]
        pages[feed.model].add(one.page)
        plain[feed.model] &= one.kind == RING and one.delay_ms == 0
    return {
        "model_parent": np.array([parent_index[model.parent] for model in models], np.int32),
        "model_retention": np.array([model.retention_ms for model in models], np.int64),
        "model_words": np.array([sum(whole_lines(words[page]) for page in own) for own in pages], np.int64),
        "model_plain": np.array(plain, np.uint8),
    }


def _leaf_ends(placed: Sequence[Placed]) -> np.ndarray:
    """Give `ProgramArrays.leaf_ends`: of use where a leaf counts in a small ring."""
    ends = [
        (one.offset + leaf.n - 1 if isinstance(leaf, CountLeaf) else 0, span_of(leaf))
        for one in placed
        for leaf in one.leaves
    ]
    return np.array(ends, np.int64).reshape(-1)


def _struct_arrays(placed: Sequence[Placed], pages: int, models: Sequence[EventModel]) -> dict[str, np.ndarray]:
    counts = np.bincount([one.page for one in placed], minlength=pages) if placed else np.zeros(pages, np.int64)
    words, late, plain, page_leaves = [0] * pages, [False] * pages, [SIMPLE] * pages, [0] * pages
    for one in placed:
        words[one.page] = max(words[one.page], one.end)
        late[one.page] |= one.delay_ms > 0
        plain[one.page] = one.page_kind
        page_leaves[one.page] += len(one.leaves)
    leaves, _ = csr([range(len(one.leaves)) for one in placed])
    return {
        "struct_page": np.array([one.page for one in placed], np.int32),
        "struct_offset": np.array([one.offset for one in placed], np.int64),
        "struct_kind": np.array([one.kind for one in placed], np.int32),
        "struct_capacity": np.array([one.capacity for one in placed], np.int64),
        "struct_leaves": leaves,
        "struct_reach": np.array([one.reach_ms for one in placed], np.int64),
        "struct_delay": np.array([one.delay_ms for one in placed], np.int64),
        "struct_waiting": np.array([one.waiting for one in placed], np.int64),
        "struct_search": np.array([_searched(one, models) for one in placed], np.uint8),
        "page_structs": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        "page_words": np.array([whole_lines(max(1, size)) for size in words], np.int64),
        "page_late": np.array(late, np.uint8),
        "page_plain": np.array(plain, np.uint8),
        "page_leaves": np.concatenate([[0], np.cumsum(page_leaves)]).astype(np.int32),
    }


def _searched(one: Placed, models: Sequence[EventModel]) -> bool:
    """Say whether one row may have two times in a sequence: two of its models read it at different paths."""
    if not isinstance(one.structure, SequenceLeaf):
        return False
    return len({models[model].timestamp for model, _ in one.structure.steps}) > 1


def _leaf_arrays(placed: Sequence[Placed], calendars: Sequence[tuple[str, str]]) -> dict[str, np.ndarray]:
    leaves = [leaf for one in placed for leaf in one.leaves]
    bits = [bit for one in placed for bit in range(len(one.leaves))]
    windows = [_window(leaf) for leaf in leaves]
    sums = [leaf if isinstance(leaf, SumLeaf) else None for leaf in leaves]
    return {
        "leaf_n": np.array(
            [leaf.n if isinstance(leaf, CountLeaf) else bit for leaf, bit in zip(leaves, bits, strict=True)], np.int64
        ),
        "leaf_window": np.array([window.kind for window in windows], np.int32),
        "leaf_span": np.array([span_of(leaf) for leaf in leaves], np.int64),
        "leaf_origin": np.array(
            [_origin(leaf, w, calendars) for leaf, w in zip(leaves, windows, strict=True)], np.int64
        ),
        "leaf_of": np.array([_asked(leaf) for leaf in leaves], np.int32),
        "leaf_compare": np.array([_COMPARISONS[leaf.comparison] if leaf else 0 for leaf in sums], np.int32),
        "leaf_value": np.array([leaf.value if leaf else 0.0 for leaf in sums], np.float64),
    }


def _origin(leaf: EventLeaf, window: LeafWindow, calendars: Sequence[tuple[str, str]]) -> int:
    if isinstance(leaf, LatestLeaf) and leaf.relative:
        assert isinstance(leaf.test.operand, int)
        return leaf.test.operand
    return calendars.index(window.calendar) if window.calendar is not None else window.since_ms or 0


def _asked(leaf: EventLeaf) -> int:
    """Give what a sum's or a latest row's leaf asks of it."""
    if isinstance(leaf, LatestLeaf):
        return _TIME_OPS.get(leaf.test.op, OF_FILTER)
    return OF_AVERAGE if isinstance(leaf, SumLeaf) and leaf.average else OF_SUM


def _time_arrays(times: Sequence[TimeKey], columns: Sequence[Sequence[str]], first: int) -> dict[str, np.ndarray]:
    """Time leaves lie behind the event leaves, those of a parent together."""
    starts, _ = csr([[1 for time in times if time.parent == parent] for parent in range(len(columns))])
    return {
        "time_leaves": starts,
        "time_leaf": np.array([first + i for i in range(len(times))], np.int32),
        "time_column": np.array([columns[time.parent].index(time.trait) for time in times], np.int32),
        "time_op": np.array([_TIME_OPS[time.op] for time in times], np.int32),
        "time_span": np.array([time.span_ms for time in times], np.int64),
    }

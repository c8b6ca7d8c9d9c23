"""From the classes of rows to the filters that they select: segment trees over classes, as nodes.

A filter on a range of classes lies at the O(log classes) nodes whose parts make up the range; a class meets those
on its way up, empty ones left out. So thousands of thresholds cost a row what it matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.evaluator.kernels import filter_layout as at
from actors.evaluator.matching.facets import Facet
from actors.evaluator.matching.programs import Patterns


class FilterIndex:
    """The nodes of one model. Every row meets the node of the filters `always`."""

    def __init__(self, always: Sequence[int]) -> None:
        #: by node: its filters, ascending
        self.filters: list[list[int]] = [sorted(always)]
        self._up: list[NDArray[np.int32]] = [np.array([-1], np.int32)]
        self._class_node: list[NDArray[np.int32]] = []
        self._classes = 0

    def add_classes(self, facet: Facet) -> int:
        """Add a facet's classes. Give where they begin."""
        size = facet.highest + 1
        held: dict[int, list[int]] = {}
        for (first, last), filters in facet.spans.items():
            for place in _parts(first, last, size):
                held.setdefault(place, []).extend(filters)
        places = sorted(held)
        node_at = np.full(2 * size, -1, np.int32)
        node_at[places] = np.arange(len(self.filters), len(self.filters) + len(places))
        nearest = _nearest(node_at)
        self.filters += [sorted(set(held[place])) for place in places]
        self._up.append(nearest[np.array(places, np.int64) >> 1])
        self._class_node.append(nearest[size:])
        begin, self._classes = self._classes, self._classes + size
        return begin

    def add_patterns(self, place: int, facet: Facet, patterns: Patterns) -> tuple[int, int]:
        """Add the patterns by which a facet, the `place`-th, selects. Give the first and the one after the last."""
        first = len(patterns.rows)
        for (pattern, positive), filters in facet.selecting.items():
            patterns.add(place, pattern, positive, len(self.filters))
            self.filters.append(sorted(filters))
            self._up.append(np.array([-1], np.int32))
        return first, len(patterns.rows)

    def arrays(self, entries: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Give the arrays of nodes and classes by their places in a model's table.

        `entries`: each filter's program, -1 where its literals say all.
        """
        nodes = np.zeros((len(self.filters), at.N_WIDTH), np.int32)
        nodes[:, at.N_UP] = np.concatenate(self._up)
        masks = nodes.view(np.uint64)
        pairs: list[tuple[int, int]] = []
        candidates: list[tuple[int, int]] = []
        for node, filters in enumerate(self.filters):
            certain = [i for i in filters if entries[i] < 0]
            by_word = [(word, sum(1 << (i & 63) for i in some)) for word, some in groupby(certain, lambda i: i >> 6)]
            starts = (len(candidates), len(pairs))
            pairs += by_word[1:]
            candidates += [(i, entries[i]) for i in filters if entries[i] >= 0]
            nodes[node, at.N_CANDIDATES : at.N_WORD] = (starts[0], len(candidates), starts[1], len(pairs))
            if by_word:
                nodes[node, at.N_WORD], masks[node, at.N_MASK >> 1] = by_word[0]
        class_node = np.concatenate([np.empty(0, np.int32), *self._class_node])
        lone = [at.LONE - filters[0] if _is_lone(filters, entries) else 0 for filters in self.filters]
        lone_of = np.where(nodes[:, at.N_UP] < 0, np.array(lone, np.int32), 0)[class_node]
        return {
            at.CLASS_NODE: np.where((class_node >= 0) & (lone_of < 0), lone_of, class_node).astype(np.int32),
            at.NODES: nodes.reshape(-1),
            at.PAIR_WORD: np.array([word for word, _ in pairs], np.int32),
            at.PAIR_MASK: np.array([mask for _, mask in pairs], np.uint64),
            at.CANDIDATES: np.array(candidates, np.int32).reshape(-1),
        }


def _is_lone(filters: Sequence[int], entries: Sequence[int]) -> bool:
    return len(filters) == 1 and entries[filters[0]] < 0


def _parts(first: int, last: int, size: int) -> list[int]:
    """Give the places of a segment tree over `size` classes that make up first..last; place 1 is the root."""
    result = []
    low, high = first + size, last + size + 1
    while low < high:
        if low & 1:
            result.append(low)
            low += 1
        if high & 1:
            high -= 1
            result.append(high)
        low >>= 1
        high >>= 1
    return result


def _nearest(node_at: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give for each place of a tree its node or the nearest one above it, -1 for none."""
    result = node_at.copy()
    start = 2
    while start < len(node_at):
        stop = min(2 * start, len(node_at))
        above = result[np.arange(start, stop) >> 1]
        result[start:stop] = np.where(node_at[start:stop] >= 0, node_at[start:stop], above)
        start = stop
    return result

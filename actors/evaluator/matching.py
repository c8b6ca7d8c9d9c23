"""TEMPORARY stand-in."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.evaluator.filters import match_bits
from cluster.definitions.model import Filter, PropertyTest


def equality_key(where: Filter):
    if isinstance(where, PropertyTest) and where.test.op == "eq":
        return where.column, where.test.operand
    return None

class Matcher:
    def __init__(self, filters: Sequence[Filter | None]) -> None:
        self.filters = list(filters)

def match_hits(matchers, model_columns, hits, models, first_filter):
    rows = len(models)
    words = max(1, -(-max((len(m.filters) for m in matchers), default=0) // 64))
    masks = np.zeros((rows, words), np.uint64)
    for model in np.unique(models).tolist():
        if matchers[model].filters:
            columns = {name: hits.column(column) for name, column in model_columns[model].items()}
            chosen = models == model
            masks[chosen] = match_bits(columns, rows, matchers[model].filters, words)[chosen]
    bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
    r, c = np.nonzero(bits)
    offsets = np.zeros(rows + 1, np.int32)
    np.cumsum(np.bincount(r, minlength=rows), out=offsets[1:])
    return offsets, (c + first_filter[models[r]]).astype(np.int32)

"""The numba loops of the evaluator: GIL released, compiled once and cached."""

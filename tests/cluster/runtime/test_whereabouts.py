"""Where evaluators are outlives the controller, and what nobody has said is not made up."""

from __future__ import annotations

from pathlib import Path

from cluster.runtime.controller_store import ControllerStore
from cluster.runtime.protocols import EvaluatorInfo
from cluster.runtime.whereabouts import Whereabouts


def nowhere(index: int) -> EvaluatorInfo:
    return EvaluatorInfo(index, f"evaluator-{index}", "", "")


def test_the_last_word_counts_also_after_a_restart(tmp_path: Path) -> None:
    store = ControllerStore(tmp_path / "controller.db")
    where = Whereabouts(store, nowhere)
    assert where(0) == nowhere(0)
    there = EvaluatorInfo(0, "evaluator-0", "a", "/membership")
    where.note(EvaluatorInfo(0, "evaluator-0", "b", "/membership"), [0, 1])
    where.note(there, [0, 1])
    assert where(0) == there
    store.close()
    store = ControllerStore(tmp_path / "controller.db")
    again = Whereabouts(store, nowhere)
    assert (again(0), again(1)) == (there, nowhere(1))
    again.note(EvaluatorInfo(1, "evaluator-1", "a", "/other"), [1])
    assert again(0) == nowhere(0), "one that is no more is forgotten"
    store.close()

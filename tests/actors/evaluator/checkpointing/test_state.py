"""A state as named arrays: nothing of it is left out, whatever the layout is."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from actors.evaluator.checkpointing import copying, header
from actors.evaluator.checkpointing.copying import Copies
from actors.evaluator.checkpointing.header import code_digest, program_digest
from actors.evaluator.checkpointing.state import IN_USE, SCRATCH, parts_of, state_of
from actors.evaluator.layout import StateArrays
from actors.evaluator.machine import EvaluatorMachine
from actors.evaluator.state import new_state
from cluster.checkpoints.container import contents, write
from cluster.errors import CheckpointError
from tests.actors.evaluator.driving import Evaluator
from tests.actors.evaluator.examples import event, published

#: Where what is not in use any more is left to be written over.
LEFT_OVER = {"instant_audience", "instant_n", "instant_previous"}


@pytest.fixture
def machine(tmp_path: object) -> EvaluatorMachine:
    evaluator = Evaluator(tmp_path, published())  # type: ignore[arg-type]
    evaluator.take_traits(1, ann=500.0, ben=3.0)
    for step in range(30):
        evaluator.clock.advance(300)
        evaluator.do(evaluator.batch(
            *(event(kind, f"user-{(step + i) % 17}", f"{kind}{step}-{i}", channel="web")
              for i, kind in enumerate(("view", "order") * 4))
        ))  # fmt: skip
    assert evaluator.worker.machine is not None
    return evaluator.worker.machine


def kept(machine: EvaluatorMachine) -> dict[str, np.ndarray]:
    sink = bytearray()
    write(sink.extend, b"", machine.parts(), lambda: None)
    return contents(pa.BufferReader(bytes(sink))).arrays()


def test_every_array_of_the_state_is_kept(machine: EvaluatorMachine) -> None:
    parts = parts_of(machine.state)
    assert tuple(parts) == StateArrays._fields
    views = {name for name, part in parts.items() if part.view_of}
    assert views == {"words", "halves", "reals", "offsets"}
    for name, array in machine.state._asdict().items():
        if name not in views | SCRATCH:
            rest = array[len(parts[name].rows) :]
            assert (parts[name].rows == array[: len(array) - len(rest)]).all()
            assert name in LEFT_OVER or (rest == parts[name].fill).all(), f"{name}: something is not in use"


def test_names_of_what_need_not_be_kept_are_names_of_the_state() -> None:
    assert {*SCRATCH, *IN_USE} <= set(StateArrays._fields)


def test_what_is_read_back_is_the_state(machine: EvaluatorMachine) -> None:
    twin = EvaluatorMachine(machine.program.published, seed=machine.seed)
    twin.resume(kept(machine))
    for name, array in machine.state._asdict().items():
        found = getattr(twin.state, name)
        assert found.shape == array.shape
        assert found.dtype == array.dtype
        used = int(machine.state.scalars[IN_USE[name]]) if name in IN_USE else len(array)
        assert name in SCRATCH or (found[:used] == array[:used]).all(), name
    for owner, views in (("users", ("words", "halves")), ("arena", ("reals", "offsets"))):
        for view in views:
            assert np.shares_memory(getattr(twin.state, owner), getattr(twin.state, view))
    assert twin.counters() == machine.counters()
    later = machine.clock_ms + 60_000
    mine, theirs = machine.tick(later), twin.tick(later)
    assert machine.transitions_table(mine).to_pylist() == twin.transitions_table(theirs).to_pylist()
    assert len(mine)


def test_a_copy_does_not_change_with_the_state(machine: EvaluatorMachine) -> None:
    copies = Copies(machine.parts())
    taken = copies.take(machine.parts())
    before = {name: part.rows.copy() for name, part in machine.parts().items()}
    machine.tick(machine.clock_ms + 60_000)
    assert all((taken[name].rows == before[name]).all() for name in taken)
    assert any((part.rows[:0].shape != part.rows.shape and not np.array_equal(part.rows, taken[name].rows))
               for name, part in machine.parts().items())  # fmt: skip


def test_a_copy_by_two_threads_is_whole(machine: EvaluatorMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PIECE_BYTES", 512)
    taken = Copies(machine.parts()).take(machine.parts())
    assert all((taken[name].rows == part.rows).all() for name, part in machine.parts().items())


def test_a_copy_is_whole_also_where_the_state_outgrew_its_room(machine: EvaluatorMachine) -> None:
    assert Copies(machine.parts()).lacking_bytes(machine.parts()) == 0
    copies = Copies(parts_of(new_state(machine.program.arrays)))
    lacking = copies.lacking_bytes(machine.parts())
    assert lacking > 0
    taken = copies.take(machine.parts())
    assert all((taken[name].rows == part.rows).all() for name, part in machine.parts().items())


@pytest.mark.parametrize("change", ["missing", "more", "dtype", "rows"])
def test_arrays_of_another_layout_are_refused(machine: EvaluatorMachine, change: str) -> None:
    arrays = kept(machine)
    arrays.pop("machine.partitions")
    if change == "missing":
        del arrays["wheel"]
    elif change == "more":
        arrays["wheel_of_fortune"] = arrays["wheel"]
    elif change == "dtype":
        arrays["wheel"] = arrays["wheel"].astype(np.int64)
    else:
        arrays["users"] = arrays["users"][:, :-1]
    with pytest.raises(CheckpointError, match=r"wheel|users") as found:
        state_of(arrays, new_state(machine.program.arrays))
    assert found.value.reason == "incompatible"


def test_programs_that_number_other_things_have_other_digests(machine: EvaluatorMachine) -> None:
    def digest(**changes: object) -> str:
        return program_digest(EvaluatorMachine(published(**changes)).program)  # type: ignore[arg-type]

    mine = program_digest(machine.program)
    assert mine == digest()
    longer = {"id": "quiet", "parent": "users", "where": {"event": "view", "within": "31s"}}
    assert digest(audiences=[longer]) not in (mine, digest(audiences=[{**longer, "id": "loud"}]))


def test_the_code_digest_changes_with_any_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    first = code_digest()
    assert first == code_digest.__wrapped__()
    read = header.Path.read_bytes
    monkeypatch.setattr(header.Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "rings.py" else b""))
    assert code_digest.__wrapped__() != first



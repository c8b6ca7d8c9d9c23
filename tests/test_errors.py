"""Every error crosses processes whole: its class, its message, its fields."""

from __future__ import annotations

import pickle

import pytest

from cluster import errors
from cluster.errors import Fault, UsherError

FAULTS = [
    Fault("usher.yaml", "audiences[0].where.gt", "not a number", found="'x'", allowed="a number"),
    Fault("more.yaml", "", "empty"),
]

#: One of each class, with every field it has.
EXAMPLES: list[UsherError] = [
    errors.UsherError("It broke.", next_step="Look."),
    errors.DefinitionError(FAULTS),
    errors.InputError("No such file: x.", next_step="Give one that exists."),
    errors.EventFileError("Line 3 is no JSON.", next_step="Mend it."),
    errors.WireError(413, "body_too_large", "11 MiB were sent.", next_step="Send fewer."),
    errors.SnapshotError("Column ltv is missing.", reason="missing_column", next_step="Write it."),
    errors.Refused("Not now.", retry_after_ms=5),
    errors.Overloaded("The queue is full.", retry_after_ms=1_000, next_step="Wait."),
    errors.NotReady("Recovering.", retry_after_ms=250),
    errors.StorageFull("12 bytes are free.", retry_after_ms=9, next_step="Make room."),
    errors.StaleDefinitions(found_version=3, current_version=4),
    errors.DataDirError("Locked by process 7.", next_step="Stop it."),
    errors.Damaged("Entry 5 is changed.", file="e.db", position="entry 5", next_step="Restore it."),
    errors.Fenced("A newer run has it.", next_step="End this process."),
    errors.LogUnavailable("The broker does not answer."),
    errors.LeaseUnavailable("The folder does not answer.", next_step="See to it."),
    errors.CheckpointError("A frame does not match its checksum.", reason="damaged"),
    errors.PortInUse("8080 is taken.", next_step="Choose another --port."),
    errors.InternalError("A slot is used twice."),
]


def all_classes(root: type[UsherError]) -> set[type[UsherError]]:
    return {root}.union(*(all_classes(child) for child in root.__subclasses__()))


def declared_classes() -> set[type[UsherError]]:
    return {kind for kind in all_classes(UsherError) if kind.__module__ == errors.__name__}


def test_every_class_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == declared_classes()


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_survives_pickling_whole(error: UsherError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert copy.args == error.args
    assert str(copy) == str(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_message_ends_with_the_next_step(error: UsherError) -> None:
    assert str(error) == f"{error.message} {error.next_step}".strip()


def test_definition_error_shows_every_fault_with_place_found_and_allowed() -> None:
    text = str(errors.DefinitionError(FAULTS))
    assert "2 faults" in text
    assert "usher.yaml: audiences[0].where.gt: not a number; found 'x'; allowed: a number" in text
    assert "more.yaml: empty" in text


def test_error_names_the_tree_drawn_at_the_top() -> None:
    drawn = errors.__doc__ or ""
    assert all(kind.__name__ in drawn for kind in declared_classes())

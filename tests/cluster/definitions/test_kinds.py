"""What a sync asks of its destination is held against what the kind can do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.definitions.parsing import parse_document
from cluster.errors import DefinitionError, Fault
from tests.cluster.definitions.sample import KINDS, Kind, changed, document, faults_of


def faults_under(kind: Kind) -> list[Fault]:
    with pytest.raises(DefinitionError) as caught:
        parse_document(document(), "shop.json", {"webhook": kind})
    return caught.value.faults


def test_an_identifier_that_the_kind_does_not_know_is_a_fault() -> None:
    kind = replace(KINDS["webhook"], identifier_fields={"user_id": "your id", "email": "an address"})

    (fault,) = faults_under(kind)

    assert fault.path == "syncs[0].identifiers.mail"
    assert 'no identifier of webhook "mail" (did you mean email?)' in fault.message
    assert fault.allowed == "user_id, email"


def test_what_settings_rule_out_is_said_at_the_syncs_key() -> None:
    found = faults_of(changed("destinations.0.headers", {"no_changes": "1"}))

    assert [(fault.path, fault.message, fault.allowed) for fault in found] == [
        (f"syncs[{index}].deliver", "this hook only knows states", "state") for index in (0, 1)
    ]


def test_an_exit_that_the_kind_lacks_is_refused_though_it_gives_no_reason() -> None:
    kind = replace(KINDS["webhook"], exits=frozenset({"nothing"}), exit_refusals={})

    assert [(fault.path, fault.message) for fault in faults_under(kind)] == [
        (f"syncs[{index}].on_exit", "a webhook destination cannot remove on exit") for index in (0, 1)
    ]


def test_settings_at_fault_are_not_asked_about_syncs() -> None:
    (fault,) = faults_of(changed("destinations.0.headers", 7))

    assert fault.path == "destinations[0].headers"

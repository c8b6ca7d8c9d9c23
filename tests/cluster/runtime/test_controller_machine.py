from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cluster.runtime.controller_machine import REVISIONS_PER_START
from cluster.runtime.placement import deal_partitions
from cluster.runtime.protocols import KeyRecord
from tests.cluster.runtime.building import definitions, machine, published

KEY = KeyRecord("k1", "ci", "read", "00", 5)


def test_publication_is_in_force_only_after_the_last_evaluator_took_it() -> None:
    controller = machine(evaluators=2)
    controller.begin(published(1, vip=1))
    assert controller.behind() == [0, 1]
    assert not controller.acknowledge(0, 1)
    assert controller.state().published is None
    assert controller.behind() == [1]
    assert controller.acknowledge(1, 1)
    assert controller.state().published == published(1, vip=1)
    assert controller.behind() == []


def test_preparing_names_only_audiences_whose_new_version_is_not_in_force() -> None:
    controller = machine(evaluators=1)
    controller.begin(published(1, kept=1, changed=1))
    assert controller.preparing() == ("kept", "changed")
    controller.acknowledge(0, 1)
    assert controller.preparing() == ()
    controller.begin(published(2, kept=1, changed=2))
    assert controller.preparing() == ("changed",)


def test_it_waits_for_who_has_not_prepared_and_then_for_who_has_not_switched() -> None:
    controller = machine(evaluators=2)
    controller.begin(published(1, a=1))
    controller.note_prepared(1, 1)
    assert controller.waits_for() == [0]
    controller.note_prepared(0, 1)
    assert controller.waits_for() == [0, 1]
    controller.acknowledge(0, 1)
    assert controller.waits_for() == [1]
    controller.begin(published(2, a=2))
    assert controller.waits_for() == [0, 1]


def test_an_old_acknowledgement_does_not_bring_a_newer_publication_into_force() -> None:
    controller = machine(evaluators=1)
    controller.begin(published(1, a=1))
    controller.begin(published(2, a=2))
    assert not controller.acknowledge(0, 1)
    assert controller.state().published is None
    assert controller.acknowledge(0, 2)


def test_acknowledging_twice_changes_nothing() -> None:
    controller = machine(evaluators=1)
    controller.begin(published(1, a=1))
    assert controller.acknowledge(0, 1)
    revision = controller.revision
    assert not controller.acknowledge(0, 1)
    assert controller.revision == revision


def test_every_visible_change_grows_the_revision() -> None:
    controller = machine(evaluators=1)
    seen = [controller.revision]
    for change in (
        lambda: controller.begin(published(1, a=1)),
        lambda: controller.acknowledge(0, 1),
        lambda: controller.add_key(KEY),
        lambda: controller.revoke_key("k1"),
    ):
        change()
        seen.append(controller.revision)
    assert seen == sorted(set(seen))
    assert not controller.revoke_key("k1")
    assert controller.revision == seen[-1]


def test_revisions_of_a_later_start_are_above_all_of_an_earlier_one() -> None:
    first, second = machine(), machine()
    first.restore(None, None, [], start=1)
    for _ in range(1_000):
        first.add_key(KEY)
    second.restore(None, None, [KEY], start=2)
    assert first.revision < second.revision == 2 * REVISIONS_PER_START
    assert second.state().keys == (KEY,)


def test_a_restart_in_mid_publication_goes_on_with_it() -> None:
    controller = machine(evaluators=2)
    controller.restore(published(1, a=1), published(2, a=2), [], start=2)
    assert controller.state().published == published(1, a=1)
    assert controller.behind() == [0, 1]


def test_a_restart_after_a_publication_asks_nobody() -> None:
    controller = machine(evaluators=2)
    in_force = published(3, a=1)
    controller.restore(in_force, in_force, [], start=2)
    assert controller.behind() == []


def test_another_number_of_partitions_is_a_fault() -> None:
    controller = machine()
    assert controller.partition_fault(definitions(partitions=8), "d.yaml") is None
    fault = controller.partition_fault(definitions(partitions=64), "d.yaml")
    assert fault is not None
    assert (fault.file, fault.path, fault.found, fault.allowed) == ("d.yaml", "settings.partitions", "64", "8")


@given(partitions=st.integers(1, 300), evaluators=st.integers(1, 40))
def test_partitions_are_dealt_whole_evenly_and_in_runs(partitions: int, evaluators: int) -> None:
    owners = deal_partitions(partitions, evaluators)
    assert len(owners) == partitions
    assert list(owners) == sorted(owners)
    shares = [Counter(owners)[index] for index in range(evaluators)]
    assert max(shares) - min(shares) <= 1

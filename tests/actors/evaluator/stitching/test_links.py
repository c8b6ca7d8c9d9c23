"""Who joins whom: the first comes first, and for as long as it is told (docs/stitching.md)."""

from __future__ import annotations

import numpy as np

from actors.evaluator.stitching.links import Links
from cluster.definitions.model import Stitching

R = 1_000


def links(**bounds: int) -> Links:
    return Links(Stitching(**bounds), R)


def joined(found: Links, user: str, id_: str, clock_ms: int) -> str:
    verdict = found.judge(user, id_, clock_ms)
    if verdict in ("joined", "renewed"):
        found.hold(user, id_, clock_ms)
    found.identify(user, clock_ms)
    return verdict


def test_a_device_joins_the_first_and_not_the_next_until_nobody_told_of_it_for_long() -> None:
    found = links()
    assert joined(found, "ann", "device", 0) == "joined"
    assert joined(found, "bob", "device", 1) == "other_user"
    assert joined(found, "ann", "device", 600) == "renewed"
    assert found.user_of("device", 600 + R - 1) == "ann"
    assert found.lapses_by(600 + R)
    assert found.user_of("device", 600 + R) is None
    assert joined(found, "bob", "device", 600 + R) == "joined"


def test_no_id_of_a_user_joins_another_and_there_are_no_chains() -> None:
    found = links()
    assert joined(found, "ann", "device", 0) == "joined"
    assert joined(found, "bob", "ann", 1) == "is_user"
    assert joined(found, "device", "other", 2) == "user_is_joined"
    assert joined(found, "ann", "ann", 3) == "same_id"
    assert found.judge("ann", None, 3) == "no_id"
    assert joined(found, "bob", "carl", R + 10) == "joined"


def test_bounds_are_of_the_links_in_force() -> None:
    few = links(ids_per_user=1)
    assert joined(few, "ann", "one", 0) == "joined"
    assert joined(few, "ann", "two", 1) == "ids_per_user"
    assert joined(few, "ann", "two", R) == "joined"
    one = links(links=1)
    assert joined(one, "ann", "one", 0) == "joined"
    assert joined(one, "bob", "two", 1) == "links"


def test_owners_are_told_at_each_ones_clock_and_kept_as_they_are() -> None:
    found = links()
    joined(found, "ann", "device", 0)
    other = links()
    other.take(found.kept())
    for each in (found, other):
        assert each.owners(["x", "device", "device"], np.array([0, R - 1, R])) == {1: "ann"}
    assert other.kept() == found.kept()
    assert other.judge("bob", "ann", 1) == "is_user"

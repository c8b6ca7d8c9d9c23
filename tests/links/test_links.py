"""Each link's facts lie in the ranges that its file expects, and what must always hold does.

`python -m tests.links [NAME...]` shows the facts of all links, or some.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from tests.links.destination import SimulatedDestination
from tests.links.link import Link, links
from tests.links.playing import FACTS, Played, play

LINKS = links()


@pytest.mark.parametrize("name", LINKS)
def test_a_link_does_what_its_file_expects(name: str) -> None:
    link = LINKS[name]
    played = play(link)

    found = msgspec.to_builtins(played.facts)
    outside = {
        fact: (found[fact], (least, most))
        for fact, (least, most) in link.expect.items()
        if not least <= found[fact] <= most
    }
    assert outside == {}
    check_laws(link, played)


def check_laws(link: Link, played: Played) -> None:
    """Nothing is lost, users' changes come in order, and nobody sends while asked to wait."""
    for sync in played.syncs:
        assert sync.impatient == 0, "nothing goes before the time that the destination asked for"
        if link.sync.get("deliver") == "changes":
            assert sync.delivered + sync.dead + sync.machine.backlog == sync.read, "each change is somewhere"
    assert_in_order(played.there)


def assert_in_order(there: SimulatedDestination) -> None:
    """A user's changes arrive in order; what comes again does so before the next."""
    last: Counter[tuple[str, str]] = Counter()
    for sync, changes in there.took:
        for change in changes:
            key = (sync, change.user_id)
            assert last[key] <= change.seq, f"{change.user_id} of {sync}: an older change came after a newer one"
            last[key] = change.seq


def test_every_link_says_what_it_is_about_and_names_facts() -> None:
    assert len(LINKS) >= 12
    for name, link in LINKS.items():
        assert link.about, name
        assert link.expect, name
        assert link.expect.keys() <= FACTS, name
        assert all(least <= most for least, most in link.expect.values()), name


def test_a_link_played_again_gives_the_same_facts() -> None:
    link = LINKS["webhook_shared_by_three"]
    assert play(link).facts == play(link).facts


def test_a_range_that_is_missed_is_seen() -> None:
    facts = play(msgspec.structs.replace(LINKS["webhook_20_a_second"], destination={
        **LINKS["webhook_20_a_second"].destination, "rate_limit": "25/s"})).facts  # fmt: skip
    _, most = LINKS["webhook_20_a_second"].expect["most_requests_a_minute"]
    assert facts.most_requests_a_minute > most

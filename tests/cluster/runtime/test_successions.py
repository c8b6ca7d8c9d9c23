"""Who is silent for too long is replaced, once; who starts, lets go or only seems slow is not."""

from __future__ import annotations

from cluster.runtime.successions import LOOK_MS_MAX, Sign, Successions

TERM_MS, GRACE_MS, START_MS = 5_000, 3_000, 60_000
LONG_MS = TERM_MS + GRACE_MS


class Looks:
    """Someone who looks every second."""

    def __init__(self) -> None:
        self.successions = Successions(GRACE_MS, START_MS)
        self.now_ms = 0.0

    def for_ms(self, duration_ms: int, **values: object) -> list[tuple[float, str]]:
        """Look for so long; gives when who was found silent. A value of None: no sign."""
        signs = {name: None if value is None else Sign(value, TERM_MS) for name, value in values.items()}
        found = []
        until = self.now_ms + duration_ms
        while self.now_ms < until:
            self.now_ms += 1_000
            found += [(self.now_ms, name) for name in self.successions.looked(signs, self.now_ms)]
        return found


def test_who_gives_no_sign_for_a_term_and_the_grace_is_found_once_until_it_had_time_to_start() -> None:
    looks = Looks()
    assert looks.for_ms(1_000, a="one") == []
    assert looks.for_ms(LONG_MS, a="one") == [(1_000 + LONG_MS, "a")]
    assert looks.for_ms(START_MS - 1_000, a="one") == [], "its successor may take long to start"
    assert looks.for_ms(1_000, a="one") == [(1_000 + LONG_MS + START_MS, "a")], "it may be stopped too"


def test_a_successor_is_judged_by_its_own_signs() -> None:
    looks = Looks()
    looks.for_ms(LONG_MS + 1_000, a="one")
    assert looks.for_ms(30_000, a="one") == []
    assert looks.for_ms(1_000, a="two") == []
    began = looks.now_ms
    assert looks.for_ms(20_000, a="two") == [(began + LONG_MS, "a")]


def test_who_renews_is_not_silent() -> None:
    looks = Looks()
    for beat in range(30):
        assert looks.for_ms(LONG_MS - 1_000, a=beat) == []


def test_who_has_not_begun_or_has_let_go_has_time_to_begin() -> None:
    looks = Looks()
    assert looks.for_ms(START_MS, a=None) == []
    assert looks.for_ms(1_000, a=None) == [(START_MS + 1_000, "a")]
    assert looks.for_ms(1_000, a="begun") == []
    assert looks.for_ms(START_MS, a=None) == []
    assert [name for _, name in looks.for_ms(1_000, a=None)] == ["a"]


def test_each_is_judged_apart_and_forgotten_when_it_is_no_more() -> None:
    looks = Looks()
    looks.for_ms(5_000, a="one", b="one")
    assert looks.for_ms(4_000, a="one", b="two") == [(9_000, "a")]
    looks.for_ms(1_000, b="three")
    assert looks.for_ms(LONG_MS, a="one", b="four") == [], "it came anew"


def test_who_looks_and_was_stopped_itself_blames_nobody() -> None:
    looks = Looks()
    looks.for_ms(2_000, a="one")
    looks.now_ms += 100_000
    assert looks.for_ms(1_000, a="one") == []
    passed_ms = 1_000 + LOOK_MS_MAX
    assert passed_ms < LONG_MS
    assert looks.for_ms(LONG_MS, a="one") == [(102_000 + LONG_MS - passed_ms + 1_000, "a")]

"""Rules over samples in virtual time: what is told, how often, and what is not known."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.delivery.alerting.history import History, Memory
from actors.delivery.alerting.rules import AlertMachine, Sample, SyncSample
from cluster.definitions.alerting import RULE_MODELS, Alert

MINUTE = 60_000


def machine(kind: str, cooldown_ms: int = 10 * MINUTE, **rule: Any) -> AlertMachine:
    made = AlertMachine()
    made.configure([alert(kind, cooldown_ms, **rule)])
    return made


def alert(kind: str, cooldown_ms: int = 10 * MINUTE, **rule: Any) -> Alert:
    return Alert("a", kind, RULE_MODELS[kind].model_validate(rule), ("ops",), cooldown_ms, "Late again")


def sync(**fields: Any) -> Sample:
    return Sample({"promo": SyncSample(**{"state": "running", **fields})})


def told(machine: AlertMachine, sample: Sample, now_ms: int) -> list[tuple[str, str]]:
    return [(notice.state, notice.message) for notice, _ in machine.take(sample, now_ms)]


def test_a_rule_that_becomes_true_is_told_once_and_once_that_it_ended() -> None:
    late = machine("backlog_age", above="10m")
    assert told(late, sync(oldest_unsent_ms=10 * MINUTE), 0) == []
    (notice, of), *others = late.take(sync(state="down", oldest_unsent_ms=11 * MINUTE), MINUTE)
    assert others == []
    assert (notice.alert, notice.rule, notice.subject, of.channels) == ("a", "backlog_age", "sync promo", ("ops",))
    assert notice.message == "the oldest unsent change is 11m old (above 10m); the sync is down"
    assert told(late, sync(oldest_unsent_ms=30 * MINUTE), 2 * MINUTE) == []
    ((state, message),) = told(late, sync(), 3 * MINUTE)
    assert (state, message[:21]) == ("recovered", "no more, after 2m: th")
    assert told(late, sync(), 4 * MINUTE) == []


def test_what_comes_and_goes_is_told_at_most_once_a_cooldown() -> None:
    late = machine("backlog_age", above="1m", cooldown_ms=10 * MINUTE)
    comes_and_goes = [sync(oldest_unsent_ms=(at % 2) * 2 * MINUTE) for at in range(40)]
    times = [state for at, sample in enumerate(comes_and_goes) for state, _ in told(late, sample, at * MINUTE)]
    assert times == ["firing", "recovered"] * 4
    assert told(machine("backlog_age", above="1m", cooldown_ms=0), sync(oldest_unsent_ms=2 * MINUTE), 0)


def test_what_lasts_beyond_a_cooldown_in_which_it_came_back_is_told_then() -> None:
    late = machine("backlog_age", above="1m", cooldown_ms=10 * MINUTE)
    old = sync(oldest_unsent_ms=2 * MINUTE)
    assert [state for state, _ in told(late, old, 0)] == ["firing"]
    assert [state for state, _ in told(late, sync(), MINUTE)] == ["recovered"]
    assert told(late, old, 2 * MINUTE) == told(late, old, 9 * MINUTE) == []
    (notice, _), *_ = late.take(old, 10 * MINUTE)
    assert (notice.state, notice.since_ms) == ("firing", 2 * MINUTE)


def test_a_paused_sync_is_late_on_purpose() -> None:
    assert told(machine("backlog_age", above="1m"), sync(state="paused", oldest_unsent_ms=MINUTE * 99), 0) == []


def test_refused_credentials_are_told_with_the_reason() -> None:
    refused = machine("credentials", syncs="promo")
    assert told(refused, sync(state="credentials", reason="401 bad key"), 0) == [("firing", "credentials: 401 bad key")]
    assert [state for state, _ in told(refused, sync(), 1)] == ["recovered"]
    assert told(machine("credentials", syncs=["other"]), sync(state="credentials"), 0) == []


def test_the_failure_rate_is_that_of_the_window_alone() -> None:
    failing = machine("failure_rate", above="10%", over="10m", at_least=100)
    assert told(failing, sync(delivered=1_000_000, failed=500_000), 0) == []
    assert told(failing, sync(delivered=1_000_000, failed=500_050, retried=40), 5 * MINUTE) == [], "90 are too few"
    ((state, message),) = told(failing, sync(delivered=1_000_800, failed=500_050, retried=50), 6 * MINUTE)
    assert message == "100 of 900 records failed within 10m, 11.1% (above 10%)"
    ((state, message),) = told(failing, sync(delivered=1_002_000, failed=500_050, retried=50), 16 * MINUTE)
    assert state == "recovered"


def test_after_a_restart_nothing_ends_that_is_not_known_to_have_ended() -> None:
    before = machine("failure_rate", above="10%", over="10m", at_least=10)
    told(before, sync(), 0)
    assert told(before, sync(failed=10), MINUTE)
    after = AlertMachine(before.standings)
    after.configure([alert("failure_rate", above="10%", over="10m", at_least=10)])
    assert told(after, sync(failed=10), 2 * MINUTE) == []
    assert told(after, sync(failed=10), 9 * MINUTE) == []
    assert [state for state, _ in told(after, sync(failed=10, delivered=500), 13 * MINUTE)] == ["recovered"]


def test_an_audience_that_grows_or_shrinks_beyond_the_share_is_told() -> None:
    def sized(**sizes: int) -> Sample:
        return Sample({}, sizes)

    size = machine("audience_size", above="20%", over="1h", at_least=50)
    assert told(size, sized(vip=100, tiny=2), 0) == []
    assert told(size, sized(vip=120, tiny=40), 10 * MINUTE) == []
    ((_, message),) = told(size, sized(vip=79, tiny=49), 20 * MINUTE)
    assert message == "the audience has shrunk from 120 to 79 within 1h, 34.2% (above 20%)"
    assert told(size, Sample({}, None), 30 * MINUTE) == [], "an evaluator does not answer"
    assert [state for state, _ in told(size, sized(vip=80, tiny=49), 85 * MINUTE)] == ["recovered"]
    assert told(machine("audience_size", above="20%", audiences="vip"), sized(other=5), 0) == []


def test_silence_is_told_and_an_event_ends_it() -> None:
    def events(count: int | None) -> Sample:
        return Sample({}, events=None if count is None else {"events": count})

    silent = machine("no_events", **{"for": "5m"})
    assert told(silent, events(7), 0) == []
    assert told(silent, events(8), 4 * MINUTE) == []
    assert told(silent, events(None), 8 * MINUTE) == []
    assert told(silent, events(8), 8 * MINUTE) == []
    assert told(silent, events(3), 9 * MINUTE) == [("firing", "no event was accepted for 5m")], "a restart is no event"
    after = AlertMachine(silent.standings)
    after.configure([alert("no_events", **{"for": "5m"})])
    assert told(after, events(3), 10 * MINUTE) == []
    assert [state for state, _ in told(after, events(4), 11 * MINUTE)] == ["recovered"]


def after_restart(before: AlertMachine, *alerts: Alert) -> AlertMachine:
    """The next process, with what the one before wrote down."""
    memory = msgspec.msgpack.decode(msgspec.msgpack.encode(before.memory()), type=Memory)
    made = AlertMachine(before.standings, memory)
    made.configure(alerts)
    return made


def test_silence_of_one_event_model_or_source_is_told_though_others_come() -> None:
    def events(order: int, page: int, web: int) -> Sample:
        return Sample({}, events={"events": order + page, "event model order": order, "event model page": page,
                                  "source web": web})  # fmt: skip

    silent = machine("no_events", event_models="order", sources=["web"], **{"for": "5m"})
    for at in range(5):
        assert told(silent, events(7, at, at), at * MINUTE) == []
    assert told(silent, events(7, 9, 9), 5 * MINUTE) == [
        ("firing", "no event of event model order was accepted for 5m")
    ]  # fmt: skip
    (notice, _), *others = silent.take(events(8, 10, 9), 11 * MINUTE)
    assert (notice.state, notice.subject) == ("recovered", "event model order")
    assert [(other.state, other.subject) for other, _ in others] == [("firing", "source web")]


def test_silence_goes_on_over_a_restart_and_a_count_that_begins_anew_is_not_known() -> None:
    def events(order: int) -> Sample:
        return Sample({}, events={"event model order": order})

    rule = alert("no_events", event_models="order", **{"for": "5m"})
    before = AlertMachine()
    before.configure([rule])
    assert told(before, events(0), 0) == []
    assert told(before, events(7), MINUTE) == []
    after = after_restart(before, rule)
    assert told(after, events(7), 5 * MINUTE) == []
    assert [state for state, _ in told(after, events(7), 6 * MINUTE)] == ["firing"]
    again = after_restart(after, rule)
    assert told(again, events(3), 7 * MINUTE) == [], "an evaluator was restarted meanwhile"
    assert [state for state, _ in told(again, events(4), 8 * MINUTE)] == ["recovered"]
    came = after_restart(before, rule)
    assert told(came, events(9), 20 * MINUTE) == [], "events came while nobody looked"


def test_the_failure_rate_goes_on_over_a_restart() -> None:
    rule = alert("failure_rate", above="10%", over="10m", at_least=10)
    before = AlertMachine()
    before.configure([rule])
    assert told(before, sync(delivered=100), 0) == []
    assert told(before, sync(delivered=110, retried=1), 4 * MINUTE) == []
    after = after_restart(before, rule)
    # What was retried is counted anew, what was delivered and failed goes on.
    assert told(after, sync(delivered=110), 5 * MINUTE) == []
    ((state, message),) = told(after, sync(delivered=118, retried=2), 6 * MINUTE)
    assert (state, message[:38]) == ("firing", "3 of 21 records failed within 10m, 14.")
    again = after_restart(after, rule)
    assert told(again, sync(delivered=118), 7 * MINUTE) == [], "it still stands, and is not told twice"
    ((state, _),) = told(again, sync(delivered=120), 17 * MINUTE)
    assert state == "recovered", "at once when the window is over: what came before the restart is known"


def test_an_audiences_size_is_compared_with_what_it_was_before_a_restart() -> None:
    rule = alert("audience_size", above="20%", over="1h", at_least=50)
    before = AlertMachine()
    before.configure([rule])
    assert told(before, Sample({}, {"vip": 100}), 0) == []
    after = after_restart(before, rule)
    ((state, message),) = told(after, Sample({}, {"vip": 60}), 10 * MINUTE)
    assert (state, message[:40]) == ("firing", "the audience has shrunk from 100 to 60 w")
    again = after_restart(after, rule)
    ((state, _),) = told(again, Sample({}, {"vip": 60}), 75 * MINUTE)
    assert state == "recovered"
    other = after_restart(before, alert("audience_size", above="20%", over="2h", at_least=50))
    assert told(other, Sample({}, {"vip": 60}), 10 * MINUTE) == [], "another rule has no past"


def test_what_is_remembered_of_a_history_is_bounded_and_has_both_ends() -> None:
    history = History(3_600_000)
    for second in range(7_200):
        history.add(second * 1000, (second,))
    kept = history.remembered()
    assert len(kept) <= 25
    assert kept[0][1] == list(history.first)
    assert kept[-1][1] == [7_199]
    assert History.of(3_600_000, kept).first == history.first
    assert History(1).remembered() == []


def test_who_is_gone_is_forgotten_without_a_word() -> None:
    late = machine("backlog_age", above="1m")
    assert told(late, sync(oldest_unsent_ms=2 * MINUTE), 0)
    assert told(late, Sample({}), 1) == []
    assert late.standings == {}
    assert told(late, sync(oldest_unsent_ms=2 * MINUTE), 2)
    late.configure([])
    assert late.standings == {}


def test_a_history_is_bounded_and_reaches_back() -> None:
    history = History(3_600_000)
    for second in range(0, 20_000):
        history.add(second * 1000, (second,))
    values = [value for (value,) in history]
    assert len(values) <= 125
    assert history.first[0] <= 20_000 - 3_600
    assert history.first[0] >= 20_000 - 3_600 - 40
    assert values[-1] == 19_999

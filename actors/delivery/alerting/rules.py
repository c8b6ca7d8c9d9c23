"""From samples to notices, deterministic: a rule becomes true of a subject, is told, and is told again when it ends.

Laws: of one alert and subject, a notice that it is true comes at most once a cooldown, and a notice that it has ended
exactly once after each; what cannot be known now (an evaluator that does not answer) changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from actors.delivery.alerting.history import History, Memory, Silences
from cluster.definitions.alerting import (
    Alert,
    AudienceSize,
    BacklogAge,
    CredentialsRefused,
    FailureRate,
    NoEvents,
)
from cluster.model.durations import format_duration

#: The subject of silence where a rule names no event model and no source.
ALL_EVENTS: Final = "events"
_STOPPED: Final = frozenset({"credentials", "disabled", "refused"})


@dataclass(frozen=True, slots=True)
class SyncSample:
    """How a sync is. Counts are of records and grow; `oldest_unsent_ms` is an age, None where nothing waits."""

    state: str
    reason: str = ""
    delivered: int = 0
    failed: int = 0
    retried: int = 0
    oldest_unsent_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What there is to know at a time. `sizes` of audiences and `events` accepted: None where somebody did not say.

    `events` are by subject: `events` are all, `event model order` and `source web` those of one.
    """

    syncs: Mapping[str, SyncSample]
    sizes: Mapping[str, int] | None = None
    events: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """What people are told. `subject` is `sync promo`, `audience vip`, `events`, `event model order` or `source web`.

    Times are UTC ms.
    """

    id: str
    alert: str
    name: str
    rule: str
    subject: str
    state: Literal["firing", "recovered"]
    at_ms: int
    since_ms: int
    message: str


@dataclass(slots=True)
class Standing:
    """How an alert stands for a subject. `told`: its present truth was told; `told_ms`: when one was last."""

    since_ms: int | None = None
    told: bool = False
    told_ms: int | None = None
    message: str = ""


#: Standing by alert and subject.
Standings: TypeAlias = dict[tuple[str, str], Standing]


class AlertMachine:
    """Every alert's standing. `standings` and `memory` may be given as an earlier process left them."""

    def __init__(self, standings: Standings | None = None, memory: Memory | None = None) -> None:
        memory = memory or Memory()
        self.standings: Standings = dict(standings or {})
        self._alerts: Sequence[Alert] = ()
        self._histories = {
            (alert, subject): History.of(over_ms, samples) for alert, subject, over_ms, samples in memory.histories
        }
        self._silences = Silences(memory.silences)

    def memory(self) -> Memory:
        """Give what the next process must know so that rules that look back go on."""
        histories = [
            (alert, subject, one.over_ms, one.remembered()) for (alert, subject), one in self._histories.items()
        ]
        return Memory(histories, self._silences.remembered())

    def configure(self, alerts: Iterable[Alert]) -> None:
        """Take changed definitions: alerts that are gone are forgotten, without a word."""
        self._alerts = tuple(alerts)
        known = {alert.id for alert in self._alerts}
        self.standings = {key: one for key, one in self.standings.items() if key[0] in known}
        self._histories = {key: one for key, one in self._histories.items() if key[0] in known}

    @property
    def wants_anything(self) -> bool:
        """Whether there is any rule."""
        return bool(self._alerts)

    @property
    def wants_evaluators(self) -> bool:
        """Whether any rule needs `Sample.sizes` or `Sample.events`."""
        return any(isinstance(alert.rule, AudienceSize | NoEvents) for alert in self._alerts)

    def take(self, sample: Sample, now_ms: int) -> list[tuple[Notice, Alert]]:
        """Judge a sample; gives what is to be told, with the alert that says whom."""
        if sample.events is not None:
            self._silences.take(sample.events, now_ms)
        notices: list[tuple[Notice, Alert]] = []
        for alert in self._alerts:
            found = list(self._judge(alert, sample, now_ms))
            subjects = {subject for subject, _ in found}
            for key in [key for key in self.standings if key[0] == alert.id and key[1] not in subjects]:
                # Its sync or audience is gone; where nothing is known, it is still among the subjects.
                del self.standings[key]
                self._histories.pop(key, None)
            for subject, why in found:
                if why is not None:
                    notice = self._stand(alert, subject, why, now_ms)
                    notices += [] if notice is None else [(notice, alert)]
        return notices

    # --- what becomes of a judgement ---------------------------------------------------------------

    def _stand(self, alert: Alert, subject: str, why: str, now_ms: int) -> Notice | None:
        """Bring a standing up to date; `why` is empty where the rule is not true."""
        standing = self.standings.setdefault((alert.id, subject), Standing())
        if why:
            standing.message = why
            if standing.since_ms is None:
                standing.since_ms = now_ms
            cools = standing.told_ms is not None and 0 <= now_ms - standing.told_ms < alert.cooldown_ms
            if standing.told or cools:
                return None
            standing.told, standing.told_ms = True, now_ms
            return _notice(alert, subject, "firing", standing.since_ms, now_ms, why)
        since_ms, told = standing.since_ms, standing.told
        standing.since_ms, standing.told = None, False
        if since_ms is None or not told:
            return None
        lasted = format_duration(max(0, now_ms - since_ms) // 1000 * 1000)
        return _notice(alert, subject, "recovered", since_ms, now_ms, f"no more, after {lasted}: {standing.message}")

    # --- rules -------------------------------------------------------------------------------------

    def _judge(self, alert: Alert, sample: Sample, now_ms: int) -> Iterator[tuple[str, str | None]]:
        """Give each subject with why the rule is true of it: empty where it is not, None where that is not known."""
        rule = alert.rule
        match rule:
            case NoEvents():
                for subject in silent_subjects(rule):
                    yield subject, self._no_events(rule, subject, sample, now_ms)
            case AudienceSize():
                sizes = sample.sizes
                if sizes is None:
                    yield from ((subject, None) for id_, subject in list(self.standings) if id_ == alert.id)
                    return
                for audience in _chosen(rule.audiences, sizes):
                    subject = f"audience {audience}"
                    yield subject, self._size(alert, rule, subject, sizes[audience], now_ms)
            case _:
                for sync in _chosen(rule.syncs, sample.syncs):
                    yield f"sync {sync}", self._sync(alert, rule, f"sync {sync}", sample.syncs[sync], now_ms)

    def _sync(self, alert: Alert, rule: Any, subject: str, sync: SyncSample, now_ms: int) -> str | None:
        match rule:
            case BacklogAge():
                age_ms = sync.oldest_unsent_ms
                # What somebody holds back on purpose is late on purpose.
                if sync.state == "paused" or age_ms is None or age_ms <= rule.above:
                    return ""
                age, above = format_duration(age_ms // 1000 * 1000), format_duration(rule.above)
                return f"the oldest unsent change is {age} old (above {above}); the sync is {sync.state}"
            case CredentialsRefused():
                return f"{sync.state}: {sync.reason}" if sync.state in _STOPPED else ""
            case FailureRate():
                return self._failures(alert, rule, subject, sync, now_ms)
        message = f"no rule {rule!r}"
        raise AssertionError(message)

    def _failures(self, alert: Alert, rule: FailureRate, subject: str, sync: SyncSample, now_ms: int) -> str | None:
        history = self._history(alert, subject, rule.over)
        history.add(now_ms, (sync.failed, sync.retried, sync.delivered), grow=True)
        first_failed, first_retried, first_good = history.first
        failed = sync.failed - first_failed + sync.retried - first_retried
        tried = failed + sync.delivered - first_good
        if tried < rule.at_least or failed <= rule.above * tried:
            return history.otherwise(now_ms)
        return (
            f"{failed:,} of {tried:,} records failed within {format_duration(rule.over)}, {failed / tried:.1%}"
            f" (above {_percent(rule.above)})"
        )

    def _size(self, alert: Alert, rule: AudienceSize, subject: str, size: int, now_ms: int) -> str | None:
        history = self._history(alert, subject, rule.over)
        history.add(now_ms, (size,))
        sizes = [values[0] for values in history]
        for before in (min(sizes), max(sizes)):
            if before >= rule.at_least and abs(size - before) > rule.above * before:
                word = "grown" if size > before else "shrunk"
                return (
                    f"the audience has {word} from {before:,} to {size:,} within {format_duration(rule.over)},"
                    f" {abs(size - before) / before:.1%} (above {_percent(rule.above)})"
                )
        return history.otherwise(now_ms)

    def _no_events(self, rule: NoEvents, subject: str, sample: Sample, now_ms: int) -> str | None:
        silence = self._silences.of(subject)
        if sample.events is None or silence is None:
            return None
        silent_ms = now_ms - silence.since_ms
        if silent_ms < rule.for_ms:
            return "" if silence.known else None
        what = "" if subject == ALL_EVENTS else f" of {subject}"
        return f"no event{what} was accepted for {format_duration(silent_ms // 1000 * 1000)}"

    def _history(self, alert: Alert, subject: str, over_ms: int) -> History:
        history = self._histories.get((alert.id, subject))
        if history is None or history.over_ms != over_ms:
            history = self._histories[alert.id, subject] = History(over_ms)
        return history


def silent_subjects(rule: NoEvents) -> list[str]:
    """Give what a rule is about: each event model and each source that it names, or all events."""
    named = [f"event model {id_}" for id_ in rule.event_models or ()]
    named += [f"source {id_}" for id_ in rule.sources or ()]
    return named or [ALL_EVENTS]


def _chosen(named: Sequence[str] | None, there: Mapping[str, Any]) -> list[str]:
    return [id_ for id_ in there if named is None or id_ in named]


def _notice(
    alert: Alert, subject: str, state: Literal["firing", "recovered"], since_ms: int, now_ms: int, message: str
) -> Notice:
    key = "\0".join((alert.id, subject, state, str(since_ms), str(now_ms)))
    id_ = f"alert_{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    return Notice(id_, alert.id, alert.name, alert.kind, subject, state, now_ms, since_ms, message)


def _percent(share: float) -> str:
    return f"{share * 100:g}%"

"""What arrives, by name: how often, how fast, what the last one looked like, which model takes it, what is broken.

For people who are about to model events, so bounded and beside the work: batches are kept for a moment and then
counted many at once, whole columns at a time; only events that no named model takes are looked at one by one, by
three fields. Samples are parsed at most once a second and name.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from cluster.admission.hits import Decoded
from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.admission.wire_paths import NAMED_TYPES
from cluster.edge.learning import Fields, merged

#: Names that are told apart; events of further ones are counted together.
NAMES_MAX: Final = 2_000
#: Longer names, and larger samples, are cut and left out.
_NAME_LENGTH_MAX: Final = 200
_SAMPLE_BYTES_MAX: Final = 8_192
#: So many samples of a name are looked at as they come, later ones at this pace.
_SAMPLES_AT_ONCE: Final = 20
_SAMPLE_EVERY_MS: Final = 1_000
#: The rate is that of the last minute, in steps.
_STEP_MS: Final = 10_000
_STEPS: Final = 6
#: Batches and rows that wait to be counted, and for how long.
_BATCHES_MAX: Final = 64
_ROWS_MAX: Final = 16_384
_WAIT_S: Final = 0.25
#: Broken rules of a name that are listed.
_RULES_MAX: Final = 20


class _Head(msgspec.Struct):
    type: Any = None
    event: Any = None
    name: Any = None


_head = msgspec.json.Decoder(_Head).decode
_parse = msgspec.json.Decoder().decode


@dataclass(slots=True)
class _Sighting:
    """Events of one type and name."""

    first_ms: int
    last_ms: int = 0
    count: int = 0
    models: set[str] = field(default_factory=set)
    sources: set[str] = field(default_factory=set)
    rejected: Counter[str] = field(default_factory=Counter)
    steps: dict[int, int] = field(default_factory=dict)
    sample: Any = None
    sampled_ms: int = 0
    fields: Fields = field(default_factory=Fields)

    def add(self, count: int, now_ms: int) -> None:
        self.count += count
        self.last_ms = now_ms
        step = now_ms // _STEP_MS
        self.steps[step] = self.steps.get(step, 0) + count
        if len(self.steps) > _STEPS + 1:
            del self.steps[min(self.steps)]

    def per_s(self, now_ms: int) -> float:
        """Give the rate over the last minute, or since the first one where that is less."""
        oldest = now_ms // _STEP_MS - _STEPS + 1
        recent = sum(count for step, count in self.steps.items() if step >= oldest)
        span_ms = min(max(now_ms - self.first_ms, 1_000), now_ms - oldest * _STEP_MS)
        return round(recent / max(span_ms, 1_000) * 1_000, 3)

    def wants_sample(self, now_ms: int) -> bool:
        return self.fields.samples < _SAMPLES_AT_ONCE or now_ms - self.sampled_ms >= _SAMPLE_EVERY_MS


class _Names:
    """Which of a plan's models have a name of their own, and which names are several models'."""

    def __init__(self, plan: EventPlan) -> None:
        pairs: dict[tuple[str, str], int] = {}
        of_model = [
            -1 if model.event is None else pairs.setdefault((model.type, model.event), len(pairs))
            for model in plan.models
        ]
        self.plan = plan
        self.pairs = list(pairs)
        self.of_model = np.array(of_model, np.int64)
        self.models = [
            {model.id for model, own in zip(plan.models, of_model, strict=True) if own == pair}
            for pair in range(len(pairs))
        ]
        #: A row may be a hit of several models of one name.
        self.shared = len(pairs) < len([own for own in of_model if own >= 0])


class Sightings:
    """One edge process's. Needs a running event loop for `take`."""

    def __init__(
        self, now_ms: Callable[[], int], broken: Callable[[str, int], None] = lambda model, events: None
    ) -> None:
        """`broken` is told how many events broke a model's contract, a rule at a time."""
        self._now_ms = now_ms
        self._tell_broken = broken
        self._since_ms = now_ms()
        self._seen: dict[tuple[str, str], _Sighting] = {}
        self._others = 0
        self._unreadable = 0
        self._broken: defaultdict[str, Counter[str]] = defaultdict(Counter)
        #: The mode of each contract that was broken.
        self._modes: dict[str, str] = {}
        self._waiting: list[tuple[EventPlan, pa.RecordBatch, Decoded]] = []
        self._waiting_rows = 0
        self._timer: asyncio.TimerHandle | None = None
        self._names: _Names | None = None

    def take(self, plan: EventPlan, envelope: pa.RecordBatch, decoded: Decoded) -> None:
        """Remember a decoded batch until it is counted, soon."""
        self._waiting.append((plan, envelope, decoded))
        self._waiting_rows += envelope.num_rows
        if len(self._waiting) >= _BATCHES_MAX or self._waiting_rows >= _ROWS_MAX:
            self.count()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAIT_S, self.count)

    def unreadable(self, events: int) -> None:
        """Count events that are none: no JSON, no object."""
        self._unreadable += events

    def count(self) -> None:
        """Count what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._waiting_rows = self._waiting, [], 0
        for plan, envelope, decoded in waiting:
            self._count(plan, envelope, decoded, self._now_ms())

    def report(self) -> dict[str, Any]:
        """Give everything, as `GET /api/v1/events/seen` shows it for one process."""
        self.count()
        now_ms = self._now_ms()
        return {
            "since_ms": self._since_ms,
            "events": [self._row(type_, name, one, now_ms) for (type_, name), one in self._seen.items()],
            "others": self._others,
            "unreadable": self._unreadable,
            "violations": {
                model: {"mode": self._modes[model], "rules": dict(rules.most_common(_RULES_MAX))}
                for model, rules in self._broken.items()
            },
        }

    def _row(self, type_: str, name: str, one: _Sighting, now_ms: int) -> dict[str, Any]:
        return {
            "type": type_, "name": name, "count": one.count, "per_s": one.per_s(now_ms),
            "first_seen_ms": one.first_ms, "last_seen_ms": one.last_ms, "models": sorted(one.models),
            "sources": sorted(one.sources), "rejected": dict(one.rejected), "sample": one.sample,
            "samples": one.fields.samples, "fields": one.fields.report(),
        }  # fmt: skip

    def _count(self, plan: EventPlan, envelope: pa.RecordBatch, decoded: Decoded, now_ms: int) -> None:
        if self._names is None or self._names.plan is not plan:
            self._names = _Names(plan)
        for violation in decoded.violations:
            self._broken[violation.model][violation.rule] += violation.events
            self._tell_broken(violation.model, violation.events)
            contract = plan.models[plan.model_index[violation.model]].contract
            self._modes[violation.model] = contract.mode if contract is not None else "warn"
        singly = {row: reason for row, reason in decoded.rejected}
        unnamed = self._count_named(self._names, envelope, decoded, now_ms)
        for row in unnamed:
            singly.setdefault(row, "")
        if singly:
            self._count_singly(envelope, singly, unnamed, now_ms)

    def _count_named(
        self, names: _Names, envelope: pa.RecordBatch, decoded: Decoded, now_ms: int
    ) -> dict[int, set[str]]:
        """Count the hits of models that have a name; give the rows of others, with their models."""
        rows, models = decoded.hits["row"].to_numpy(), decoded.hits["model"].to_numpy()
        if not len(rows):
            return {}
        pairs = names.of_model[models]
        own = pairs >= 0
        others: dict[int, set[str]] = {}
        if not own.all():
            for row, model in zip(rows[~own].tolist(), models[~own].tolist(), strict=True):
                others.setdefault(row, set()).add(names.plan.models[model].id)
            named = set(rows[own].tolist())
            others = {row: found for row, found in others.items() if row not in named}
        rows, pairs = rows[own].astype(np.int64), pairs[own]
        if names.shared and len(rows):
            rows, pairs = np.divmod(np.unique(rows * len(names.pairs) + pairs), len(names.pairs))
        for pair in np.flatnonzero(np.bincount(pairs, minlength=len(names.pairs))).tolist():
            mine = rows[pairs == pair]
            sighting = self._of(*names.pairs[pair], len(mine), now_ms)
            if sighting is not None:
                sighting.models |= names.models[pair]
                self._sample(sighting, envelope, int(mine[0]), now_ms)
        return others

    def _count_singly(
        self, envelope: pa.RecordBatch, rows: dict[int, str], models: dict[int, set[str]], now_ms: int
    ) -> None:
        texts = envelope["raw"].take(pa.array(list(rows))).to_pylist()
        formats = envelope["format"].take(pa.array(list(rows))).to_pylist()
        for (row, reason), text, fmt in zip(rows.items(), texts, formats, strict=True):
            named = _name_of(text, Format(fmt))
            if named is None:
                self._unreadable += 1
                continue
            sighting = self._of(*named, 1, now_ms)
            if sighting is not None:
                sighting.models |= models.get(row, set())
                if reason:
                    sighting.rejected[reason] += 1
                self._sample(sighting, envelope, row, now_ms)

    def _of(self, type_: str, name: str, count: int, now_ms: int) -> _Sighting | None:
        key = (type_[:_NAME_LENGTH_MAX], name[:_NAME_LENGTH_MAX])
        sighting = self._seen.get(key)
        if sighting is None:
            if len(self._seen) >= NAMES_MAX:
                self._others += count
                return None
            sighting = self._seen[key] = _Sighting(now_ms)
        sighting.add(count, now_ms)
        return sighting

    def _sample(self, sighting: _Sighting, envelope: pa.RecordBatch, row: int, now_ms: int) -> None:
        if not sighting.wants_sample(now_ms):
            return
        text = envelope["raw"][row].as_py()
        source = envelope["source"][row].as_py()
        if source is not None and len(sighting.sources) < _RULES_MAX:
            sighting.sources.add(source)
        if len(text) > _SAMPLE_BYTES_MAX:
            return
        try:
            event = _parse(text)
        except (ValueError, RecursionError):
            return  # read leniently by the decoder; as a sample it would not be what was sent
        sighting.sampled_ms = now_ms
        if isinstance(event, dict):
            event.pop("writeKey", None)
            sighting.fields.learn(Format(envelope["format"][row].as_py()), event)
            sighting.sample = event


def _name_of(text: bytes, fmt: Format) -> tuple[str, str] | None:
    """Give an event's type and canonical name; empty for what is no text. None for what is no event."""
    try:
        head = _head(text)
    except (ValueError, RecursionError):
        return None
    type_ = head.type if isinstance(head.type, str) else ""
    name = head.name if fmt is not Format.NATIVE and type_ in NAMED_TYPES else head.event
    return type_, name if isinstance(name, str) else ""


def merge_reports(reports: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Put the reports of several processes together, by type and name, the most frequent first."""
    known = list(reports)
    rows: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for report in known:
        for row in report["events"]:
            rows[row["type"], row["name"]].append(row)
    rules: defaultdict[str, Counter[str]] = defaultdict(Counter)
    modes: dict[str, str] = {}
    for report in known:
        for model, found in report["violations"].items():
            rules[model].update(found["rules"])
            modes[model] = found["mode"]
    return {
        "since_ms": min((report["since_ms"] for report in known), default=0),
        "events": sorted(map(_merged_row, rows.values()), key=lambda row: -row["count"]),
        "others": sum(report["others"] for report in known),
        "unreadable": sum(report["unreadable"] for report in known),
        "violations": {
            model: {"mode": modes[model], "rules": dict(found.most_common(_RULES_MAX))}
            for model, found in rules.items()
        },
    }


def _merged_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    newest = max(rows, key=lambda row: row["last_seen_ms"])
    rejected: Counter[str] = Counter()
    for row in rows:
        rejected.update(row["rejected"])
    return {
        **newest,
        "count": sum(row["count"] for row in rows),
        "per_s": round(sum(row["per_s"] for row in rows), 3),
        "first_seen_ms": min(row["first_seen_ms"] for row in rows),
        "models": sorted({model for row in rows for model in row["models"]}),
        "sources": sorted({source for row in rows for source in row["sources"]}),
        "rejected": dict(rejected),
        "samples": sum(row["samples"] for row in rows),
        "fields": merged([(row["samples"], row["fields"]) for row in rows]) if newest["samples"] else [],
    }

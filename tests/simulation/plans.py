"""A plan: everything that will be done to Usher in one run, drawn from the seed before it begins.

A plan is data, so that a failing one can be made smaller: a part of it left out leaves the rest as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, Literal, get_args

from cluster.runtime.placement import deal_partitions
from tests.conftest import START_MS
from tests.simulation.brokers import Trouble
from tests.simulation.dice import dice
from tests.simulation.processes import Point
from tests.simulation.workload import PARTITIONS, RETENTION_LONG, USERS, Node, changed, document, event

FaultKind = Literal[
    "kill", "kill_in_commit", "kill_all", "power", "power_in_commit", "freeze", "zombie", "slow_disk", "full_disk",
    "rot", "clock", "lossy", "repeating", "late", "destination", "brokers",
]  # fmt: skip
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)
#: What a destination does while it fails.
Failing = Literal["timeout", "500", "429", "lost_answer", "reset"]

#: How long faults last at most; what is not here is over at once.
_LASTING_S: Final[Mapping[str, float]] = {
    "kill": 6.0, "kill_in_commit": 6.0, "kill_all": 6.0, "power": 8.0, "power_in_commit": 8.0, "freeze": 12.0,
    "zombie": 20.0, "slow_disk": 15.0, "full_disk": 8.0, "lossy": 10.0, "repeating": 15.0, "late": 15.0,
    "destination": 20.0, "brokers": 8.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong at `at_s`, for `for_s`. `target` is a process, or empty; `value` is the kind's own."""

    at_s: float
    kind: FaultKind
    target: str = ""
    for_s: float = 0.0
    value: Any = None

    def __str__(self) -> str:
        words = [self.kind, self.target, f"for {self.for_s:.2f} s" if self.for_s else "", str(self.value or "")]
        return " ".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class Request:
    """Events that a client sends at `at_s`, the same bytes again until it has an answer that ends the matter."""

    at_s: float
    rows: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Read:
    """A membership that somebody asks for at `at_s`."""

    at_s: float
    user: str
    audience: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Somebody hands all users over to so many evaluators; after `patience_s` they would rather not, if it is said."""

    at_s: float
    evaluators: int
    patience_s: float | None = None


@dataclass(frozen=True, slots=True)
class Tightness:
    """Bounds of Usher made small, so that few events reach them. `events_a_checkpoint` 0: no checkpoints."""

    wave_users: int
    rows_a_batch: int
    batches_waiting: int
    rows_a_read: int
    rows_a_block: int
    blocks_in_memory: int
    events_a_checkpoint: int
    trim_every_ms: int
    bytes_a_record: int
    bytes_a_mark: int
    rows_a_ledger: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. Times are seconds from its beginning; faults are over, and everything is up again, at `healed_s`."""

    seed: int
    evaluators: int
    edges: int
    medium: Literal["journal", "sqlite", "kafka"]
    documents: Sequence[tuple[float, Node]]
    #: From when to when (s) the audience of a sync is paused: which, by its name.
    pauses: Sequence[tuple[float, float, str]]
    #: When users are handed over to so many evaluators.
    scales: Sequence[Scale]
    requests: Sequence[Request]
    reads: Sequence[Read]
    snapshots: Sequence[tuple[float, Mapping[str, float | None]]]
    faults: Sequence[Fault]
    tightness: Tightness
    healed_s: float

    @property
    def owner_of_partition(self) -> tuple[int, ...]:
        """Which evaluator owns each partition."""
        return deal_partitions(PARTITIONS, self.evaluators)

    @property
    def publications(self) -> list[tuple[float, Node]]:
        """Give what is published when: the documents, and again where a pause begins or ends."""
        times = sorted({at_s for at_s, _ in self.documents} | {at_s for pause in self.pauses for at_s in pause[:2]})
        return [(at_s, self._document_at(at_s)) for at_s in times]

    def _document_at(self, now_s: float) -> Node:
        newest: Node = next(document for at_s, document in reversed(self.documents) if at_s <= now_s)
        paused = {audience for from_s, to_s, audience in self.pauses if from_s <= now_s < to_s}
        audiences = [{**each, "status": "paused"} if each["id"] in paused else each for each in newest["audiences"]]
        return {**newest, "audiences": audiences}

    def without(self, **parts: Any) -> Plan:
        """Give the plan with some of its parts replaced."""
        return replace(self, **parts)


def make_plan(seed: int, kinds: Sequence[FaultKind] = FAULT_KINDS, size: float = 1.0) -> Plan:
    """Draw the plan of a seed, with faults of these kinds alone. `size` 1 is a short story."""
    stream = dice(seed, "plan")
    length_s = stream.uniform(10.0, 35.0) * size
    evaluators = stream.choice([1, 2, 2, 3])
    edges = stream.choice([1, 1, 2])
    users = USERS[: stream.randint(2, len(USERS))]
    documents = [(0.0, document(dice(seed, "document")))]
    if stream.random() < 0.4:
        documents.append((stream.uniform(5.0, length_s), changed(dice(seed, "changed"), documents[0][1])))
    pauses = _pauses(dice(seed, "pauses"), length_s, documents[0][1])
    scales = _scales(dice(seed, "scales"), length_s, documents[0][1])
    moments = [scale.at_s for scale in scales] + [at_s for at_s, _ in documents[1:]]
    moments += [at_s for pause in pauses for at_s in pause[:2]]
    near = [at_s + 0.1 for at_s in moments]
    return Plan(
        seed=seed,
        evaluators=evaluators,
        edges=edges,
        medium=stream.choice(["journal", "journal", "sqlite", "kafka", "kafka"]),
        documents=documents,
        pauses=pauses,
        scales=scales,
        requests=_requests(dice(seed, "requests"), users, length_s, size, near),
        reads=_reads(dice(seed, "reads"), users, length_s, documents[0][1]),
        snapshots=_snapshots(dice(seed, "snapshots"), users, length_s),
        faults=_faults(dice(seed, "faults"), kinds, length_s, size, _names(evaluators, edges, scales), near),
        tightness=_tightness(dice(seed, "tightness")),
        healed_s=length_s + 6.0,
    )


def _names(evaluators: int, edges: int, scales: Sequence[Scale]) -> list[str]:
    """Name the processes, those that matter most several times, and those that are to come."""
    owners = [f"evaluator-{i}" for i in range(evaluators + sum(scale.evaluators for scale in scales))]
    return [*owners, *owners, "delivery", "delivery", *(f"edge-{i}" for i in range(edges)), "controller"]


def _requests(
    stream: Random, users: Sequence[str], length_s: float, size: float, near: Sequence[float]
) -> list[Request]:
    times: list[float] = []
    for _ in range(max(1, int(stream.randint(6, 14) * size))):
        # At times all at once, so that instants are shared, and batches; and where definitions change.
        at_s = stream.choice([*near, stream.uniform(1.0, length_s)])
        times.append(times[-1] if times and stream.random() < 0.25 else at_s)
    requests: list[Request] = []
    mark = 0
    for at_s in sorted(times):
        rows = []
        for _ in range(stream.choice([1, 1, 2, 3, 5])):
            mark += 1
            rows.append(event(stream, users, mark, START_MS + int(at_s * 1000)))
        requests.append(Request(at_s, rows))
    return requests


def _reads(stream: Random, users: Sequence[str], length_s: float, defined: Node) -> list[Read]:
    audiences = [each["id"] for each in defined["audiences"]]
    times = sorted(stream.uniform(1.0, length_s) for _ in range(stream.randint(0, 6)))
    return [Read(at_s, stream.choice(users), stream.choice(audiences)) for at_s in times]


def _pauses(stream: Random, length_s: float, defined: Node) -> list[tuple[float, float, str]]:
    if stream.random() >= 0.25:
        return []
    from_s, to_s = sorted(stream.uniform(1.0, length_s) for _ in range(2))
    return [(from_s, to_s, stream.choice(defined["syncs"])["audience"])]


def _scales(stream: Random, length_s: float, defined: Node) -> list[Scale]:
    # Who gets users gets what is retained of them: all of it, where checkers are to see all of it.
    if stream.random() >= 0.3 or defined["settings"]["retention"] != RETENTION_LONG:
        return []
    times = sorted(stream.uniform(3.0, length_s) for _ in range(stream.choice([1, 1, 2])))
    patience = [None, None, stream.uniform(0.01, 3.0)]
    return [Scale(at_s, stream.randint(1, 3), stream.choice(patience)) for at_s in times]


def _snapshots(
    stream: Random, users: Sequence[str], length_s: float
) -> list[tuple[float, Mapping[str, float | None]]]:
    times = sorted(stream.uniform(0.5, length_s) for _ in range(stream.choice([0, 1, 2])))
    return [
        (at_s, {user: stream.choice([50.0, 150.0, None]) for user in users if stream.random() < 0.7})
        for at_s in times
    ]


def _faults(
    stream: Random,
    kinds: Sequence[FaultKind],
    length_s: float,
    size: float,
    names: Sequence[str],
    near: Sequence[float],
) -> list[Fault]:
    if not kinds:
        return []
    drawn: list[Fault] = []
    for _ in range(max(1, int(stream.randint(1, 6) * size))):
        # Some come where definitions change, and some of them one into the other.
        at_s = stream.choice([*near, stream.uniform(1.0, length_s)])
        drawn.append(_fault(stream, stream.choice(kinds), at_s - stream.choice([0.0, 0.3]), names))
    if stream.random() < 0.2 and {"kill_in_commit", "freeze"} <= set(kinds):
        # An evaluator is stopped for some time, in which much comes due, and killed within the wave of it.
        name, at_s, passes = names[0], stream.uniform(1.0, length_s), stream.randint(0, 2)
        drawn.append(Fault(at_s, "kill_in_commit", name, 0.5, ("after_commit", passes)))
        drawn.append(Fault(at_s, "freeze", name, stream.uniform(2.0, 8.0)))
    return sorted(drawn, key=lambda fault: fault.at_s)


def _fault(stream: Random, kind: FaultKind, at_s: float, names: Sequence[str]) -> Fault:
    longest_s = _LASTING_S.get(kind, 0.0)
    for_s = stream.uniform(0.1, longest_s) if longest_s else 0.0
    name = stream.choice(names)
    owners = [each for each in names if each.startswith("evaluator")]
    value: Any = None
    match kind:
        case "kill_in_commit":
            point: Point = stream.choice(["before_commit", "unsynced", "after_commit", "in_checkpoint"])
            name = stream.choice(owners if point == "in_checkpoint" else [*owners, "delivery"])
            value = (point, stream.randint(0, 4))
        case "power_in_commit":
            name, value = stream.choice([*owners, "delivery"]), ("unsynced", stream.randint(0, 4))
        case "zombie" | "rot":
            name = stream.choice(owners)
        case "slow_disk":
            name, value = "", stream.choice([20, 200, 1_000])
        case "clock":
            name, value = "", stream.choice([-60_000, -3_000, -500, 700, 6_000, 45_000])
        case "lossy":
            name, value = "", stream.choice([0.05, 0.2, 0.5])
        case "repeating":
            name, value = "", stream.choice([0.2, 0.6])
        case "late":
            name, value = "", stream.choice([0.05, 0.5, 3.0])
        case "destination":
            name, value = stream.choice(["changes-hook", "state-hook"]), stream.choice(get_args(Failing))
        case "brokers":
            name, value = "", stream.choice(get_args(Trouble))
        case "kill_all" | "power" | "full_disk":
            name = ""
    return Fault(at_s, kind, name, for_s, value)


def _tightness(stream: Random) -> Tightness:
    return Tightness(
        wave_users=stream.choice([1, 2, 8_192]),
        rows_a_batch=stream.choice([1, 3, 8_192]),
        batches_waiting=stream.choice([2, 256, 256]),
        rows_a_read=stream.choice([1, 3, 2_000]),
        rows_a_block=stream.choice([1, 4, 8_192]),
        blocks_in_memory=stream.choice([1, 256]),
        events_a_checkpoint=stream.choice([0, 0, 3, 8]),
        trim_every_ms=stream.choice([3_000, 60_000]),
        bytes_a_record=stream.choice([500, 900_000]),
        bytes_a_mark=stream.choice([1_000, 1_000_000]),
        rows_a_ledger=stream.choice([2, 2, 200_000]),
    )

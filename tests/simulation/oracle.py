"""What the reference evaluator makes of one evaluator's log: independent of every line that evaluates in Usher."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from cluster.log.records import Entry
from cluster.model.partition_ranges import read_ranges
from cluster.model.partitions import partition_of
from cluster.wire.envelope import unpack
from tests.reference.evaluator import ReferenceEvaluator
from tests.simulation.history import History
from tests.simulation.workload import PARTITIONS


def reference_transitions(
    history: History, snapshots: Mapping[str, pa.Table], partitions: Collection[int], until_ms: int
) -> list[tuple[Any, ...]]:
    """Give the transitions that a history's inputs make for users of these partitions: see `transitions_of`."""
    return transitions_of(
        history.entries, snapshots, lambda user: partition_of(user, PARTITIONS) in partitions, until_ms
    )


def transitions_of(
    entries: Sequence[Entry], snapshots: Mapping[str, pa.Table], chosen: Callable[[str], bool], until_ms: int
) -> list[tuple[Any, ...]]:
    """Give the transitions at or before `until_ms` that the logged inputs make for the chosen users.

    Sorted tuples of at, audience, user, n, kind, cause and version. `snapshots` are trait tables by the path of their
    immutable copy. Ticks are not taken: what is due is made at its own time whenever it is made.
    """
    first = next((entry for entry in entries if entry.kind == "definitions"), None)
    if first is None:
        return []
    fields = msgspec.json.decode(first.payload)
    # In a log that was taken over, events of another evaluator may come before the definitions, which are one's alone.
    reference = ReferenceEvaluator(fields["document"], {}, entries[0].clock_ms, sourceless_fits_all=False)
    #: How many transitions there were when an audience's versions became these.
    versions: list[tuple[int, Mapping[str, int]]] = [(0, fields["audience_versions"])]
    for entry in entries:
        if entry.kind != "definitions":
            _take(reference, entry, snapshots, chosen)
        elif entry is not first:
            fields = msgspec.json.decode(entry.payload)
            reference.advance(entry.clock_ms)
            versions.append((len(reference.transitions), fields["audience_versions"]))
            reference.publish(fields["document"], entry.clock_ms)
    reference.advance(until_ms)
    return sorted(
        (each["at"], each["audience_id"], each["user_id"], each["n"], each["kind"], each["cause"], version)
        for each, version in _versioned(reference.transitions, versions)
        if each["at"] <= until_ms and chosen(each["user_id"])
    )


def _take(
    reference: ReferenceEvaluator, entry: Entry, snapshots: Mapping[str, pa.Table], chosen: Callable[[str], bool]
) -> None:
    match entry.kind:
        case "batch":
            for row in map(_part_of(entry), _rows(entry)):
                # Users are independent: one that nobody asks about is not worked out.
                if any(chosen(user) for user in (row["user_id"], row["properties"].get("gift_to")) if user):
                    reference.event(row, entry.clock_ms)
        case "traits":
            rows = snapshots[msgspec.json.decode(entry.payload)["path"]].to_pylist()
            reference.traits(entry.subject, [{**row, "user_id": row["key"]} for row in rows], entry.clock_ms)


def _part_of(entry: Entry) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An entry that was taken over says of which partitions its events are: those of others come with another one."""
    if not entry.subject:
        return lambda row: row
    partitions = read_ranges(entry.subject)

    def part(row: dict[str, Any]) -> dict[str, Any]:
        properties = dict(row["properties"])
        if partition_of(properties.get("gift_to") or "", PARTITIONS) not in partitions:
            properties.pop("gift_to", None)
        known = partition_of(row["user_id"], PARTITIONS) in partitions
        return {**row, "user_id": row["user_id"] if known else None, "properties": properties}

    return part


def _rows(entry: Entry) -> Iterator[dict[str, Any]]:
    """The events of a batch, each with the source that its key stands for."""
    envelope = unpack(entry.payload)
    for raw, source in zip(envelope.column("raw").to_pylist(), envelope.column("source").to_pylist(), strict=True):
        row = json.loads(raw)
        yield row if source is None else {**row, "source": source}


def _versioned(
    transitions: list[dict[str, Any]], versions: list[tuple[int, Mapping[str, int]]]
) -> Iterator[tuple[dict[str, Any], int]]:
    """Each transition with its audience's version at that time; an audience that ends then has its last."""
    place = -1
    known: dict[str, int] = {}
    for number, each in enumerate(transitions):
        while place + 1 < len(versions) and versions[place + 1][0] <= number:
            place += 1
            known |= versions[place][1]
        yield each, known[each["audience_id"]]

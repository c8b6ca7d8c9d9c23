"""What evaluators' logs hold at the end, and what the reference evaluator makes of it.

The reference evaluator is the tests' own: nothing here that evaluates is Usher's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import xxhash

from actors.traits.store import open_snapshot
from benchmarks.chaos.story import Node
from cluster.errors import InputError
from cluster.log.records import Entry
from cluster.log.sqlite import EvaluatorLog
from cluster.runtime.data_dir import DataDir
from cluster.wire.envelope import unpack

#: An epoch above that of every run.
_LAST_EPOCH: Final = 1 << 40

Transition = dict[str, Any]


@dataclass(frozen=True)
class Logged:
    """One evaluator's log."""

    entries: Sequence[Entry]
    transitions: Sequence[Transition]

    @cached_property
    def marks(self) -> list[int]:
        """Give the number of every event in it, as often as it is in it."""
        return [json.loads(raw)["properties"]["mark"] for entry in self.entries if entry.kind == "batch"
                for raw in unpack(entry.payload).column("raw").to_pylist()]  # fmt: skip


def read_logs(data_dir: Path, evaluators: int) -> list[Logged]:
    """Read the logs of an Usher that has ended."""
    found = []
    for index in range(evaluators):
        log = EvaluatorLog.open(DataDir(data_dir).evaluator_db(index), owner_epoch=_LAST_EPOCH)
        try:
            rows = [row for block in log.transitions_after(0, 1 << 40) for row in block.rows().to_pylist()]
            found.append(Logged(list(log.entries()), rows))
        finally:
            log.close()
    return found


class Snapshots:
    """Keeps every immutable copy of the traits that evaluators were given, also once nobody needs it any more."""

    def __init__(self, data_dir: Path, kept: Path) -> None:
        self._from = DataDir(data_dir).traits
        self._kept = kept
        kept.mkdir()

    def keep(self) -> None:
        """Link what is new."""
        for path in self._from.rglob("*.arrow"):
            mine = self._kept / path.relative_to(self._from)
            if not mine.exists():
                mine.parent.mkdir(exist_ok=True)
                try:
                    os.link(path, mine)
                except FileNotFoundError:
                    continue  # an older one, which is gone by now

    def tables(self) -> dict[str, pa.Table]:
        """Give them by the path that logs name."""
        return {str(self._from / path.relative_to(self._kept)): open_snapshot(path)
                for path in self._kept.rglob("*.arrow")}  # fmt: skip


class Reference:
    """The reference evaluator of the tests. Raises InputError where they are not installed."""

    def __init__(self) -> None:
        try:
            self._evaluator = import_module("tests.reference.evaluator")
            self._oracle = import_module("tests.simulation.oracle")
        except ModuleNotFoundError as error:
            message = f"Chaos is held to the reference evaluator of the tests, which are not here ({error})."
            raise InputError(message, next_step="Run it in a checkout of the project.") from error

    def members(
        self, document: Node, rows: Sequence[Node], traits: pa.Table, times_ms: Sequence[int]
    ) -> list[set[tuple[str, str]]]:
        """Give who is in what (audience, user) at times after these events, which are in the order of theirs."""
        sourced = [{**row, "source": "web"} for row in rows]
        found: list[set[tuple[str, str]]] = self._evaluator.members_at(document, sourced, {"users": traits}, times_ms)
        return found

    def transitions(
        self, logged: Logged, snapshots: Mapping[str, pa.Table], chosen: Callable[[str], bool], until_ms: int
    ) -> list[tuple[Any, ...]]:
        """Give the transitions that a log's inputs make of the chosen users, as `comparable` gives them."""
        found: list[tuple[Any, ...]] = self._oracle.transitions_of(logged.entries, snapshots, chosen, until_ms)
        return found


def comparable(each: Transition) -> tuple[Any, ...]:
    """Give what two transitions are compared by."""
    return (
        each["at"], each["audience_id"], each["user_id"], each["n"], each["kind"], each["cause"],
        each["audience_version"],
    )  # fmt: skip


def sampled(share: float) -> Callable[[str], bool]:
    """Choose about this share of all users, the same ones everywhere."""
    return lambda user: xxhash.xxh3_64_intdigest(user.encode()) < share * 2**64


def by_pair(logs: Sequence[Logged]) -> Iterator[tuple[tuple[str, str], list[Transition]]]:
    """Give each (user, audience) with its transitions in order."""
    pairs: dict[tuple[str, str], list[Transition]] = {}
    for logged in logs:
        for each in logged.transitions:
            pairs.setdefault((each["user_id"], each["audience_id"]), []).append(each)
    yield from pairs.items()

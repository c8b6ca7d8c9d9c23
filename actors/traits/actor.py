"""The trait loader: does what its machine says, with real files, threads, the object store and evaluators."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from actors.traits.difference import changed_users
from actors.traits.instructions import Forget, Instruction, Load, Offer, Poll, Restore
from actors.traits.lookup import ABSENT, TraitLookup
from actors.traits.machine import NEVER_MS, TraitsMachine
from actors.traits.reading import load_snapshot, look
from actors.traits.snapshot import empty_snapshot
from actors.traits.stimuli import (
    DefinitionsSeen,
    Fingerprint,
    Loaded,
    LoadFailed,
    NotTaken,
    Polled,
    RefreshAsked,
    Restored,
    Stimulus,
    Taken,
    Tick,
)
from actors.traits.store import SnapshotStore, Stored
from cluster.clock import Clock, SystemClock
from cluster.definitions.model import ParentModel
from cluster.definitions.trait_sources import identity_of
from cluster.errors import SnapshotError, StorageFull
from cluster.limits import DRAIN_DEADLINE_MS
from cluster.runtime.protocols import ClusterState, Controller, Evaluator, Reply

_LOG = logging.getLogger(__name__)
#: Users named one by one as changed; above it everybody is looked at, in pages.
_CHANGED_USERS_MAX: Final = 200_000
#: How long one question for a newer state stays open before it is asked again.
_STATE_WAIT_MS: Final = 10_000


@dataclass(slots=True)
class _Held:
    """A snapshot at hand; `ref` and `index` are made when first needed, once (`lock`)."""

    stored: Stored
    ref: Any = None
    index: TraitLookup | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TraitsActor:
    """Loads trait snapshots, stores them, gives them to every evaluator and looks values up for delivery.

    `evaluators` by index, `put` puts an object into the object store and gives its reference (`ray.put`), relative
    paths of sources start at `base_dir` (this process's folder unless given). Restarting goes on with the stored
    snapshots; versions are counted by their files. Nothing is stored while `owns` says that another may do so.
    """

    def __init__(
        self,
        data_dir: str | Path,
        controller: Controller,
        evaluators: Mapping[int, Evaluator],
        *,
        put: Callable[[Any], Any],
        clock: Clock | None = None,
        base_dir: Path | None = None,
        node_id: str = "",
        owns: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = SnapshotStore(Path(data_dir) / "traits", owns)
        self._controller = controller
        self._evaluators = evaluators
        self._put = put
        self._clock = clock or SystemClock()
        #: Turns the duration clock into a time of day that never jumps: a machine's deadlines must not.
        self._start_ms = self._clock.now_ms() - self._clock.monotonic_ms()
        self._base_dir = base_dir or Path.cwd()
        self._node_id = node_id
        self._machine = TraitsMachine()
        self._parents: Mapping[str, ParentModel] = {}
        self._held: dict[str, _Held] = {}
        #: Instructions under way: one a parent and one a parent and evaluator at most.
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._woken = asyncio.Event()
        #: Bugs that ended a task: shown by `status`.
        self._broken: deque[str] = deque(maxlen=8)

    async def start(self) -> None:
        """Begin to watch definitions and sources; returns at once, `status` tells how far loading is."""
        self._loops = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_time())]

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Stop. What is stored stays; what was being loaded is loaded at the next start."""
        running = [*self._loops, *self._tasks]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return {"drained": True}

    def observe(self, state: ClusterState) -> None:
        """Take a new state of the cluster."""
        if state.published is None:
            return
        definitions = state.published.definitions
        self._parents = definitions.parent_models
        indices = tuple(info.index for info in state.evaluators)
        self._handle(DefinitionsSeen(self._parents, definitions.settings.partitions, indices))

    async def settle(self) -> None:
        """Do all that is due now and wait until it is done."""
        self._handle(Tick())
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def refresh(self, parent: str) -> Reply:
        """Have a parent's source read now, changed or not; the answer does not wait for it."""
        model = self._parents.get(parent)
        if model is None or not model.sources:
            return {"error": "not_found", "message": f"There is no parent model {parent!r} with a trait source."}
        self._handle(RefreshAsked(parent))
        return {"refreshing": parent}

    async def snapshots(self) -> Reply:
        """Give what is kept, for nodes without the data dir: `{"snapshots": [[parent, version]]}`."""
        return {"snapshots": await asyncio.to_thread(self._store.kept)}

    async def snapshot_part(self, parent: str, version: int, offset: int) -> Reply:
        """Give a part of a snapshot's file: `{"bytes": bytes | None}`, none at its end, None where it is not kept."""
        return {"bytes": await asyncio.to_thread(self._store.part, parent, version, offset)}

    async def lookup(self, parent: str, keys: list[str], columns: list[str]) -> Reply:
        """Give trait values: `{"version": int | None, "found": [bool a key], "columns": {name: [value a key]}}`.

        Values are str, float, bool, int (timestamps, ms), list of str, or None where missing. The parent's primary
        key may be asked for too. A column that is not declared: `{"error": "unknown_column", "message"}`.
        """
        model, held = self._parents.get(parent), self._held.get(parent)
        known = {} if model is None else {**model.columns, model.primary_key: None}
        unknown = [name for name in columns if name not in known]
        if model is None or unknown:
            what = f"no columns {', '.join(unknown)}" if model is not None else "no definition"
            return {"error": "unknown_column", "message": f"The parent model {parent!r} has {what}."}
        if held is None:
            return _values(None, keys, columns, model)
        async with held.lock:
            if held.index is None:
                held.index = await asyncio.to_thread(TraitLookup, held.stored.table)
        reply = await asyncio.to_thread(_values, held.index, keys, columns, model)
        return {**reply, "version": held.stored.info.version}

    async def changed(self, parent: str, since: int, columns: list[str]) -> Reply:
        """Give the present version, and whose values in these columns differ from those of version `since`.

        `{"version": int, "users": [str] | None}`; None where the old version is not kept any more, or where too many
        differ: then everybody must be looked at. Version 0 is that of a parent without a snapshot.
        """
        held = self._held.get(parent)
        if held is None:
            return {"version": 0, "users": None}
        version = held.stored.info.version
        if since == version or not since:
            return {"version": version, "users": [] if since else None}
        async with held.lock:
            if held.index is None:
                held.index = await asyncio.to_thread(TraitLookup, held.stored.table)
        users = await asyncio.to_thread(self._changed, parent, since, held.index, columns)
        return {"version": version, "users": users}

    def _changed(self, parent: str, since: int, new: TraitLookup, columns: Sequence[str]) -> list[str] | None:
        old = self._store.version(parent, since)
        if old is None:
            return None
        users = changed_users(TraitLookup(old), new, columns)
        return users if len(users) <= _CHANGED_USERS_MAX else None

    async def status(self) -> Reply:
        """Give `{"name", "pid", "node", "state", "parents": [TraitsMachine.status rows]}`."""
        broken = [*self._broken, *(str(one.exception()) for one in self._loops if one.done() and not one.cancelled())]
        return {
            "name": "traits",
            "pid": os.getpid(),
            "node": self._node_id,
            "state": "failed" if broken else "ready",
            "message": "; ".join(broken),
            "parents": self._machine.status(),
        }

    async def _watch(self) -> None:
        revision = -1
        while True:
            state = await self._controller.state_after(revision, _STATE_WAIT_MS)
            if state.revision != revision:
                revision = state.revision
                self.observe(state)

    async def _keep_time(self) -> None:
        """Tick when something is due; whatever is handled meanwhile may bring that nearer."""
        while True:
            self._woken.clear()
            due_ms = self._machine.next_due_ms()
            pause_s = None if due_ms == NEVER_MS else max(0.0, (due_ms - self._now_ms()) / 1_000)
            try:
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            except TimeoutError:
                self._handle(Tick())

    def _now_ms(self) -> int:
        return int(self._start_ms + self._clock.monotonic_ms())

    def _handle(self, stimulus: Stimulus) -> None:
        for instruction in self._machine.handle(stimulus, self._now_ms()):
            task = asyncio.create_task(self._perform(instruction))
            self._tasks.add(task)
            task.add_done_callback(self._finished)
        self._woken.set()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOG.error("The trait loader failed in a way nobody foresaw", exc_info=error)
            self._broken.append(f"{type(error).__name__}: {error}")

    async def _perform(self, instruction: Instruction) -> None:
        match instruction:
            case Restore():
                await self._restore(instruction)
            case Poll():
                await self._poll(instruction)
            case Load():
                await self._load(instruction)
            case Offer():
                await self._offer(instruction)
            case Forget():
                await self._forget(instruction)

    async def _restore(self, wanted: Restore) -> None:
        stored = await asyncio.to_thread(self._store.newest, wanted.parent)
        if stored is not None:
            self._held[wanted.parent] = _Held(stored)
        self._handle(Restored(wanted.parent, None if stored is None else stored.info))

    async def _poll(self, wanted: Poll) -> None:
        looking = asyncio.to_thread(look, wanted.model, self._base_dir)
        result = await _outcome(wanted.model.id, looking)
        self._handle(result if isinstance(result, LoadFailed) else Polled(wanted.model.id, result))

    async def _load(self, wanted: Load) -> None:
        parent = wanted.model.id
        held = self._held.get(parent)
        before = await self._fingerprint_or_none(wanted.model)
        load = asyncio.to_thread(self._read_and_store, wanted, None if held is None else held.stored)
        result = await _outcome(parent, load)
        if isinstance(result, LoadFailed):
            self._handle(replace(result, fingerprint=before))
            return
        self._handle(Loaded(parent, result.info))
        # Offers made by this run after the next await; definitions that changed meanwhile make the load void.
        taken_over = self._machine.current_version(parent) == result.info.version
        if taken_over and (held is None or held.stored.info.version != result.info.version):
            self._held[parent] = _Held(result)

    def _read_and_store(self, wanted: Load, held: Stored | None) -> Stored:
        """Runs in a thread. What equals the snapshot at hand is not stored again."""
        found: Fingerprint = ()
        if not wanted.model.sources:
            snapshot = empty_snapshot(wanted.model)
        else:
            snapshot, found = load_snapshot(wanted.model, wanted.partitions, self._base_dir)
        identity = identity_of(wanted.model.sources)
        if held is not None and held.info.shape == wanted.shape and held.table.equals(snapshot.table):
            known = replace(held.info, fingerprint=found, source=identity, left_out=snapshot.left_out)
            return replace(held, info=known)
        return self._store.write(
            snapshot, shape=wanted.shape, source=identity, fingerprint=found, loaded_at_ms=self._clock.now_ms()
        )

    async def _fingerprint_or_none(self, model: ParentModel) -> Fingerprint | None:
        """Give what a load will see at the earliest: if it fails, the same files need not be read again at once."""
        if not model.sources:
            return None
        try:
            return await asyncio.to_thread(look, model, self._base_dir)
        except SnapshotError:
            return None

    async def _offer(self, wanted: Offer) -> None:
        held = self._held.get(wanted.parent)
        evaluator = self._evaluators.get(wanted.evaluator)
        answer: Reply = {"error": "unreachable", "message": "it is not known here yet"}
        if held is not None and evaluator is not None and held.stored.info.version == wanted.version:
            async with held.lock:
                if held.ref is None:
                    held.ref = await asyncio.to_thread(self._put, held.stored.table)
            answer = await _apply(evaluator, wanted, held)
        if "error" in answer:
            message = str(answer.get("message") or answer["error"])
            self._handle(NotTaken(wanted.evaluator, wanted.parent, wanted.version, message))
        else:
            self._handle(Taken(wanted.evaluator, wanted.parent, wanted.version))

    async def _forget(self, wanted: Forget) -> None:
        try:
            await asyncio.to_thread(self._store.remove_below, wanted.parent, wanted.version)
        except OSError as error:
            # Old copies only cost room; the next snapshot tries again.
            _LOG.warning("Old trait snapshots of %s cannot be removed: %s", wanted.parent, error)


async def _apply(evaluator: Evaluator, wanted: Offer, held: _Held) -> Reply:
    try:
        return await evaluator.apply_traits(wanted.parent, wanted.version, [held.ref], str(held.stored.path))
    except Exception as error:
        # A fault over there is the evaluator's to report; here it is one more reason to ask again.
        _LOG.exception("Evaluator %s failed at the traits of %s", wanted.evaluator, wanted.parent)
        return {"error": "failed", "message": f"{type(error).__name__}: {error}"}


async def _outcome(parent: str, work: Coroutine[Any, Any, Any]) -> Any:
    """Give what the work gives, or its failure as a stimulus: a faulty source must not stop the others."""
    try:
        return await work
    except SnapshotError as error:
        return LoadFailed(parent, error.reason, f"{error} The snapshot before, if there was one, stays in force.")
    except (StorageFull, OSError) as error:
        return LoadFailed(parent, "storage_full", str(error))
    except Exception as error:
        _LOG.exception("Loading the traits of %s failed in a way nobody foresaw", parent)
        return LoadFailed(parent, "internal_error", f"{type(error).__name__}: {error}. Please report this.")


def _values(index: TraitLookup | None, keys: list[str], columns: Sequence[str], model: ParentModel) -> Reply:
    found = [False] * len(keys) if index is None else (index.rows(keys) != ABSENT).tolist()
    # A trait declared just now is in no snapshot yet: it is missing, as it is for the evaluators.
    stored = [
        name for name in columns if index is not None and name in index.table.column_names and name in model.columns
    ]
    values: dict[str, list[Any]] = {name: [None] * len(keys) for name in columns}
    if index is not None:
        values |= index.get(keys, stored).to_pydict()
    if model.primary_key in columns and model.primary_key not in model.columns:
        values[model.primary_key] = list(keys)
    return {"version": None, "found": found, "columns": values}

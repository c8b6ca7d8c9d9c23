"""The trait loader's core: which snapshot is in force for each parent, what is due, who has not taken it yet.

A parent's snapshot changes only as a whole, by a `Loaded`; a failure of any kind leaves it in force and is shown.
At most one look or load runs a parent, and one offer an evaluator and parent. Time is an argument.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

from actors.traits.instructions import Forget, Instruction, Load, Offer, Poll, Restore
from actors.traits.stimuli import (
    DefinitionsSeen,
    Fingerprint,
    Loaded,
    LoadFailed,
    NotTaken,
    Polled,
    RefreshAsked,
    Restored,
    SnapshotInfo,
    Stimulus,
    Taken,
    Tick,
)
from cluster.definitions.model import ParentModel, TraitTable
from cluster.definitions.trait_sources import TraitSource, identity_of, label_of, look_of
from cluster.limits import (
    TRAITS_OFFER_RETRY_MAX_MS,
    TRAITS_OFFER_RETRY_MIN_MS,
    TRAITS_POLL_MS,
    TRAITS_REMOTE_POLL_MS,
    TRAITS_RETRY_MAX_MS,
    TRAITS_RETRY_MIN_MS,
    TRAITS_VERSIONS_KEPT,
)

#: Nothing is due by itself.
NEVER_MS: Final = 2**63 - 1


def shape_of(model: ParentModel, partitions: int) -> str:
    """Give what a snapshot's table depends on besides its sources' rows; equal text, equal table."""
    columns = [(column.name, column.type) for column in model.snapshot_columns.values()]
    shape: list[Any] = [model.primary_key, partitions, columns]
    if len(model.tables) > 1 or model.related or any(table.columns != own_names(table) for table in model.tables):
        shape += [[table.id, table.key, dict(table.columns)] for table in model.tables]
        shape += [[table.id, table.key, repr(dict(table.columns)), repr(table.traits)] for table in model.related]
    return json.dumps(shape)


def own_names(table: TraitTable) -> dict[str, str]:
    """Give each trait as the column of its own name."""
    return {name: name for name in table.columns}


@dataclass(slots=True)
class _Offering:
    """One evaluator and one parent."""

    #: The version it has; None: not known in this run.
    taken: int | None = None
    in_flight: bool = False
    #: The evaluator or the parent went away meanwhile: whatever the answer says, it says nothing about now.
    void: bool = False
    failures: int = 0
    retry_at_ms: int = 0
    message: str = ""


@dataclass(slots=True)
class _Parent:
    """One parent model. Times are when something is due, in ms."""

    #: None: gone from the definitions; its snapshot is kept for when it comes back.
    model: ParentModel | None
    partitions: int
    shape: str
    #: In force; None before the first.
    current: SnapshotInfo | None = None
    restored: bool = False
    #: A look or a load is under way.
    busy: bool = False
    #: The source changed while it was: what comes is no answer to what the definitions want now.
    redefined: bool = False
    #: To be loaded as soon as it is not busy.
    wanted: bool = False
    #: Of the last load, successful or not; None: a look will find a change whatever it sees.
    fingerprint: Fingerprint | None = None
    poll_at_ms: int = 0
    refresh_at_ms: int = NEVER_MS
    retry_at_ms: int = NEVER_MS
    failures: int = 0
    #: Refreshes asked for in this run; those that the load under way answers; those that ended loads did.
    asked: int = 0
    answering: int = 0
    answered: int = 0
    #: `{"reason", "message", "since_ms"}` of the failure that lasts, None when the last look or load succeeded.
    error: dict[str, Any] | None = None
    offers: dict[int, _Offering] = field(default_factory=dict)
    #: Stored versions below this one are gone.
    forgotten_below: int = 0

    @property
    def sources(self) -> tuple[TraitSource, ...]:
        return () if self.model is None else self.model.sources


class TraitsMachine:
    """See the module. `handle` is the only way to change it."""

    def __init__(self) -> None:
        self._parents: dict[str, _Parent] = {}
        self._evaluators: tuple[int, ...] = ()

    def handle(self, stimulus: Stimulus, now_ms: int) -> list[Instruction]:
        """Take a stimulus and give everything that is due at `now_ms`. O(parents × evaluators)."""
        self._take(stimulus, now_ms)
        instructions: list[Instruction] = []
        for name, parent in self._parents.items():
            instructions += self._due(name, parent, now_ms)
            instructions += self._offers(name, parent, now_ms)
            instructions += self._forgettable(name, parent)
        return instructions

    def next_due_ms(self) -> int:
        """Give when a `Tick` may next do something; NEVER_MS if only other stimuli can."""
        return min((due for parent in self._parents.values() for due in _due_times(parent)), default=NEVER_MS)

    def current_version(self, parent: str) -> int | None:
        """Give the version in force."""
        found = self._parents.get(parent)
        return None if found is None or found.current is None else found.current.version

    def status(self) -> list[dict[str, Any]]:
        """Give a row for each parent that has or had traits, as `usher status` shows it."""
        return [
            _status(name, parent)
            for name, parent in self._parents.items()
            if parent.model is not None and (parent.sources or parent.current is not None)
        ]

    def _take(self, stimulus: Stimulus, now_ms: int) -> None:
        match stimulus:
            case DefinitionsSeen():
                self._see(stimulus, now_ms)
            case Restored(name, info):
                self._restore(self._parents[name], info, now_ms)
            case Polled(name, fingerprint):
                _poll_answered(self._parents[name], fingerprint, now_ms)
            case Loaded(name, info):
                _loaded(self._parents[name], info, now_ms)
            case LoadFailed():
                _failed(self._parents[stimulus.parent], stimulus, now_ms)
            case Taken() | NotTaken():
                self._answered(stimulus, now_ms)
            case RefreshAsked(name):
                if name in self._parents:
                    self._parents[name].wanted = True
                    self._parents[name].asked += 1
            case Tick():
                pass

    def _see(self, seen: DefinitionsSeen, now_ms: int) -> None:
        self._evaluators = seen.evaluators
        for name in [*seen.parents, *(known for known in self._parents if known not in seen.parents)]:
            model = seen.parents.get(name)
            parent = self._parents.get(name)
            if parent is None and model is not None:
                self._parents[name] = _Parent(model, seen.partitions, shape_of(model, seen.partitions))
            elif parent is not None:
                _redefine(parent, model, seen.partitions, now_ms)
            if name in self._parents:
                # Evaluators drop a parent with its definition: should it come back, they need its snapshot again.
                _open_offers(self._parents[name].offers, seen.evaluators if model is not None else ())

    def _answered(self, answer: Taken | NotTaken, now_ms: int) -> None:
        parent = self._parents[answer.parent]
        offer = parent.offers[answer.evaluator]
        if offer.void and (parent.model is None or answer.evaluator not in self._evaluators):
            del parent.offers[answer.evaluator]
        elif offer.void:
            parent.offers[answer.evaluator] = _Offering()
        elif isinstance(answer, Taken):
            parent.offers[answer.evaluator] = _Offering(taken=answer.version)
        else:
            _refused(offer, answer.message, now_ms)

    def _restore(self, parent: _Parent, info: SnapshotInfo | None, now_ms: int) -> None:
        parent.busy = False
        parent.restored = True
        parent.poll_at_ms = now_ms
        _schedule_refresh(parent, now_ms)
        if info is not None and (info.shape == parent.shape or not parent.sources):
            parent.current = info
            # What a source that cannot tell a change gave while nobody looked is not known.
            is_known = all(source.look != "blind" for source in parent.sources)
            same_sources = parent.sources and identity_of(parent.sources) == info.source
            parent.fingerprint = info.fingerprint if same_sources and is_known else None
        _want_if_outdated(parent)

    def _due(self, name: str, parent: _Parent, now_ms: int) -> list[Instruction]:
        """Give the one thing to do about the source now, if any."""
        if parent.busy or parent.model is None:
            return []
        instruction: Instruction
        if not parent.restored:
            instruction = Restore(name)
        elif parent.wanted or min(parent.refresh_at_ms, parent.retry_at_ms) <= now_ms:
            instruction = Load(parent.model, parent.partitions, parent.shape)
            parent.wanted, parent.retry_at_ms = False, NEVER_MS
            parent.answering = parent.asked
            _schedule_refresh(parent, now_ms)
        elif parent.sources and parent.poll_at_ms <= now_ms:
            instruction = Poll(parent.model)
        else:
            return []
        parent.busy = True
        return [instruction]

    def _offers(self, name: str, parent: _Parent, now_ms: int) -> list[Instruction]:
        """Offer the snapshot in force to whoever has not taken it; once all have, forget what nobody needs."""
        if parent.current is None or parent.model is None:
            return []
        version = parent.current.version
        instructions: list[Instruction] = []
        for evaluator, offer in parent.offers.items():
            if offer.taken != version and not offer.in_flight and offer.retry_at_ms <= now_ms:
                offer.in_flight = True
                instructions.append(Offer(evaluator, name, version))
        return instructions

    def _forgettable(self, name: str, parent: _Parent) -> list[Instruction]:
        """Give what need not be stored any more: an evaluator recovers from the newest version that it has taken."""
        taken = [offer.taken for offer in parent.offers.values()]
        if parent.current is None or not taken or None in taken:
            return []
        oldest_needed = min(version for version in taken if version is not None)
        below = min(oldest_needed, parent.current.version - TRAITS_VERSIONS_KEPT + 1)
        if below <= max(parent.forgotten_below, 1):
            return []
        parent.forgotten_below = below
        return [Forget(name, below)]


def _redefine(parent: _Parent, model: ParentModel | None, partitions: int, now_ms: int) -> None:
    before = parent.sources
    parent.model = model
    if model is None:
        parent.wanted = False
        return
    parent.partitions = partitions
    parent.shape = shape_of(model, partitions)
    if parent.sources != before:
        parent.fingerprint = None
        parent.poll_at_ms = now_ms
        parent.redefined = parent.busy
        parent.failures, parent.retry_at_ms, parent.error = 0, NEVER_MS, None
    if parent.restored:
        _schedule_refresh(parent, now_ms)
        _want_if_outdated(parent)


def _want_if_outdated(parent: _Parent) -> None:
    """Want a load where the snapshot in force does not fit the definitions.

    Without a source that is a snapshot without rows, so that no trait outlives its definition.
    """
    if parent.sources:
        parent.wanted = parent.current is None or parent.current.shape != parent.shape
    else:
        parent.wanted = parent.current is not None and bool(parent.current.row_count or parent.current.source)


def _ended(parent: _Parent, now_ms: int) -> bool:
    """Note the end of a look or a load; true where the source is another one since it began."""
    redefined, parent.redefined, parent.busy = parent.redefined, False, False
    parent.answered = max(parent.answered, parent.answering)
    parent.poll_at_ms = _next_poll_ms(parent, now_ms)
    return redefined


def _poll_answered(parent: _Parent, fingerprint: Fingerprint, now_ms: int) -> None:
    _ended(parent, now_ms)
    if fingerprint != parent.fingerprint:
        parent.wanted = bool(parent.sources)


def _loaded(parent: _Parent, info: SnapshotInfo, now_ms: int) -> None:
    redefined = _ended(parent, now_ms)
    if redefined or parent.model is None or info.source != identity_of(parent.sources) or info.shape != parent.shape:
        # Definitions changed meanwhile: this is no answer to what they want now.
        parent.wanted = parent.model is not None
        return
    parent.current = info
    parent.fingerprint = info.fingerprint
    parent.failures, parent.retry_at_ms, parent.error = 0, NEVER_MS, None


def _failed(parent: _Parent, failure: LoadFailed, now_ms: int) -> None:
    if _ended(parent, now_ms):
        parent.wanted = bool(parent.sources)
        return
    # Without a fingerprint the next look that succeeds leads to a load.
    parent.fingerprint = failure.fingerprint
    since_ms = now_ms if parent.error is None else parent.error["since_ms"]
    parent.error = {"reason": failure.reason, "message": failure.message, "since_ms": since_ms}
    pause_ms = min(TRAITS_RETRY_MIN_MS << min(parent.failures, 16), TRAITS_RETRY_MAX_MS)
    parent.failures += 1
    parent.retry_at_ms = now_ms + pause_ms


def _open_offers(offers: dict[int, _Offering], evaluators: tuple[int, ...]) -> None:
    """Have one offer an evaluator; of the others only those whose answer is still to come stay."""
    for evaluator, offer in list(offers.items()):
        if evaluator in evaluators:
            continue
        if offer.in_flight:
            offer.void = True
        else:
            del offers[evaluator]
    for evaluator in evaluators:
        offers.setdefault(evaluator, _Offering())


def _refused(offer: _Offering, message: str, now_ms: int) -> None:
    offer.in_flight = False
    pause_ms = min(TRAITS_OFFER_RETRY_MIN_MS << min(offer.failures, 16), TRAITS_OFFER_RETRY_MAX_MS)
    offer.failures += 1
    offer.retry_at_ms = now_ms + pause_ms
    offer.message = message


def _schedule_refresh(parent: _Parent, now_ms: int) -> None:
    refresh_ms = parent.model.refresh_ms if parent.model is not None and parent.sources else None
    parent.refresh_at_ms = NEVER_MS if refresh_ms is None else now_ms + refresh_ms


def _next_poll_ms(parent: _Parent, now_ms: int) -> int:
    """Give when to look at the sources again; never where none can tell whether it changed."""
    match look_of(parent.sources):
        case "local":
            return now_ms + TRAITS_POLL_MS
        case "remote":
            return now_ms + TRAITS_REMOTE_POLL_MS
        case "blind" | "fixed":
            return NEVER_MS


def _due_times(parent: _Parent) -> list[int]:
    due: list[int] = []
    if parent.model is None:
        return due
    if parent.restored and not parent.busy:
        due += [parent.refresh_at_ms, parent.retry_at_ms]
        due += [parent.poll_at_ms] if parent.sources else []
    if parent.current is not None:
        version = parent.current.version
        due += [offer.retry_at_ms for offer in parent.offers.values() if offer.taken != version and not offer.in_flight]
    return due


def _status(name: str, parent: _Parent) -> dict[str, Any]:
    version = None if parent.current is None else parent.current.version
    if parent.error is not None:
        state = "failed"
    else:
        fits = parent.current is not None and (not parent.sources or parent.current.shape == parent.shape)
        state = "ok" if fits else "loading"
    return {
        "parent": name,
        "version": version,
        "rows": 0 if parent.current is None else parent.current.row_count,
        "left_out": {} if parent.current is None else parent.current.left_out,
        "loaded_at_ms": None if parent.current is None else parent.current.loaded_at_ms,
        "source": label_of(parent.sources),
        "state": state,
        "refreshes": {"asked": parent.asked, "answered": parent.answered},
        "error": parent.error,
        "waiting_for": {i: offer.message for i, offer in parent.offers.items() if offer.taken != version},
    }

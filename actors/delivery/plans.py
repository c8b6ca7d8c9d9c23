"""From definitions to what each sync's parts need, and from changes to records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from actors.delivery.changes import Change
from actors.delivery.stimuli import SyncConfig
from cluster.definitions.model import Definitions, ParentModel, Sync
from cluster.model.transitions import transition_id
from destinations.contract import Destination, Kinds, Unusable
from destinations.limits import Limits
from destinations.records import Record, SyncShape
from destinations.times import iso_ms

#: No evaluator has handed its users over.
NOBODY: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """Everything about a sync. `columns`: the trait columns its records need, the primary key excepted.

    `identity` changes when it becomes another sync under the same name; `available`: its audience can be asked for
    its members.
    """

    config: SyncConfig
    sync: Sync
    parent: ParentModel
    kind: Destination = field(repr=False)
    settings: Any = field(repr=False)
    identity: str
    columns: tuple[str, ...]
    available: bool
    shape: SyncShape
    #: Evaluators that have handed their users over to others, and their last transition.
    retired: Mapping[int, int] = field(default_factory=dict)

    @property
    def newest_counts(self) -> bool:
        """Whether a user's newest change makes older ones needless: for lists, and where the state is delivered."""
        return self.config.deliver == "state" or self.kind.deliver_default(self.settings) == "state"

    def fingerprint(self, salt: bytes) -> bytes:
        """Stand for the destination's settings, secrets included, without telling them."""
        digest = hashlib.blake2b(self.settings.model_dump_json().encode(), key=salt, digest_size=16)
        for secret in self.kind.secrets(self.settings):
            digest.update(b"\0" + secret.encode())
        return digest.digest()


def plan_syncs(
    definitions: Definitions,
    evaluators: tuple[int, ...],
    preparing: Sequence[str],
    kinds: Kinds,
    retired: Mapping[int, int] = NOBODY,
) -> dict[str, SyncPlan]:
    """Give a plan for every sync. Definitions are checked: what they name exists.

    `evaluators` are all that are read, those included that have `retired` (with their last transition).
    """
    return {
        sync.id: replace(_plan(sync, definitions, evaluators, preparing, kinds), retired=retired)
        for sync in definitions.syncs.values()
    }


def to_records(
    plan: SyncPlan, changes: Sequence[Change], columns: Mapping[str, Sequence[Any]]
) -> tuple[tuple[Record, ...], Mapping[int, str]]:
    """Give the records, and by index why a change has no identifier of use and so cannot become one.

    `columns[c][i]` is the value of trait column `c` for the user of `changes[i]`, None where it is missing.
    """
    records: list[Record] = []
    dropped: dict[int, str] = {}
    for index, change in enumerate(changes):
        raw = {
            field_: _value(plan, column, change, columns, index)
            for field_, column in plan.sync.identifiers.items()
        }
        identifiers = plan.kind.identify(plan.settings, raw)
        if isinstance(identifiers, Unusable):
            dropped[index] = identifiers.reason
            continue
        traits = {column: _value(plan, column, change, columns, index) for column in plan.sync.traits}
        id_ = transition_id(
            change.audience_id, change.audience_version, change.user_id, change.at_ms, change.n
        )
        records.append(
            Record(
                id_, change.audience_id, change.audience_version, change.user_id, dict(identifiers), change.kind,
                change.at_ms, change.n, change.cause, traits, "add" if change.kind == "entered" else "remove",
            )
        )  # fmt: skip
    return tuple(records), dropped


def _plan(
    sync: Sync, definitions: Definitions, evaluators: tuple[int, ...], preparing: Sequence[str], kinds: Kinds
) -> SyncPlan:
    destination = definitions.destinations[sync.destination]
    audience = definitions.audiences[sync.audience]
    parent = definitions.parent_models[audience.parent]
    kind = kinds[destination.kind]
    limits = kind.limits(destination.settings)
    deliver = sync.deliver or kind.deliver_default(destination.settings)
    shape = SyncShape(
        sync.id, audience.id, audience.name or audience.id, frozenset(sync.identifiers), sync.on_exit, deliver
    )
    config = SyncConfig(
        sync=sync.id,
        deliver=deliver,
        on_exit=_on_exit(sync),
        batch_records=_batch_records(sync, limits),
        batch_age_ms=limits.batch_age_ms if sync.batch_age_ms is None else sync.batch_age_ms,
        evaluators=evaluators,
        paused=audience.status == "paused",
        in_flight_max=limits.in_flight_max,
    )
    wanted = dict.fromkeys([*sync.identifiers.values(), *sync.traits])
    return SyncPlan(
        config=config,
        sync=sync,
        parent=parent,
        kind=kind,
        settings=destination.settings,
        identity=f"{audience.id}\0{destination.id}",
        columns=tuple(column for column in wanted if column != parent.primary_key),
        available=audience.evaluated and audience.id not in preparing,
        shape=shape,
    )


def _batch_records(sync: Sync, limits: Limits) -> int:
    wanted = sync.batch_size or limits.records_default or limits.records_max
    return min(wanted, limits.records_max)


def _on_exit(sync: Sync) -> Literal["remove", "nothing"]:
    """What a single exit does; the list is archived when its audience or sync ends."""
    return "remove" if sync.on_exit == "remove" else "nothing"


def _value(
    plan: SyncPlan, column: str, change: Change, columns: Mapping[str, Sequence[Any]], index: int
) -> Any:
    if column == plan.parent.primary_key:
        return change.user_id
    value = columns[column][index]
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    declared = plan.parent.columns.get(column)
    if declared is not None and declared.type == "timestamp" and isinstance(value, int):
        return iso_ms(value)
    return value

"""From definitions to what each sync's parts need, and from changes to records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from actors.delivery.flaps import Flaps
from actors.delivery.stimuli import SyncConfig
from cluster.definitions.model import Definitions, ParentModel, Sync
from cluster.definitions.model import Destination as DestinationDefinition
from destinations.contract import Destination, Kinds
from destinations.limits import Limits
from destinations.listing import Listing
from destinations.records import SyncShape

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
    #: Its audience is archived: everybody leaves it, for good.
    archived: bool = False
    #: Another sync that keeps the same audience at the same destination.
    beside: str = ""
    #: Evaluators that have handed their users over to others, and their last transition.
    retired: Mapping[int, int] = field(default_factory=dict)

    @property
    def remembers(self) -> bool:
        """Whether delivery must remember what it told of each user.

        Identifiers from columns may change while a user is a member, flap control reads when a user came and went,
        and who is to be removed with the sync must be known when its audience is gone.
        """
        sync = self.sync
        return (
            bool(self.identifier_columns)
            or sync.on_delete == "remove"
            or any((sync.min_stay_ms, sync.cooldown_ms, sync.debounce_ms))
        )

    @property
    def newest_counts(self) -> bool:
        """Whether a user's newest change makes older ones needless: for lists, and where the state is delivered."""
        return self.config.deliver == "state" or self.kind.deliver_default(self.settings) == "state"

    @property
    def strays_stay(self) -> str:
        """Why a resync leaves strays alone whom the destination alone knows; empty where it removes them."""
        if self.sync.on_exit != "remove":
            return f"with on_exit: {self.sync.on_exit} whoever leaves stays there"
        if self.beside:
            return f"the sync {self.beside} keeps the same audience there"
        return self.kind.strays_reason(self.settings, self.shape)

    @property
    def listing(self) -> Listing | None:
        """How a resync lists who is at the destination; None where it does not."""
        return None if self.strays_stay else self.kind.listing(self.settings, self.shape)

    @property
    def present(self) -> tuple[int, ...]:
        """The evaluators that own users now."""
        return tuple(index for index in self.config.evaluators if index not in self.retired)

    @property
    def identifier_columns(self) -> tuple[str, ...]:
        """The trait columns that its identifiers come from."""
        return tuple(
            dict.fromkeys(column for column in self.sync.identifiers.values() if column != self.parent.primary_key)
        )

    def sweep_key(self, fingerprint: bytes) -> str:
        """Stand for how identifiers are made: from which columns, under which settings."""
        made = "\0".join(f"{name}={column}" for name, column in sorted(self.sync.identifiers.items()))
        return hashlib.blake2b(made.encode(), key=fingerprint, digest_size=16).hexdigest()

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
    plans = {}
    places: dict[tuple[str, str], list[str]] = {}
    for sync in definitions.syncs.values():
        places.setdefault((sync.audience, sync.destination), []).append(sync.id)
    for sync in definitions.syncs.values():
        audience = definitions.audiences[sync.audience]
        destination = definitions.destinations[sync.destination]
        parent = definitions.parent_models[audience.parent]
        plan = plan_of(sync, destination, audience.name or audience.id, parent, kinds[destination.kind])
        plans[sync.id] = replace(
            plan,
            config=replace(plan.config, evaluators=evaluators, paused=audience.status == "paused"),
            available=audience.evaluated and audience.id not in preparing,
            archived=audience.status == "archived",
            beside=next((other for other in places[sync.audience, sync.destination] if other != sync.id), ""),
            retired=retired,
        )
    return plans


def plan_of(
    sync: Sync, destination: DestinationDefinition, audience_name: str, parent: ParentModel, kind: Destination
) -> SyncPlan:
    """Give the plan of a sync, apart from what its audience's state and the cluster decide."""
    limits = kind.limits(destination.settings)
    deliver = sync.deliver or kind.deliver_default(destination.settings)
    config = SyncConfig(
        sync=sync.id,
        deliver=deliver,
        on_exit="remove" if sync.on_exit == "remove" else "nothing",
        batch_records=_batch_records(sync, limits),
        batch_age_ms=limits.batch_age_ms if sync.batch_age_ms is None else sync.batch_age_ms,
        evaluators=(),
        in_flight_max=limits.in_flight_max,
        flaps=_flaps(sync),
    )
    wanted = dict.fromkeys([*sync.identifiers.values(), *sync.traits])
    plan = SyncPlan(
        config=config,
        sync=sync,
        parent=parent,
        kind=kind,
        settings=destination.settings,
        identity=f"{sync.audience}\0{destination.id}",
        columns=tuple(column for column in wanted if column != parent.primary_key),
        available=False,
        shape=SyncShape(sync.id, sync.audience, audience_name, frozenset(sync.identifiers), sync.on_exit, deliver),
    )
    # Of whom is remembered it must be known that they left, whether that is sent or not: see `recording`.
    return replace(plan, config=replace(config, on_exit="remove")) if plan.remembers else plan


def _flaps(sync: Sync) -> Flaps | None:
    flaps = Flaps(sync.min_stay_ms or 0, sync.cooldown_ms or 0, sync.debounce_ms or 0)
    return None if flaps == Flaps() else flaps


def _batch_records(sync: Sync, limits: Limits) -> int:
    wanted = sync.batch_size or limits.records_default or limits.records_max
    return min(wanted, limits.records_max)

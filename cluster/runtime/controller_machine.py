"""The controller's machine: definitions, keys and placement, and how a publication comes into force.

A publication has three steps. It becomes the *target* once it is durable; every evaluator is then asked to prepare it,
and once all have, to switch to it, again and again until it says so. When the last one has, the target is *in force*:
only then do edges, delivery and traits see it, so no edge decodes for definitions that some evaluator does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.definitions.model import Definitions, Published
from cluster.errors import Fault
from cluster.runtime.placement import Placement, Scaling
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, KeyRecord, Retired

#: Changes that one start can make before its revisions reach the next start's; nobody makes so many.
REVISIONS_PER_START = 1 << 32


@dataclass(slots=True)
class ControllerMachine:
    """The controller's whole state. `revision` grows with every change that `state()` shows."""

    evaluators: tuple[EvaluatorInfo, ...]
    owner_of_partition: tuple[int, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    revision: int = 1
    #: In force: every evaluator has taken it.
    published: Published | None = None
    #: The newest durable publication; equals `published` when nothing is under way.
    target: Published | None = None
    #: Evaluator index to the newest version that it has prepared in this run.
    prepared: dict[int, int] = field(default_factory=dict)
    #: Evaluator index to the newest version that it acknowledged.
    taken: dict[int, int] = field(default_factory=dict)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    #: Evaluators that have handed their users over, and their last transition.
    retired: dict[int, Retired] = field(default_factory=dict)
    #: Above every index that was ever given; 0: above the present ones.
    next_index: int = 0
    #: The change of placement that is under way.
    scaling: Scaling | None = None

    def placement(self) -> Placement:
        """Give who owns what, as it is stored."""
        retired = {index: one.last_seq for index, one in self.retired.items()}
        return Placement(self.owner_of_partition, retired, self.next_index or len(self.evaluators))

    def place(self, placement: Placement, info_of: Callable[[int], EvaluatorInfo]) -> None:
        """Take a placement: of this data dir at a start, or at the end of a change of it.

        Evaluators that take over have the definitions that those before them had.
        """
        if placement.evaluators != tuple(info.index for info in self.evaluators):
            version = self.published.version if self.published is not None else 0
            self.taken = dict.fromkeys(placement.evaluators, version)
            self.prepared = {}
            self.evaluators = tuple(map(info_of, placement.evaluators))
        self.owner_of_partition = placement.owners
        self.retired = {index: Retired(info_of(index), seq) for index, seq in placement.retired.items()}
        self.next_index = placement.next_index
        self.revision += 1

    def found(self, info: EvaluatorInfo) -> None:
        """Note where an evaluator is, which has just begun to start there."""
        known = {one.index: one for one in self.evaluators}
        if known.get(info.index, info) != info:
            known[info.index] = info
            self.evaluators = tuple(known.values())
            self.revision += 1
        retired = self.retired.get(info.index)
        if retired is not None and retired.info != info:
            self.retired[info.index] = Retired(info, retired.last_seq)
            self.revision += 1

    def processes(self) -> tuple[int, ...]:
        """Give every evaluator that is to run: who owns users, has handed them over, or is about to get some."""
        heirs = self.scaling.heirs if self.scaling is not None else ()
        return tuple(sorted({*(info.index for info in self.evaluators), *self.retired, *heirs}))

    def state(self) -> ClusterState:
        """Give what every other part needs to know, as of now."""
        return ClusterState(
            revision=self.revision,
            published=self.published,
            owner_of_partition=self.owner_of_partition,
            evaluators=self.evaluators,
            keys=tuple(self.keys.values()),
            preparing=self.preparing(),
            settings=self.settings,
            retired=tuple(self.retired.values()),
        )

    def restore(
        self, published: Published | None, target: Published | None, keys: list[KeyRecord], start: int
    ) -> None:
        """Take what the store holds, at the `start`-th start of this data dir's controller.

        Revisions go on above those of every start before, so that a caller's old revision is never taken for a new one.
        Evaluators are asked again about a target that is not in force: publishing is idempotent per version.
        """
        self.revision = start * REVISIONS_PER_START
        self.published, self.target = published, target
        self.keys = {key.id: key for key in keys}
        if published is not None and published is target:
            self.taken = {info.index: published.version for info in self.evaluators}

    def partition_fault(self, definitions: Definitions, file: str) -> Fault | None:
        """Say why these definitions do not fit this data dir's partitions; None where they do."""
        wanted, have = definitions.settings.partitions, len(self.owner_of_partition)
        if wanted == have:
            return None
        message = "the number of partitions is fixed when a data dir is first used"
        return Fault(file, "settings.partitions", message, str(wanted), str(have))

    def begin(self, published: Published) -> None:
        """Make a durable publication the target; replaces one that is still under way."""
        assert self.target is None or published.version > self.target.version, "versions grow"
        self.target = published
        self.revision += 1

    def behind(self) -> list[int]:
        """Give the evaluators that have yet to take the target."""
        if self.target is None:
            return []
        return [info.index for info in self.evaluators if self.taken.get(info.index, 0) < self.target.version]

    def waits_for(self) -> list[int]:
        """Give the evaluators that hold the target up: those that have yet to prepare it, else to switch."""
        behind = self.behind()
        if self.target is None:
            return []
        version = self.target.version
        return [index for index in behind if self.prepared.get(index, 0) < version] or behind

    def note_prepared(self, index: int, version: int) -> None:
        """Note that an evaluator is ready to switch to a version."""
        self.prepared[index] = version

    def acknowledge(self, index: int, version: int) -> bool:
        """Note that an evaluator has taken a version; true when that brought the target into force."""
        self.taken[index] = max(version, self.taken.get(index, 0))
        if self.target is None or self.target is self.published or self.behind():
            return False
        self.published = self.target
        self.revision += 1
        return True

    def preparing(self) -> tuple[str, ...]:
        """Name the evaluated audiences whose new version is not in force yet."""
        if self.target is None or self.target is self.published:
            return ()
        return tuple(
            audience.id
            for audience in self.target.definitions.audiences.values()
            if audience.evaluated and not self._is_in_force(audience.id, self.target.audience_versions[audience.id])
        )

    def _is_in_force(self, audience_id: str, version: int) -> bool:
        """Whether evaluators evaluate this version of an audience now: a draft has one, and is not."""
        if self.published is None:
            return False
        audience = self.published.definitions.audiences.get(audience_id)
        same = self.published.audience_versions.get(audience_id) == version
        return same and audience is not None and audience.evaluated

    def add_key(self, key: KeyRecord) -> None:
        """Let a key in."""
        self.keys[key.id] = key
        self.revision += 1

    def revoke_key(self, key_id: str) -> bool:
        """Shut a key out; false where there is none of that id."""
        if self.keys.pop(key_id, None) is None:
            return False
        self.revision += 1
        return True

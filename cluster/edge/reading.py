"""Membership as this process can read it: from mapped files of the evaluators on its node, else by asking them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple, Protocol

from cluster.clock import Clock
from cluster.edge import problems
from cluster.edge.state import EdgeState
from cluster.limits import KEY_BYTES_MAX, LOOKUPS_IN_FLIGHT_MAX
from cluster.model.partitions import partition_of
from cluster.runtime.protocols import Evaluator, EvaluatorInfo, Reply

_log = logging.getLogger("usher.edge")

#: Pause before mapped files that could not be opened are tried again.
_REOPEN_MS: Final = 500


#: A header of a plain answer whose evaluator is away: as of when it is known, UTC ms.
AS_OF: Final = "Usher-As-Of"
#: Refusals of an evaluator that is away: killed, stopped, starting.
AWAY: Final = frozenset({"unreachable", "not_ready"})


class MembershipReader(Protocol):
    """One evaluator's mapped membership files."""

    def is_member(self, parent: str, key: str, audience_id: str, now_ms: int) -> bool | None:
        """Membership at `now_ms`; None: only the evaluator can tell. Costs 1 to 2 µs."""
        ...

    @property
    def clock_ms(self) -> int:
        """As of when the files know it: the evaluator's clock when it last wrote; 0 before that."""
        ...


class Known(NamedTuple):
    """What was read. `as_of_ms` None: it is so now; else how it was when the evaluator was last heard of."""

    is_member: bool
    as_of_ms: int | None = None


class Memberships:
    """Answers who is a member, for one edge process. `take` gives it each new state."""

    def __init__(
        self,
        evaluators: Callable[[int], Evaluator],
        make_reader: Callable[[str], MembershipReader],
        clock: Clock,
        node_id: str | None,
    ) -> None:
        self._evaluators = evaluators
        self._make_reader = make_reader
        self._clock = clock
        self._node_id = node_id
        self._owners: tuple[int, ...] = ()
        self._infos: Mapping[int, EvaluatorInfo] = {}
        self._readers: dict[int, MembershipReader] = {}
        self._dirs: dict[int, str] = {}
        self._reopen_at_ms: dict[int, float] = {}
        self._in_flight = 0
        #: Set while one evaluator owns everything: spares hashing the key.
        self._only: int | None = None

    def take(self, state: EdgeState) -> None:
        """Follow a new state: placement, and which files are where."""
        self._owners = state.owner_of_partition
        self._infos = {info.index: info for info in state.evaluators}
        self._only = self._owners[0] if len(set(self._owners)) == 1 else None
        for index in list(self._readers):
            info = self._infos.get(index)
            if info is None or info.membership_dir != self._dirs[index]:
                del self._readers[index], self._dirs[index]

    def owner(self, key: str) -> int:
        """Give the index of the evaluator that owns a user."""
        if self._only is not None:
            return self._only
        if not self._owners:
            message = "No evaluator is placed yet; Usher is still starting."
            raise problems.unavailable(message)
        return self._owners[partition_of(key.encode(), len(self._owners))]

    def read(self, parent: str, key: str, audience_id: str, now_ms: int) -> bool | None:
        """Give membership from the mapped files; None where the evaluator has to be asked. Never waits."""
        owner = self._only
        if owner is None:
            owner = self.owner(key)
        reader = self._readers.get(owner)
        if reader is None:
            reader = self._open(owner)
            if reader is None:
                return None
        return reader.is_member(parent, key, audience_id, now_ms)

    def _open(self, owner: int) -> MembershipReader | None:
        info = self._infos.get(owner)
        if info is None or (self._node_id is not None and info.node_id != self._node_id):
            return None
        now_ms = self._clock.monotonic_ms()
        if now_ms < self._reopen_at_ms.get(owner, 0.0):
            return None
        try:
            reader = self._make_reader(info.membership_dir)
        except OSError as error:
            # A starting evaluator has not laid its files out yet; it is asked instead.
            self._reopen_at_ms[owner] = now_ms + _REOPEN_MS
            _log.info("The membership files of %s cannot be mapped yet: %s.", info.name, error)
            return None
        self._readers[owner], self._dirs[owner] = reader, info.membership_dir
        return reader

    async def ask(self, owner: int, parent: str, users: list[str], audiences: list[str], detail: bool) -> Reply:
        """Ask an evaluator; raises Problem 503 where it cannot answer. Bounded calls in flight."""
        return await self._call(self._evaluators(owner).lookup(parent, users, audiences, detail))

    async def page(self, owner: int, audience_id: str, cursor: str | None, limit: int) -> Reply:
        """Ask an evaluator for some of its members of an audience; raises as `ask` does."""
        return await self._call(self._evaluators(owner).members(audience_id, cursor, limit))

    async def _call(self, call: Coroutine[Any, Any, Reply]) -> Reply:
        if self._in_flight >= LOOKUPS_IN_FLIGHT_MAX:
            call.close()
            message = f"{LOOKUPS_IN_FLIGHT_MAX} look-ups already wait for the evaluators. Try again."
            raise problems.unavailable(message, "overloaded")
        self._in_flight += 1
        try:
            reply = await call
        finally:
            self._in_flight -= 1
        problem = problems.of_reply(reply)
        if problem is not None:
            raise problem
        return reply

    def last_known(self, parent: str, key: str, audience_id: str) -> Known | None:
        """Give membership as of what the evaluator last wrote into the files on this node; None where they cannot tell.

        For the time in which an evaluator does not answer: what became due since is not in it.
        """
        reader = self._readers.get(self.owner(key))
        as_of_ms = reader.clock_ms if reader is not None else 0
        if reader is None or not as_of_ms:
            return None
        member = reader.is_member(parent, key, audience_id, as_of_ms)
        return None if member is None else Known(member, as_of_ms)

    async def is_member(self, parent: str, key: str, audience_id: str) -> Known:
        """Give membership now, asking the evaluator where the files cannot tell; as last known where it is away.

        Raises Problem 503 where that is not known either.
        """
        member = self.read(parent, key, audience_id, self._clock.now_ms())
        if member is not None:
            return Known(member)
        try:
            reply = await self.ask(self.owner(key), parent, [key], [audience_id], detail=False)
        except problems.Problem as problem:
            known = self.last_known(parent, key, audience_id) if problem.code in AWAY else None
            if known is None:
                raise
            return known
        return Known(bool(reply["members"][0][0]))

    async def matrix(
        self, parent: str, users: list[str], audiences: list[str]
    ) -> tuple[list[list[bool]], int | None]:
        """Give membership of each user in each audience of one parent; one call an evaluator at most.

        Second: as of when the oldest of it is, where an evaluator is away; None: all of it is so now.
        """
        rows, unknown = self._read_matrix(parent, users, audiences)
        as_of_ms: int | None = None
        by_owner: dict[int, list[int]] = {}
        for index in unknown:
            by_owner.setdefault(self.owner(users[index]), []).append(index)
        replies = await asyncio.gather(
            *(
                self._rows(owner, parent, [users[index] for index in indices], audiences)
                for owner, indices in by_owner.items()
            )
        )
        for indices, (members, since_ms) in zip(by_owner.values(), replies, strict=True):
            for index, row in zip(indices, members, strict=True):
                rows[index] = row
            if since_ms is not None:
                as_of_ms = since_ms if as_of_ms is None else min(as_of_ms, since_ms)
        return rows, as_of_ms

    async def _rows(
        self, owner: int, parent: str, users: list[str], audiences: list[str]
    ) -> tuple[list[list[bool]], int | None]:
        """Ask an evaluator for some users, or give what is known of them where it is away."""
        try:
            reply = await self.ask(owner, parent, users, audiences, detail=False)
        except problems.Problem as problem:
            known = [[self.last_known(parent, user, audience) for audience in audiences] for user in users]
            if problem.code not in AWAY or any(one is None for row in known for one in row):
                raise
            found = [[one for one in row if one is not None] for row in known]
            return [[one.is_member for one in row] for row in found], min(
                one.as_of_ms or 0 for row in found for one in row
            )
        return [[bool(member) for member in row] for row in reply["members"]], None

    def _read_matrix(
        self, parent: str, users: list[str], audiences: list[str]
    ) -> tuple[list[list[bool]], list[int]]:
        now_ms = self._clock.now_ms()
        rows: list[list[bool]] = []
        unknown: list[int] = []
        for index, user in enumerate(users):
            members: list[Any] = [self.read(parent, user, audience, now_ms) for audience in audiences]
            if None in members:
                unknown.append(index)
            rows.append(members)
        return rows, unknown


def usable_key(user_id: str) -> bool:
    """Say whether this can be a user's key at all; what cannot is nobody's."""
    try:
        return 0 < len(user_id.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        return False

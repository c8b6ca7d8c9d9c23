"""The controller actor's shell: stores, parses, drives publication, answers long polls, gathers status.

Decisions are `ControllerMachine`'s; this file performs them. Everything runs on one event loop, so between two awaits
nothing else moves.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cluster.clock import Clock, SystemClock
from cluster.definitions.evaluable import unsupported
from cluster.definitions.merging import merge_documents
from cluster.definitions.model import Definitions, Published
from cluster.definitions.parsing import parse_document
from cluster.definitions.versions import Change, difference, publish
from cluster.errors import DefinitionError, Fault
from cluster.keys import generate_key, hash_key
from cluster.limits import (
    CONTROLLER_STATUS_TIMEOUT_MS,
    DRAIN_DEADLINE_MS,
    PUBLISH_RETRY_MS,
    PUBLISH_WAIT_MS,
    RETRY_AFTER_MS,
)
from cluster.log.durable_files import replace_durably
from cluster.runtime.controller_machine import ControllerMachine
from cluster.runtime.controller_store import ControllerStore, StoredDefinitions
from cluster.runtime.data_dir import DataDir
from cluster.runtime.placement import sources_of
from cluster.runtime.protocols import ClusterState, EvaluatorInfo, EvaluatorStart, KeyRecord, Reply, Role
from cluster.runtime.retention import Retention
from cluster.runtime.scaling import Scaler
from cluster.runtime.status_report import Peers, build_report, gather_replies
from cluster.runtime.whereabouts import Whereabouts
from destinations.registry import KINDS

#: Who is named in the audit where the caller gives no name.
SYSTEM = "usher"


class ControllerActor:
    """Implements the Controller protocol over one data dir. Needs a running event loop; `start()` comes first."""

    def __init__(
        self,
        machine: ControllerMachine,
        data_dir: DataDir,
        peers: Peers,
        nodes: Callable[[], list[dict[str, Any]]] = list,
        clock: Clock | None = None,
        node_id: str = "",
        info_of: Callable[[int], EvaluatorInfo] | None = None,
        epoch: int | None = None,
    ) -> None:
        self._node_id = node_id
        self._machine = machine
        self._data_dir = data_dir
        self._peers = peers
        self._nodes = nodes
        self._clock = clock or SystemClock()
        self._store = ControllerStore(data_dir.controller_db, epoch)
        self._where = Whereabouts(
            self._store, info_of or {info.index: info for info in machine.evaluators}.__getitem__
        )
        self._changed = asyncio.Condition()
        self._applying = asyncio.Lock()
        self._publisher: asyncio.Task[None] | None = None
        self._first_admin_key: str | None = None
        self._publish_errors: dict[int, str] = {}

    async def start(self) -> None:
        """Take what the file holds, make the first admin key where there is none, go on with a publication."""
        target = self._stored(self._store.newest_version())
        in_force = int(self._store.meta("in_force") or 0)
        published = target if target and target.version == in_force else self._stored(in_force)
        machine = self._machine
        machine.restore(published, target, self._store.keys(), self._store.count_start())
        self._store.set_log_uri(str(machine.settings.get("log", "")))
        placement = self._store.placement()
        if placement is None:
            self._store.set_placement(machine.placement())
        else:
            machine.place(placement, self._where)
        for index in machine.processes():
            machine.found(self._where(index))
        machine.scaling = self._store.scaling()
        self._know_evaluators()
        self._retention = Retention(machine, self._peers)
        self._scaler = Scaler(machine, self._store, self._peers, self._clock, self._where, self._tell)
        self._scaler.start()
        self._retention.start()
        if not self._machine.keys:
            self._make_first_admin_key()
        self._drive_publication()

    # --- the Controller protocol -----------------------------------------------------------------

    async def state_after(self, revision: int, wait_ms: int) -> ClusterState:
        """Give the state as soon as its revision is above `revision`, or after `wait_ms` whatever it is."""
        async with self._changed:
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await self._changed.wait_for(lambda: self._machine.revision > revision)
            except TimeoutError:
                # The wait is over: the caller gets the unchanged state and asks again.
                return self._machine.state()
            return self._machine.state()

    async def apply(self, document: Mapping[str, Any], file: str, mode: str, who: str = SYSTEM) -> Reply:
        """Publish a document, all or nothing; see the protocol. Answers once every evaluator has taken it.

        After PUBLISH_WAIT_MS it answers with `preparing`, the audiences that are still on their way: the publication is
        durable and goes on by itself.
        """
        async with self._applying:
            try:
                published, changes = self._candidate(document, file, mode)
            except DefinitionError as error:
                return invalid(error.faults)
            if self._machine.scaling is not None and published is not self._machine.target:
                message = "users are being handed over to other evaluators; publish when that is done (usher status)"
                return {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}
            if self._machine.target is None or published.version > self._machine.target.version:
                await self._begin(published, changes, who)
        return await self._await_force(published.version, changes)

    async def plan(self, document: Mapping[str, Any], file: str, mode: str) -> Reply:
        """As `apply`, but changes nothing."""
        try:
            published, changes = self._candidate(document, file, mode)
        except DefinitionError as error:
            return invalid(error.faults)
        return _accepted(published.version, changes)

    async def create_key(self, role: Role, name: str, who: str = SYSTEM) -> Reply:
        """Make a key and give it: the only time it is shown."""
        text = generate_key(role)
        record = KeyRecord(secrets.token_hex(6), name, role, hash_key(text), self._clock.now_ms())
        self._store.add_key(record, who)
        self._machine.add_key(record)
        await self._tell()
        return {"id": record.id, "name": name, "role": role, "key": text}

    async def revoke_key(self, key_id: str, who: str = SYSTEM) -> Reply:
        """Shut a key out: `{"revoked": False}` where there is none of that id."""
        if key_id not in self._machine.keys:
            return {"revoked": False}
        self._store.remove_key(key_id, self._clock.now_ms(), who)
        self._machine.revoke_key(key_id)
        await self._tell()
        return {"revoked": True}

    async def scale(self, evaluators: int) -> Reply:
        """See the protocol. A publication under way goes first."""
        partitions = len(self._machine.owner_of_partition)
        if not 1 <= evaluators <= partitions:
            message = f"evaluators: found {evaluators}; allowed: 1 to {partitions}, the number of partitions"
            return {"error": "invalid", "message": message}
        async with self._applying:
            if self._machine.behind() or self._machine.published is None:
                message = "a publication is under way; scale when it is in force (usher status)"
                return {"error": "not_ready", "message": message, "retry_after_ms": RETRY_AFTER_MS}
            async with self._retention.lock:
                settled = self._machine.scaling is not None or await self._retention.settled()
                reply = settled if isinstance(settled, dict) else await self._scaler.ask(evaluators)
        self._know_evaluators()
        return reply or await self._scaler.done()

    async def status(self) -> Reply:
        """The whole of `usher status --json`; a part that does not answer in time shows as unreachable."""
        self._know_evaluators()
        replies = await gather_replies(self._peers, CONTROLLER_STATUS_TIMEOUT_MS)
        own = {"name": "controller", "kind": "controller", "pid": os.getpid(), "node": self._node_id}
        return build_report(self._machine.state(), self._machine.target, self._nodes(), own, replies)

    # --- for the launcher and starting actors ----------------------------------------------------

    async def starting_definitions(self) -> Published | None:
        """Give the definitions in force, before the first those that are to be: what a starting evaluator takes.

        Newer ones it is asked to prepare, and switches to with the others.
        """
        return self._machine.published or self._machine.target

    async def starting_evaluator(self, index: int, info: EvaluatorInfo | None = None) -> EvaluatorStart:
        """Give what a starting evaluator is: one of those at work, one that has handed its users over, or an heir.

        `info` says where it is, which everybody knows from then on.
        """
        if info is not None and info != self._where(index):
            self._where.note(info, self._machine.processes())
            self._machine.found(info)
            await self._tell()
        published, machine = await self.starting_definitions(), self._machine
        placement, scaling = machine.placement(), machine.scaling
        if scaling is not None and index in scaling.heirs:
            return EvaluatorStart(
                published, scaling.partitions_of(index), dict(sources_of(placement, scaling, index))
            )
        return EvaluatorStart(published, placement.partitions_of(index))

    async def processes(self, edges: Sequence[str] = ()) -> Reply:
        """Give the evaluators that are to run: `{"evaluators": [index]}`. `edges` names the edge processes that do."""
        if edges:
            for name in set(self._peers.edges) - set(edges):
                del self._peers.edges[name]
            for name in edges:
                self._peers.edges[name]
        return {"evaluators": list(self._machine.processes())}

    async def edges(self) -> Reply:
        """See `Controller.edges`."""
        return {"edges": list(self._peers.edges)}

    async def take_first_admin_key(self) -> str | None:
        """Give the admin key made on the first start, once; None ever after."""
        key, self._first_admin_key = self._first_admin_key, None
        return key

    async def audit(self, limit: int) -> Reply:
        """Give the newest audit rows: `{"rows": [...]}`."""
        return {"rows": self._store.audit_rows(limit)}

    async def drain(self, within_ms: int = DRAIN_DEADLINE_MS) -> Reply:
        """Stop driving publications and close the file; a publication under way goes on at the next start."""
        if self._publisher is not None:
            self._publisher.cancel()
        await self._scaler.stop()
        await self._retention.stop()
        self._store.close()
        return {}

    def _know_evaluators(self) -> None:
        """Have everybody among the peers who is to run, and nobody else."""
        known = self._peers.evaluators
        for index in set(known) - set(self._machine.processes()):
            del known[index]
        for index in self._machine.processes():
            known[index]

    # --- inside ----------------------------------------------------------------------------------

    def _candidate(
        self, document: Mapping[str, Any], file: str, mode: str
    ) -> tuple[Published, list[Change]]:
        """Check a document and give what applying it would publish; the present target where nothing changes."""
        target = self._machine.target
        current = None if target is None else target.definitions
        whole = merge_documents(current.document if current else {}, document) if mode == "merge" else dict(document)
        try:
            definitions = self._checked(whole, file)
        except DefinitionError as error:
            raise DefinitionError([as_sent(fault, whole, document) for fault in error.faults]) from error
        changes = difference(current, definitions)
        if target is not None and all(change.change == "unchanged" for change in changes):
            return target, changes
        return publish(target, definitions), changes

    def _checked(self, whole: Mapping[str, Any], file: str) -> Definitions:
        definitions = parse_document(whole, file, KINDS)
        faults = unsupported(definitions, file)
        if fault := self._machine.partition_fault(definitions, file):
            faults.append(fault)
        if faults:
            raise DefinitionError(faults)
        return definitions

    async def _begin(self, published: Published, changes: list[Change], who: str) -> None:
        stored = StoredDefinitions(
            published.version, published.definitions.document, published.audience_versions
        )
        detail = ", ".join(
            f"{change.kind} {change.id} {change.change}" for change in changes if change.change != "unchanged"
        )
        self._store.add_definitions(stored, self._clock.now_ms(), who, detail)
        self._machine.begin(published)
        await self._tell()
        self._drive_publication()

    async def _await_force(self, version: int, changes: list[Change]) -> Reply:
        def in_force() -> bool:
            published = self._machine.published
            return published is not None and published.version >= version

        try:
            async with asyncio.timeout(PUBLISH_WAIT_MS / 1000):
                await self._wait_for(in_force)
        except TimeoutError:
            preparing = list(self._machine.preparing())
            waits_for = [f"evaluator-{index}" for index in self._machine.waits_for()]
            why = "; ".join(self._publish_errors.values())
            late = {"preparing": preparing, "waits_for": waits_for, "message": why}
            return {**_accepted(version, changes), **late}
        return _accepted(version, changes)

    def _drive_publication(self) -> None:
        if self._machine.behind() and (self._publisher is None or self._publisher.done()):
            self._publisher = asyncio.create_task(self._publish_to_all(), name="publisher")

    async def _publish_to_all(self) -> None:
        """Have every evaluator that is behind prepare, then all of them switch, until none is behind.

        A first failure of any puts the switch off for all: the fewer moments evaluators differ in, the better.
        """
        while behind := self._machine.behind():
            target = self._machine.target
            assert target is not None, "behind() names evaluators only under a target"
            if await self._prepared_by_all(behind, target):
                taken = await asyncio.gather(*(self._publish_to(index, target) for index in behind))
                if all(taken):
                    continue
            if self._machine.target is target:
                await asyncio.sleep(PUBLISH_RETRY_MS / 1000)

    async def _prepared_by_all(self, behind: list[int], target: Published) -> bool:
        """Have evaluators prepare, all at once; false where one refuses, or as soon as there is a newer target."""
        preparing = asyncio.gather(*(self._prepare_at(index, target) for index in behind))
        newer = asyncio.ensure_future(self._wait_for(lambda: self._machine.target is not target))
        both: list[asyncio.Future[Any]] = [preparing, newer]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        is_newest = not newer.done()
        for future in both:
            # Of preparations that are not waited for any more: evaluators give them up when asked for the newer one.
            future.cancel()
        await asyncio.wait(both)
        return is_newest and all(preparing.result())

    async def _prepare_at(self, index: int, target: Published) -> bool:
        if not self._noted(index, await self._peers.evaluators[index].prepare(target)):
            return False
        self._machine.note_prepared(index, target.version)
        return True

    async def _publish_to(self, index: int, target: Published) -> bool:
        if not self._noted(index, await self._peers.evaluators[index].publish(target)):
            return False
        if self._machine.acknowledge(index, target.version):
            self._store.set_meta("in_force", str(target.version))
            await self._tell()
        return True

    def _noted(self, index: int, reply: Reply) -> bool:
        """Note why an evaluator refuses, or that it does not; true where it does not."""
        if "error" in reply:
            self._publish_errors[index] = f"evaluator-{index}: {reply.get('message') or reply['error']}"
            return False
        self._publish_errors.pop(index, None)
        return True

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _stored(self, version: int) -> Published | None:
        stored = self._store.definitions(version)
        if stored is None:
            return None
        definitions: Definitions = parse_document(stored.document, "controller.db", KINDS)
        return Published(stored.version, definitions, stored.audience_versions)

    def _make_first_admin_key(self) -> None:
        """Write the key's file before its hash: a crash in between leaves a dead file, never a lost key."""
        text = generate_key("admin")
        replace_durably(self._data_dir.admin_key, f"{text}\n".encode(), mode=0o600)
        record = KeyRecord(
            secrets.token_hex(6), "first admin key", "admin", hash_key(text), self._clock.now_ms()
        )
        self._store.add_key(record, SYSTEM)
        self._machine.add_key(record)
        self._first_admin_key = text


def _accepted(version: int, changes: list[Change]) -> Reply:
    rows = [{"kind": change.kind, "id": change.id, "change": change.change} for change in changes]
    return {"version": version, "changes": rows}


#: `audiences[12].where.all[1]`: section, index, the rest.
_IN_SECTION = re.compile(r"(\w+)\[(\d+)\](.*)", re.DOTALL)


def as_sent(fault: Fault, whole: Mapping[str, Any], sent: Mapping[str, Any]) -> Fault:
    """Give a fault of the merged document the place that its sender knows.

    An object that was not sent is one in force, which the change breaks: its file says so, and its id names it.
    """
    match = _IN_SECTION.fullmatch(fault.path)
    if whole == sent or match is None:
        return fault
    section, index, rest = match[1], int(match[2]), match[3]
    item = whole[section][index]
    for place, one in enumerate(sent.get(section) or ()):
        if one is item:
            return replace(fault, path=f"{section}[{place}]{rest}")
    return replace(fault, file="<in force>", path=f"{section}[id={item['id']}]{rest}")


def invalid(faults: list[Fault]) -> Reply:
    """Give the reply to a document with faults."""
    return {
        "error": "invalid",
        "faults": [
            {
                "file": fault.file,
                "path": fault.path,
                "message": fault.message,
                "found": fault.found,
                "allowed": fault.allowed,
            }
            for fault in faults
        ],
    }

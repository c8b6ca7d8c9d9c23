"""All processes of one run, as the launcher sees them: made, waited for, drained and ended in order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cluster.errors import InputError, NotReady, UsherError
from cluster.limits import READY_DEADLINE_MS, RETRY_AFTER_MS
from cluster.runtime.plan import AT_SITE, Plan, Stopped
from cluster.runtime.protocols import Reply
from cluster.runtime.ray_session import NAMESPACE
from cluster.runtime.wiring import create

_log = logging.getLogger("usher.nodes")

#: How often a starting process is asked, and how soon a stop signal is seen.
_POLL_S: Final = 0.1
_ANSWER_S: Final = 5.0
#: How long a sign is waited for that tells whether a node is there.
_SIGN_S: Final = 1.0
#: Pause before a name that Ray has yet to free is tried again.
_NAME_S: Final = 0.02


class Fleet:
    """The processes of one run. From any thread, but not from an event loop: calls wait."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._handles: dict[str, Any] = {}
        #: By name, what a process was made with: it is made with the same again.
        self._made: dict[str, tuple[Plan, str]] = {}
        #: Held while a process gets another's name, or its own is given up.
        self._naming = threading.Lock()

    def start(self, names: Sequence[str], plan: Plan, node_id: str) -> None:
        """Make these processes on a node; they start side by side. See `wiring.create`.

        Raises InputError where another Usher runs on this Ray.
        """
        for name in names:
            try:
                self._make(name, plan, node_id)
            except ValueError as error:
                message = f"This Ray cluster already has an actor {name} in the namespace {NAMESPACE}: {error}"
                raise InputError(message, next_step="Stop the other Usher on it first.") from error

    def await_ready(self, names: Sequence[str], deadline_ms: int = READY_DEADLINE_MS) -> None:
        """Wait until these have started.

        Raises Stopped at a stop signal, NotReady at the deadline, and what a process says that keeps it from starting.
        """
        until = time.monotonic() + deadline_ms / 1000
        waiting = list(names)
        while waiting:
            if self._stopping():
                raise Stopped
            if time.monotonic() > until:
                message = f"Not started within {deadline_ms // 1000} s: {', '.join(waiting)}."
                raise NotReady(
                    message, retry_after_ms=RETRY_AFTER_MS, next_step="See the logs in the Ray session folder."
                )
            waiting = [name for name in waiting if not self._is_ready(name)]
            if waiting:
                time.sleep(_POLL_S)

    def call(self, name: str, method: str, *args: Any, timeout_s: float = _ANSWER_S) -> Any:
        """Call a part; a process that is gone or silent gives `{"error": "unreachable", ...}`."""
        return self._get(self._handles[name].call.remote(method, *args), name, timeout_s)

    def drain(self, groups: Sequence[tuple[Sequence[str], float]], deadline_s: float) -> list[str]:
        """Drain group after group, each side by side; gives what did not come to its end in time, in words.

        A group has the given share of the time that is left, so that one that hangs does not take the others' too.
        """
        until = time.monotonic() + deadline_s
        late: list[str] = []
        for group, share in groups:
            group_until = time.monotonic() + share * max(0.0, until - time.monotonic())
            # Who is asked needs some of it to answer.
            within_ms = int(900 * max(0.0, group_until - time.monotonic()))
            calls = {
                name: self._handles[name].call.remote("drain", within_ms) for name in group if name in self._handles
            }
            for name, call in calls.items():
                reply = self._get(call, name, max(0.0, group_until - time.monotonic()))
                if isinstance(reply, dict) and reply.get("error") == "unreachable":
                    late.append(f"{name} did not finish")
                elif isinstance(reply, dict) and reply.get("late"):
                    late.append(f"{name}: {reply['late']}")
        return late

    def nodes(self) -> list[dict[str, Any]]:
        """Give what Ray says of its nodes; nothing while its head does not answer."""
        try:
            nodes: list[dict[str, Any]] = ray.nodes()
        except (RayError, ConnectionError) as error:
            _log.warning("Ray does not say which nodes there are: %s", error)
            return []
        return nodes

    @property
    def names(self) -> list[str]:
        """Name the processes that were made."""
        return list(self._handles)

    def end_one(self, name: str) -> None:
        """Close and end a process that nobody needs any more."""
        self.call(name, "drain", int(1000 * _ANSWER_S))
        with self._naming:
            ray.kill(self._handles.pop(name), no_restart=True)

    def ask(self, name: str) -> Any:
        """Ask a process for a sign; gives what `heard` takes."""
        return self._handles[name].ready.remote()

    def heard(self, asked: Any, within_s: float) -> bool:
        """Say whether there is an answer to `ask`, or Ray's word that the process is gone: it starts another then."""
        try:
            ray.get(asked, timeout=within_s)
        except GetTimeoutError:
            return False
        except RayError:
            return True
        return True

    def answers(self, name: str) -> bool:
        """Ask a process for a sign, and wait a little for it."""
        handle = self._handles.get(name)
        return handle is not None and self.heard(handle.ready.remote(), _SIGN_S)

    def replace(self, name: str, node_id: str | None = None) -> bool:
        """Have another process take the place of one that is silent; false where there is none to replace.

        Under the same name, so that everybody finds it: at the kill Ray forgets the one before, whose pending calls
        fail, and ends it as soon as it can, some s later the hard way. `node_id`: where, None: on the same node. Raises
        NotReady where the name stays taken.
        """
        with self._naming:
            if name not in self._handles:
                return False
            ray.kill(self._handles[name], no_restart=True)
            plan, before = self._made[name]
            until = time.monotonic() + _ANSWER_S
            while True:
                try:
                    self._make(name, plan, node_id or before)
                except ValueError as error:
                    if time.monotonic() > until:
                        message = f"{name} is silent, and Ray does not let go of its name: {error}"
                        raise NotReady(message, retry_after_ms=RETRY_AFTER_MS) from error
                    time.sleep(_NAME_S)
                else:
                    return True

    def forget(self, name: str) -> None:
        """End a process whose node is gone: it would wait there for good."""
        with self._naming:
            ray.kill(self._handles.pop(name), no_restart=True)

    def end(self) -> None:
        """End every process for good. What is shared on other nodes is removed first, where that takes no longer."""
        tidying = [handle.tidy.remote() for name, handle in self._handles.items() if AT_SITE in name]
        if tidying:
            ray.wait(tidying, num_returns=len(tidying), timeout=_ANSWER_S)
        for handle in self._handles.values():
            ray.kill(handle, no_restart=True)
        self._handles.clear()

    def _make(self, name: str, plan: Plan, node_id: str) -> None:
        self._handles[name] = create(plan, name, node_id)
        self._made[name] = plan, node_id

    def _is_ready(self, name: str) -> bool:
        reply = self._get(self._handles[name].ready.remote(), name, _ANSWER_S)
        failure = reply.get("failure")
        if isinstance(failure, UsherError):
            raise failure
        return bool(reply.get("ready"))

    def _get(self, call: Any, name: str, timeout_s: float) -> Any:
        try:
            return ray.get(call, timeout=timeout_s)
        except GetTimeoutError:
            refusal: Reply = {"error": "unreachable", "message": f"{name}: no answer within {timeout_s:.1f} s"}
        except RayTaskError:
            raise
        except RayError as error:
            refusal = {"error": "unreachable", "message": f"{name}: {type(error).__name__}"}
        return refusal

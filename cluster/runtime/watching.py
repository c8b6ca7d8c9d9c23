"""Looks after the processes of a run: another takes the place of one that is silent.

Who owns something renews a lease, from a thread of its own; the lease is what is looked at. An edge owns nothing and is
asked. A thread of the launcher's, because the launcher is the one process without which there are none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from cluster.errors import LeaseUnavailable, UsherError
from cluster.leases.keeper import LeaseSettings
from cluster.leases.machine import first
from cluster.leases.store import LeaseStore
from cluster.runtime.successions import Sign, Successions

_log = logging.getLogger("usher.watch")

_LOOK_EVERY_S: Final = 1.0
#: Beyond the time for which a sign is good: a slow machine is no silent one.
GRACE_MS: Final = 2_000
#: What a process has for its first sign: Ray starts it, it imports, it waits for the lease of the one before.
START_MS: Final = 60_000
#: For how long an answer is good where there is no lease.
ANSWER_TERM_MS: Final = 5_000
#: How long the last question waits.
_LAST_WORD_S: Final = 2.0


class Processes(Protocol):
    """What is used of the fleet; see `cluster.runtime.fleet.Fleet`."""

    @property
    def names(self) -> list[str]:
        """See Fleet."""
        ...

    def ask(self, name: str) -> Any:
        """See Fleet."""
        ...

    def heard(self, asked: Any, within_s: float) -> bool:
        """See Fleet."""
        ...


class Watch:
    """The looks. `lease_of` gives where a process's lease is, None for one that owns nothing.

    `replace` has another process take the place of one; false where there is none.
    """

    def __init__(
        self,
        fleet: Processes,
        replace: Callable[[str], bool],
        lease_of: Callable[[str], LeaseSettings | None],
        say: Callable[[str], None],
        now_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
    ) -> None:
        self._fleet = fleet
        self._replace = replace
        self._lease_of = lease_of
        self._say = say
        self._now_ms = now_ms
        self._successions = Successions(GRACE_MS, START_MS)
        self._stores: dict[str, LeaseStore] = {}
        #: What was asked and not answered yet, and how often it was, by name.
        self._asked: dict[str, Any] = {}
        self._answers: dict[str, int] = {}
        self._looks = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="watch", daemon=True)

    def start(self) -> None:
        """Look every second, until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no longer: a process that is stopping gives no sign either."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Look once, and have replaced who is silent."""
        self._looks += 1
        signs = self._signs()
        for name in self._successions.looked(signs, self._now_ms()):
            try:
                self._judge(name)
            except KeyError:  # it was ended meanwhile, for nobody needs it
                continue

    def _judge(self, name: str) -> None:
        """Replace a process unless it answers, or Ray has seen its end and starts it again."""
        if self._fleet.heard(self._fleet.ask(name), _LAST_WORD_S) or self._stop.is_set():
            return
        if self._replace(name):
            self._asked.pop(name, None)
            self._answers.pop(name, None)
            self._say(f"{name} is silent: another process takes its place.")

    def _signs(self) -> Mapping[str, Sign | None]:
        signs = {}
        for name in self._fleet.names:
            settings = self._lease_of(name)
            try:
                signs[name] = self._answer(name) if settings is None else self._lease(name, settings)
            except KeyError:  # it was ended meanwhile
                continue
        return signs

    def _lease(self, name: str, settings: LeaseSettings) -> Sign | None:
        store = self._stores.setdefault(name, settings.store(name))
        try:
            found = first(store.records())
        except LeaseUnavailable as error:
            _log.warning("%s", error)
            # Nobody is blamed for what cannot be seen: who cannot renew either refuses by itself.
            return Sign(("unseen", self._looks), settings.term_ms)
        return None if found is None or found.released else Sign(found, found.term_ms)

    def _answer(self, name: str) -> Sign | None:
        """Give how often it has answered; None before the first time: it starts."""
        asked = self._asked.get(name)
        if asked is not None and self._fleet.heard(asked, 0):
            self._answers[name] = self._answers.get(name, 0) + 1
            asked = None
        if asked is None:
            self._asked[name] = self._fleet.ask(name)
        answers = self._answers.get(name)
        return None if answers is None else Sign(answers, ANSWER_TERM_MS)

    def _keep(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            try:
                self.look()
            except UsherError as error:
                self._say(str(error))
            except Exception:
                # The looks go on whatever ails one of them: without them a stopped process is never replaced.
                _log.exception("The processes could not be looked after; this is tried again.")

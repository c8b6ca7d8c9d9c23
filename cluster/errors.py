"""Every error Usher raises on purpose.

The class says who must act and whether trying again can help; the message says where, what was found,
what is allowed and what to do next. Fields are for handlers: nobody has to parse text.

    UsherError
     ├── DefinitionError          the author of a definitions document (carries every fault at once)
     ├── InputError               the caller of a command or an API: wrong file, wrong argument
     │    └── EventFileError      the owner of an event or trait file given to a command
     ├── WireError                the sender of a request that cannot be read at all; single bad events raise nothing
     ├── SnapshotError            the owner of a trait source; the old snapshot stays in force
     ├── Refused                  nobody is at fault: try again after `retry_after_ms`
     │    ├── Overloaded          a bounded queue is full
     │    ├── NotReady            a part is still starting or recovering
     │    └── StorageFull         the operator: disk full or data dir not writable
     ├── StaleDefinitions         the edge: decode again with the definitions named in `current_version`
     ├── DataDirError             the operator: locked, unwritable or damaged data dir
     │    ├── Damaged             the operator: a file or topic does not hold what was written to it; says where
     │    └── Fenced              nobody: a newer owner has the log; this process ends, its successor works
     ├── LogUnavailable           nobody at once: the broker does not answer; the process starts again until it does
     ├── LeaseUnavailable         the operator: the folder or bucket of leases does not answer
     ├── CheckpointError          nobody at once: the one before it, at last the whole log, takes its place
     ├── PortInUse                the operator: choose another --port
     └── InternalError            us: a broken invariant; please report
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a definitions document.

    `file` is the file's name as given (or `<document>` where there is none), `path` the place inside it
    (`audiences[0].where.all[1].gt`), `message` what is wrong, `found` the offending value as short text,
    `allowed` what would be right; both may be empty.
    """

    file: str
    path: str
    message: str
    found: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        """Give the fault on one line: where, what, found, allowed."""
        parts = [f"{self.file}: {self.path}: {self.message}" if self.path else f"{self.file}: {self.message}"]
        if self.found:
            parts.append(f"found {self.found}")
        if self.allowed:
            parts.append(f"allowed: {self.allowed}")
        return "; ".join(parts)


class UsherError(Exception):
    """The root. `message` is complete prose; `next_step` says what to do, and may be empty."""

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        """Give the message and, where there is one, the next step."""
        return f"{self.message} {self.next_step}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        """Survive pickling whole, whatever the subclass's constructor takes."""
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(kind: type[UsherError], args: tuple[object, ...], state: dict[str, object]) -> UsherError:
    error = kind.__new__(kind)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


class DefinitionError(UsherError):
    """A definitions document is wrong; `faults` holds every fault found, never only the first."""

    def __init__(self, faults: list[Fault]) -> None:
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        super().__init__(f"The definitions have {count}:\n" + "\n".join(f"  {fault}" for fault in faults))
        self.faults = faults


class InputError(UsherError):
    """A command or call was given something it cannot use."""


class EventFileError(InputError):
    """An event or trait file cannot be read as what it should be."""


class WireError(UsherError):
    """A whole request is refused: `status` is the HTTP status to answer, `code` a short word for programs.

    The same bytes will never be accepted. Each wire format has its own shape for the answer.
    """

    def __init__(self, status: int, code: str, message: str, *, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.status = status
        self.code = code


class SnapshotError(UsherError):
    """A trait snapshot is unusable; the one before it stays in force. `reason` is a short code."""

    def __init__(self, message: str, *, reason: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason


class Refused(UsherError):
    """Not now: nothing was changed, and the same call may succeed after `retry_after_ms`."""

    def __init__(self, message: str, *, retry_after_ms: int, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after_ms = retry_after_ms


class Overloaded(Refused):
    """A bounded queue is full."""


class NotReady(Refused):
    """The part asked is starting, recovering or stopping."""


class StorageFull(Refused):
    """No room on disk, or the data dir cannot be written."""


class StaleDefinitions(UsherError):
    """A batch was decoded under definitions that are no longer in force."""

    def __init__(self, *, found_version: int, current_version: int) -> None:
        super().__init__(f"The batch was decoded under definitions version {found_version}, "
                         f"but version {current_version} is in force.")
        self.found_version = found_version
        self.current_version = current_version


class DataDirError(UsherError):
    """The data dir is locked by another run, cannot be written, or is damaged."""


class Damaged(DataDirError):
    """A file or topic does not hold what was written to it: something acknowledged is gone or changed.

    `file` is the file or topic, `position` the place in it (an entry, an offset).
    """

    def __init__(self, message: str, *, file: str, position: str, next_step: str) -> None:
        super().__init__(message, next_step=next_step)
        self.file = file
        self.position = position


class Fenced(DataDirError):
    """A newer owner has taken the log over: whoever gets this may not write any more, and has written nothing.

    `epoch` is the newer owner's, 0 where it is not known.
    """

    def __init__(self, message: str, *, next_step: str = "", epoch: int = 0) -> None:
        super().__init__(message, next_step=next_step)
        self.epoch = epoch


class LogUnavailable(UsherError):
    """The broker that keeps the log does not answer, and what became of the last commit is not known.

    Nothing was acknowledged. Whoever opens the log anew finds out; this process must end.
    """


class LeaseUnavailable(UsherError):
    """Who owns what cannot be looked up or written: the folder or bucket of leases does not answer."""


class CheckpointError(UsherError):
    """A checkpoint cannot be used or written; what it holds is in the log too. `reason` is a short code.

    damaged: not what was written. incompatible: of another release or of other definitions. other_log: not of this
    log, or the log does not reach back to it. unreachable: its folder or bucket does not answer. gone: it was written
    and is not there any more. late: not written in time.
    """

    def __init__(self, message: str, *, reason: str, next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason


class PortInUse(UsherError):
    """The address to listen on is taken."""


class InternalError(UsherError):
    """A broken invariant of Usher itself."""

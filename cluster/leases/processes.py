"""Who a process is, so that others on its machine can tell that it is no more. A stopped process is still there."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def own_name() -> str:
    """Name this process: `BOOT/PID-NAMESPACE/PID/START`, unique on every machine for all time."""
    pid = os.getpid()
    return f"{_here()}/{pid}/{_started(pid) or 0}"


def is_dead(name: str) -> bool:
    """Whether this machine would know a process of that name, and it is no more."""
    here, _, rest = name.rpartition("/")[0].rpartition("/")
    started = name.rpartition("/")[2]
    if here != _here() or not rest.isdigit() or not _here():
        return False
    return str(_started(int(rest))) != started


@cache
def _here() -> str:
    """Name this start of this machine and the space in which its process ids count; empty where it does not tell."""
    with suppress(OSError):
        return f"{_BOOT_ID.read_text().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    return ""


def _started(pid: int) -> int | None:
    """Give when a process began, in ticks since the machine did; None where there is none, or only its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])

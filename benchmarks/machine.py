"""The machine that a figure was measured on, in words."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path


def describe() -> dict[str, str | int | float]:
    """Give processor, usable cores, memory, Python and kernel; what a system does not tell is left out."""
    found: dict[str, str | int | float] = {
        "cpu": cpu_model(_read("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }
    if memory := memory_gib(_read("/proc/meminfo")):
        found["memory_gib"] = memory
    return found


def usable_cores() -> int:
    """Give the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(cpuinfo: str) -> str:
    """Find the processor's name in /proc/cpuinfo; empty where it says none (ARM, other systems)."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return ""


def memory_gib(meminfo: str) -> float | None:
    """Find the size of memory in /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20, 1)
    return None


def in_words(machine: Mapping[str, object]) -> str:
    """Give what `describe` found as one line."""
    memory = f", {machine['memory_gib']} GiB" if "memory_gib" in machine else ""
    return (
        f"{machine['cpu']}, {machine['cores']} core(s){memory}; {machine['python']}; {machine['kernel']}; "
        f"load {machine['load']}"
    )


def memory_available_bytes(root: Path = Path("/")) -> int | None:
    """Give the memory that can still be had without swapping, within the container's bound; None where unknown."""
    free = [int(line.split()[1]) * 1024 for line in _read(root / "proc/meminfo").splitlines()
            if line.startswith("MemAvailable:")]
    cgroup = root / "sys/fs/cgroup"
    bound, used = _read(cgroup / "memory.max").strip(), _read(cgroup / "memory.current").strip()
    if bound.isdigit() and used.isdigit():
        free.append(max(0, int(bound) - int(used)))
    return min(free, default=None)


def peak_rss_bytes() -> int:
    """Give the most memory that this process has had resident.

    Of this process alone where Linux tells it: `ru_maxrss` begins at what its parent had when it was started.
    """
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def rss_bytes() -> int:
    """Give the memory that this process has resident now; 0 where the system does not tell."""
    fields = _read("/proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""  # no such file on this system: the figure is left out


def filesystem_of(path: Path, mounts: str | None = None) -> str:
    """Give the type of the file system under a path (an fsync on tmpfs costs nothing); empty where unknown."""
    best, found = -1, ""
    for line in (_read("/proc/self/mounts") if mounts is None else mounts).splitlines():
        _, place, kind, *_ = line.split(" ")
        if len(place) > best and path.resolve().is_relative_to(place):
            best, found = len(place), kind
    return found


def process_tree(root: int) -> list[int]:
    """Give the process and everything below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        fields = _read(folder / "stat").rpartition(")")[2].split() if folder.name.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


def is_running(pid: int) -> bool:
    """Say whether a process is there; one that has ended and waits to be looked after holds nothing any more."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return bool(fields) and fields[0] != "Z"


def began(pid: int) -> str:
    """Give when a process began, in a unit of the system's; empty where there is none."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if fields else ""


def cpu_seconds(pid: int) -> float:
    """Give the processor time that a process has used; 0 where the system does not tell."""
    stat = _read(f"/proc/{pid}/stat")
    if not stat:
        return 0.0
    fields = stat.rpartition(")")[2].split()  # the name before may hold spaces
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

"""The machine is named from what Linux tells, and nothing breaks where it tells less."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.machine import (
    cpu_model,
    cpu_seconds,
    describe,
    filesystem_of,
    in_words,
    memory_available_bytes,
    memory_gib,
    peak_rss_bytes,
)


def test_the_machine_is_named() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Intel(R)  Xeon(R) @ 2.0GHz\n") == "Intel(R) Xeon(R) @ 2.0GHz"
    assert cpu_model("CPU implementer : 0x41\n") == ""
    assert memory_gib("MemTotal:       25165824 kB\nMemFree: 1 kB\n") == 24.0
    assert memory_gib("") is None
    found = describe()
    assert found["cpu"]
    assert found["python"]
    assert int(found["cores"]) >= 1


def test_a_file_system_is_that_of_the_innermost_mount() -> None:
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n"
    assert filesystem_of(Path("/nowhere"), mounts) == "ext4"
    assert filesystem_of(Path("/tmp/disk/x"), mounts) == "xfs"
    assert filesystem_of(Path("/tmp/x"), mounts) == "tmpfs"
    assert filesystem_of(Path("/x"), "") == ""


def test_a_process_has_used_time_and_a_missing_one_none() -> None:
    assert cpu_seconds(os.getpid()) > 0
    assert cpu_seconds(2**22 + 1) == 0.0


def test_available_memory_is_the_least_of_the_machines_and_the_containers(tmp_path: Path) -> None:
    assert memory_available_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert memory_available_bytes(tmp_path) == 5_000 * 1_024
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.current").write_text("1000000\n")
    (cgroup / "memory.max").write_text("max\n")
    assert memory_available_bytes(tmp_path) == 5_000 * 1_024
    (cgroup / "memory.max").write_text("3000000\n")
    assert memory_available_bytes(tmp_path) == 2_000_000


def test_a_machine_is_one_line_and_a_process_has_had_memory() -> None:
    machine = {"cpu": "X", "cores": 2, "memory_gib": 24.0, "python": "CPython 3", "kernel": "Linux", "load": 0.5}
    assert in_words(machine) == "X, 2 core(s), 24.0 GiB; CPython 3; Linux; load 0.5"
    assert peak_rss_bytes() > 2**20

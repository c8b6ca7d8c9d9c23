"""Reads which addresses a process tree listens on, from /proc: what the kernel says, not what was asked for."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address
from pathlib import Path

_LISTEN = "0A"


def listening(pids: list[int]) -> dict[int, list[str]]:
    """Give the addresses `host:port` that each process listens on over TCP; IPv4 in IPv6 shows as IPv4."""
    by_inode = _listening_inodes()
    found: dict[int, list[str]] = {}
    for pid in pids:
        addresses = [by_inode[inode] for inode in _socket_inodes(pid) if inode in by_inode]
        if addresses:
            found[pid] = addresses
    return found


def is_loopback(address: str) -> bool:
    """Say whether `host:port` is reachable from this machine alone."""
    return ip_address(address.rpartition(":")[0]).is_loopback


def _socket_inodes(pid: int) -> list[str]:
    inodes = []
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []  # it ended meanwhile
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.append(target[8:-1])
    return inodes


def _listening_inodes() -> dict[str, str]:
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                found[fields[9]] = _address(fields[1])
    return found


def _address(text: str) -> str:
    """The kernel writes addresses as native 32-bit words in hex."""
    host, port = text.split(":")
    packed = b"".join(struct.pack("=I", int(host[at : at + 8], 16)) for at in range(0, len(host), 8))
    shown = socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
    return f"{shown.removeprefix('::ffff:')}:{int(port, 16)}"

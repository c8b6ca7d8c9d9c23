"""A running Usher and a webhook receiver, for live tests."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from standardwebhooks import Webhook

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_" + base64.b64encode(b"a secret that only this test has").decode()
WRITE_KEY = "shop-write-key"
#: How long anything may take on a slow machine before the test says it does not happen.
PATIENCE_S = 60.0


def eventually(what: str, probe: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Give the probe's first true answer; fails with `what` and the last answer when patience ends."""
    until = time.monotonic() + patience_s
    answer = None
    while time.monotonic() < until:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.02)
    message = f"did not happen within {patience_s} s: {what}; last answer: {answer!r}"
    raise AssertionError(message)


def is_gone(pid: int) -> bool:
    """Whether a process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


@dataclass
class Received:
    """One webhook request: its id and its changes, in the order they came."""

    webhook_id: str
    changes: list[dict[str, Any]]


@dataclass
class Receiver:
    """A webhook receiver on loopback that checks every signature and keeps what it got."""

    requests: list[Received] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Listen on a free port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    Webhook(SECRET).verify(body, {key.lower(): value for key, value in self.headers.items()})
                    content = json.loads(body)
                    receiver.requests.append(Received(self.headers["webhook-id"], content["changes"]))
                except Exception as error:
                    receiver.faults.append(f"{type(error).__name__}: {error}")
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass  # requests are checked, not printed

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Listen no longer."""
        self.server.shutdown()
        self.server.server_close()

    def changes(self, user: str | None = None) -> list[dict[str, Any]]:
        """Every distinct change received (repeats under the same webhook id dropped), of one user or all."""
        seen: dict[str, dict[str, Any]] = {}
        for request in list(self.requests):
            for change in request.changes:
                if user is None or change["user_id"] == user:
                    seen.setdefault(change["transition_id"], change)
        return list(seen.values())

    def webhook_ids_of_transitions(self) -> dict[str, set[str]]:
        """Under which webhook ids each transition came."""
        found: dict[str, set[str]] = {}
        for request in list(self.requests):
            for change in request.changes:
                found.setdefault(change["transition_id"], set()).add(request.webhook_id)
        return found


class Usher:
    """`usher up` in a process of its own."""

    def __init__(
        self, data_dir: Path, port: int = 0, *, ray: Mapping[str, str] = MappingProxyType({}), **options: Any
    ) -> None:
        """`ray`: what the environment says of Ray."""
        self.data_dir = data_dir
        arguments = {"data_dir": str(data_dir), "port": port, **options}
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            environment.pop(name, None)
        environment.update(ray)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.up_child", json.dumps(arguments)],
            cwd=data_dir.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self._rest: threading.Thread | None = None

    def await_ready(self) -> dict[str, Any]:
        """Read until it is ready; gives what it said."""
        for message in self._messages():
            if message.get("ready"):
                self.ready = message
                self.url: str = message["url"]
                self.key: str = (self.data_dir / "admin.key").read_text().strip()
                self._rest = threading.Thread(target=lambda: list(self._messages()), daemon=True)
                self._rest.start()
                return message
        raise AssertionError("\n".join(["Usher ended before it was ready:", *self.lines]))

    def _messages(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if line.startswith("{"):
                yield json.loads(line)

    def stop(self, number: int = signal.SIGTERM, patience_s: float = 45.0) -> int:
        """Send a signal and give the exit code; kills what does not end."""
        self.process.send_signal(number)
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def close(self) -> None:
        """End it if it still runs, and let go of its output."""
        self.process.kill()
        self.process.wait()
        if self._rest is not None:
            self._rest.join()
        if self.process.stdout is not None:
            self.process.stdout.close()

    # --- HTTP --------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: Any = None, key: str | None = None, basic: str | None = None
    ) -> tuple[int, Any]:
        """One JSON request; gives status and decoded body, status 0 where no connection could be had."""
        headers = {"content-type": "application/json"}
        if basic is not None:
            headers["authorization"] = "Basic " + base64.b64encode(f"{basic}:".encode()).decode()
        else:
            headers["authorization"] = f"Bearer {key or self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=40) as response:
                return response.status, _decoded(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _decoded(error.read())
        except OSError as error:
            return 0, str(error)

    def status(self) -> dict[str, Any]:
        """`usher status --json`, over HTTP."""
        code, body = self.request("GET", "/api/v1/status")
        assert code == 200, body
        assert isinstance(body, dict)
        return body

    def checkpoints(self, name: str = "evaluator-0") -> dict[str, Any]:
        """What an evaluator says of its checkpoints."""
        row = next(row for row in self.status()["actors"] if row["name"] == name)
        assert isinstance(row["checkpoints"], dict)
        return row["checkpoints"]

    def pid(self, name: str) -> int:
        """The process of an actor; waits while it is restarting."""

        def probe() -> int | None:
            code, body = self.request("GET", "/api/v1/status")
            if code != 200:
                return None
            row = next(row for row in body["actors"] if row["name"] == name)
            return row["pid"] if row["state"] not in ("unreachable", "not_ready") else None

        return int(eventually(f"{name} has a pid", probe))

    def kill(self, name: str) -> int:
        """kill -9 an actor's process; gives its pid."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def track(self, user: str, event: str, message_id: str, **properties: Any) -> int:
        """Send one Segment track call; gives the HTTP status."""
        body = {"userId": user, "event": event, "messageId": message_id, "properties": properties}
        return self.request("POST", "/v1/track", {"type": "track", **body}, basic=WRITE_KEY)[0]

    def track_surely(self, user: str, event: str, message_id: str, **properties: Any) -> None:
        """As `track`, sent again until it is taken, as an SDK does; dedup makes that safe."""
        eventually(
            f"{event} of {user} is taken", lambda: self.track(user, event, message_id, **properties) == 200
        )

    def is_member(self, audience: str, user: str) -> bool | None:
        """Ask the membership API; None where it does not answer 200."""
        code, body = self.request("GET", f"/api/v1/audiences/{audience}/memberships/{user}")
        return body["isMember"] if code == 200 else None


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace")


def kinds(receiver: Receiver, user: str, audience: str) -> list[str]:
    changes = [change for change in receiver.changes(user) if change["audience_id"] == audience]
    return [change["kind"] for change in sorted(changes, key=lambda change: (change["at"], change["n"]))]


def came_and_went(receiver: Receiver, user: str) -> None:
    eventually(
        f"{user} came and went", lambda: kinds(receiver, user, "hide_promo") == ["entered", "exited"]
    )


def assert_nothing_sent_twice_under_another_id(receiver: Receiver) -> None:
    twice = {key: ids for key, ids in receiver.webhook_ids_of_transitions().items() if len(ids) > 1}
    assert twice == {}
    assert receiver.faults == []

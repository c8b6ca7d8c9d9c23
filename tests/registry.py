"""A schema registry on loopback: of Confluent's documented REST API what its serializers and deserializers ask for.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html: paths, content types, status and error
codes are the documented ones; what is asked otherwise is refused as there. No real one can be had from PyPI.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fastavro

JSON_TYPE = "application/vnd.schemaregistry.v1+json"
ACCEPTED = {JSON_TYPE, "application/vnd.schemaregistry+json", "application/json"}


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        self.status, self.code, self.message = status, code, message


class Registry:
    """Its schemas, how it was asked, and what to answer instead. Make it with `registry()`."""

    def __init__(self, credentials: tuple[str, str] | None) -> None:
        self.credentials = credentials
        self.url = ""
        self.asked: list[str] = []
        #: Answered to everything: a status, with a text that is no JSON. None: as usual.
        self.failing: int | None = None
        self._schemas: list[dict[str, Any]] = []
        #: By subject, the ids of its versions.
        self._subjects: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def register(self, subject: str, schema: Any) -> int:
        """Have a schema, as if it had been sent; gives its id."""
        with self._lock:
            self._register(subject, {"schema": json.dumps(schema)})
            return self._subjects[subject][-1]

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        with self._lock:
            self.asked.append(f"{method} {path}")
            if (found := re.fullmatch(r"/schemas/ids/(\d+)", path)) and method == "GET":
                if int(found[1]) > 2**31 - 1:
                    raise Refused(404, 404, "HTTP 404 Not Found")
                return self._schema(int(found[1]))
            if (found := re.fullmatch(r"/schemas/guids/([0-9a-f-]{36})", path)) and method == "GET":
                return self._schema(next((row["id"] for row in self._schemas if row["guid"] == found[1]), 0))
            if (found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", path)) and method == "GET":
                return self._version(unquote(found[1]), int(found[2]))
            if (found := re.fullmatch(r"/subjects/([^/]+)/versions", path)) and method == "POST" and body is not None:
                return self._register(unquote(found[1]), body)
            if (found := re.fullmatch(r"/subjects/([^/]+)", path)) and method == "POST" and body is not None:
                return self._look_up(unquote(found[1]), body)
        raise Refused(404, 404, "HTTP 404 Not Found")

    def _schema(self, number: int) -> dict[str, Any]:
        if not 1 <= number <= len(self._schemas):
            raise Refused(404, 40403, f"Schema {number} not found")
        row = self._schemas[number - 1]
        return {key: value for key, value in row.items() if key != "id"}

    def _version(self, subject: str, version: int) -> dict[str, Any]:
        if subject not in self._subjects:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        if not 1 <= version <= len(self._subjects[subject]):
            raise Refused(404, 40402, f"Version {version} not found.")
        return self._said(subject, self._subjects[subject][version - 1])

    def _said(self, subject: str, number: int) -> dict[str, Any]:
        version = self._subjects[subject].index(number) + 1
        return {"subject": subject, "version": version, **self._schemas[number - 1]}

    def _register(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        kind, references = body.get("schemaType") or "AVRO", body.get("references") or []
        if kind not in ("AVRO", "JSON", "PROTOBUF"):
            raise Refused(422, 42201, f"Invalid schema type {kind}")
        if kind == "AVRO":
            named: dict[str, dict[str, Any]] = {}
            try:
                for reference in references:
                    row = self._version(reference["subject"], reference["version"])
                    fastavro.parse_schema(json.loads(row["schema"]), named_schemas=named)
                fastavro.parse_schema(json.loads(body["schema"]), named_schemas=named)
            except (Refused, ValueError, fastavro.schema.SchemaParseException) as error:
                raise Refused(422, 42201, "Invalid schema") from error
        alike = [row for row in self._schemas if (row["schema"], row["schemaType"]) == (body["schema"], kind)]
        if not alike:
            row = {"id": len(self._schemas) + 1, "guid": str(uuid.uuid4()), "schema": body["schema"]}
            alike = [row | {"schemaType": kind, "references": references}]
            self._schemas += alike
        versions = self._subjects.setdefault(subject, [])
        if alike[0]["id"] not in versions:
            versions.append(alike[0]["id"])
        return self._said(subject, alike[0]["id"])

    def _look_up(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        if subject not in self._subjects:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        for number in self._subjects[subject]:
            if self._schemas[number - 1]["schema"] == body["schema"]:
                return self._said(subject, number)
        raise Refused(404, 40403, "Schema not found")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away, or do not trust the certificate, are no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._handle(None)

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._handle(raw)

    def log_message(self, *_: Any) -> None:
        pass

    def _handle(self, raw: bytes | None) -> None:
        registry = self.server.registry
        if registry.failing is not None:
            self._send(registry.failing, b"<html>out of order</html>", "text/html")
            return
        try:
            if registry.credentials is not None:
                wanted = base64.b64encode(":".join(registry.credentials).encode()).decode()
                if self.headers.get("Authorization") != f"Basic {wanted}":
                    raise Refused(401, 401, "Unauthorized")
            if raw is not None and self.headers.get("Content-Type") not in ACCEPTED:
                raise Refused(415, 415, "HTTP 415 Unsupported Media Type")
            status, answer = 200, registry.answer(
                self.command, urlsplit(self.path).path, json.loads(raw) if raw else None
            )
        except Refused as refused:
            status, answer = refused.status, {"error_code": refused.code, "message": refused.message}
        self._send(status, json.dumps(answer).encode(), JSON_TYPE)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def registry(
    credentials: tuple[str, str] | None = None, certificate: Path | None = None, port: int = 0
) -> Iterator[Registry]:
    """Run one. `certificate`: a file with its certificate and key; `port`: that of one that ran before."""
    running = Registry(credentials)
    server = Server(("127.0.0.1", port), Handler)
    server.registry = running
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    running.url = f"http{'s' if certificate else ''}://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""Object stores on loopback while a test needs them: servers of the APIs of S3 and of Google Cloud Storage."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "a-key-of-tests",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


#: As `python -m gcp_storage_emulator`, but it takes several connections at once: clients keep one open while they read.
_GS_SERVER = """
import http.server, sys
http.server.HTTPServer = http.server.ThreadingHTTPServer
from gcp_storage_emulator.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
#: How long a server may take to begin on a busy machine.
_PATIENCE_S = 60.0


@contextmanager
def gs_uri() -> Iterator[str]:
    """Give the URI of a folder in a bucket of its own, which anybody may use.

    The server has a process of its own: pyarrow keeps other threads of this one waiting while it asks.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    bucket = f"usher-{uuid4().hex[:8]}"
    arguments = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", f"--default-bucket={bucket}"]
    server = subprocess.Popen(
        [sys.executable, "-c", _GS_SERVER, *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await_port(port, server)
        yield f"gs://anonymous@{bucket}/shop?endpoint_override=127.0.0.1:{port}&scheme=http&retry_limit_seconds=60"
    finally:
        server.kill()
        server.wait()


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    message = "the server of Google Cloud Storage's API did not begin"
    raise AssertionError(message)


@contextmanager
def s3_uri() -> Iterator[str]:
    """Give the URI of a folder in a bucket of its own; credentials are in the environment meanwhile."""
    from moto.server import ThreadedMotoServer
    from pyarrow.fs import FileSystem

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    bucket = f"usher-{uuid4().hex[:8]}"
    query = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in _ENVIRONMENT.items():
                patch.setenv(name, value)
            made, _ = FileSystem.from_uri(f"s3://{bucket}?{query}&allow_bucket_creation=true")
            made.create_dir(bucket)
            yield f"s3://{bucket}/shop?{query}"
    finally:
        server.stop()

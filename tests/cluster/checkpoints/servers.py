"""A real S3 API server on loopback, for as long as a test needs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "a-key-of-tests",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests",
    "AWS_EC2_METADATA_DISABLED": "true",
}


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

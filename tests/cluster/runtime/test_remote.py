"""Calls to other processes: our own errors arrive as they were raised there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayTaskError

from cluster.errors import StorageFull
from cluster.runtime.remote import RemotePart


def part_that_raises(cause: Exception) -> RemotePart:
    """A part whose process raises `cause`, as Ray hands it over: a subclass of it whose text is a traceback."""

    async def remote(method: str) -> Any:
        raise RayTaskError(method, "\x1b[36mray::Host.call()\x1b[39m", cause).as_instanceof_cause()

    part = RemotePart("controller")
    part._handle = SimpleNamespace(call=SimpleNamespace(remote=remote))
    return part


def test_an_error_of_ours_arrives_without_the_other_process_traceback() -> None:
    full = StorageFull("no room", retry_after_ms=5_000)
    with pytest.raises(StorageFull) as raised:
        asyncio.run(part_that_raises(full).call("create_key"))
    assert str(raised.value) == str(full)
    assert raised.value.retry_after_ms == 5_000


def test_a_bug_over_there_is_raised_with_its_traceback() -> None:
    with pytest.raises(RayTaskError, match="ray::Host"):
        asyncio.run(part_that_raises(KeyError("x")).call("create_key"))

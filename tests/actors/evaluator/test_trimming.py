"""A log that can be trimmed no more ends its evaluator, and whoever asked hears why."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actors.evaluator import trimming
from actors.evaluator.trimming import Trimming
from cluster.clock import ManualClock
from cluster.errors import Fenced, StorageFull


@pytest.mark.parametrize(
    ("error", "code", "fails"),
    [
        (StorageFull("no room", retry_after_ms=1_000), "storage_full", False),
        (Fenced("another owns it", next_step="End.", epoch=2), "not_ready", True),
        (OSError("disk gone"), "not_ready", True),
    ],
)
def test_a_refusal_is_passed_on_and_anything_else_ends_the_evaluator(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, fails: bool
) -> None:
    def fold(*args: Any) -> int:
        raise error

    monkeypatch.setattr(trimming, "fold", fold)
    monkeypatch.setattr(trimming, "transitions_kept_ms", lambda definitions: 0)
    worker: Any = SimpleNamespace(
        machine=SimpleNamespace(settled_ms=5), published=SimpleNamespace(definitions=None),
        log=SimpleNamespace(archives_transitions=False),
    )  # fmt: skip
    failed: list[Exception] = []

    async def on_failure(found: Exception) -> None:
        failed.append(found)

    async def in_history(function: Any, *args: Any) -> Any:
        return function(*args)

    reply = asyncio.run(Trimming(worker, ManualClock(0), in_history, on_failure).transitions(7))
    assert reply["error"] == code
    assert failed == ([error] if fails else [])

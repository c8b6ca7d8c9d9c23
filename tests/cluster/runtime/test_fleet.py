"""Draining in order and within one deadline, which nobody can use up for the others."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.runtime import launch
from cluster.runtime.fleet import Fleet
from cluster.runtime.launch import UpOptions

EVALUATORS = ["evaluator-0", "evaluator-1"]
GROUPS: list[tuple[list[str], float]] = [(["edge"], 1 / 3), (EVALUATORS, 2 / 3), (["controller"], 1)]


class Parts(Fleet):
    """A fleet whose processes answer as the test says, or not in time."""

    def __init__(self, answers: dict[str, dict[str, Any] | None]) -> None:
        self.asked: list[tuple[str, int]] = []
        self._answers = answers
        self._handles = {
            name: SimpleNamespace(call=SimpleNamespace(remote=lambda method, ms, name=name: self.ask(name, ms)))
            for name in answers
        }

    def ask(self, name: str, within_ms: int) -> str:
        self.asked.append((name, within_ms))
        return name

    def _get(self, call: Any, name: str, timeout_s: float) -> Any:
        answer = self._answers[name]
        if answer is None:
            time.sleep(timeout_s)
            return {"error": "unreachable", "message": f"{name}: no answer"}
        return answer


DONE: dict[str, Any] = {"drained": True, "late": ""}


def test_groups_are_drained_in_order_each_with_its_share_of_what_is_left() -> None:
    parts = Parts({"edge": {}, "evaluator-0": DONE, "evaluator-1": DONE, "controller": {}})
    assert parts.drain(GROUPS, 30.0) == []
    assert [name for name, _ in parts.asked] == ["edge", "evaluator-0", "evaluator-1", "controller"]
    shares = [within_ms for _, within_ms in parts.asked]
    assert shares == pytest.approx([9_000, 18_000, 18_000, 27_000], rel=0.01)


def test_one_that_hangs_leaves_the_others_their_time() -> None:
    parts = Parts({"edge": None, "evaluator-0": DONE, "evaluator-1": None, "controller": {}})
    began = time.monotonic()
    assert parts.drain(GROUPS, 0.6) == ["edge did not finish", "evaluator-1 did not finish"]
    assert time.monotonic() - began < 0.6
    assert parts.asked[-1][1] > 50


def test_what_a_part_did_not_bring_to_its_end_is_said() -> None:
    late = {"drained": True, "late": "no checkpoint of what came last: it was not written in time"}
    parts = Parts({"edge": {}, "evaluator-0": late, "evaluator-1": DONE, "controller": {}})
    assert parts.drain(GROUPS, 1.0) == [f"evaluator-0: {late['late']}"]


@pytest.mark.parametrize(("uri", "kept"), [(None, ""), ("s3://bucket/x", "s3://bucket/x"), ("/var/s", "/var/s")])
def test_the_state_uri_goes_to_the_evaluators_as_one_that_holds_anywhere(uri: str | None, kept: str) -> None:
    settings = launch._checkpoint_settings(UpOptions(state_uri=uri, checkpoint_every_ms=7))
    assert (settings.uri, settings.every_ms) == (kept, 7)


def test_a_relative_folder_is_the_callers(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert launch._checkpoint_settings(UpOptions(state_uri="state")).uri == str(tmp_path / "state")

"""The log in Kafka under a real Usher: kill -9, brokers that go away, and a node whose files are lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import brokers
from tests.live.conftest import write_definitions
from tests.live.usher import Receiver, Usher, eventually

pytestmark = [pytest.mark.live, pytest.mark.timeout(400)]


def order(usher: Usher, user: str) -> None:
    """An order that makes a member of `rich_buyers` for an hour; sent until it is taken."""
    usher.track_surely(user, "order_completed", f"m-{user}", channel="app")


def members(usher: Usher, count: int) -> list[bool]:
    return [usher.is_member("rich_buyers", f"rich-{number}") for number in range(count)]


@pytest.fixture
def own_receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.start()
    yield receiver
    receiver.stop()


def test_what_was_acknowledged_outlives_the_evaluator_the_brokers_and_the_node(
    tmp_path: Path, own_receiver: Receiver
) -> None:
    receiver = own_receiver
    definitions = write_definitions(tmp_path, receiver.url)
    config = tmp_path / "kafka.properties"
    config.write_text("fetch.wait.max.ms=2\n")
    with brokers() as running:
        for topic in ("live.evaluator-0", "live.evaluator-0.transitions"):
            running.make_topic(topic)
        log = f"kafka://{running.bootstrap}/live?config={config}"
        usher = Usher(
            tmp_path / "data", definitions=[str(definitions)], evaluators=1, log=log, checkpoint_every_ms=3_600_000
        )
        try:
            usher.await_ready()
            eventually("the traits are taken", lambda: all(
                row["version"] is not None and not row["waiting_for"] for row in usher.status()["traits"]
            ))  # fmt: skip
            for number in range(5):
                order(usher, f"rich-{number}")
            assert members(usher, 6) == [True] * 5 + [False]

            usher.kill("evaluator-0")
            order(usher, "rich-5")
            assert members(usher, 7) == [True] * 6 + [False]

            running.stop()
            assert usher.track("rich-6", "order_completed", "m-rich-6", channel="app") == 503
            running.go_on()
            order(usher, "rich-6")
            assert members(usher, 8) == [True] * 7 + [False]
            ids = eventually("all entries are sent", lambda: [
                change["transition_id"] for number in range(7) for change in receiver.changes(f"rich-{number}")
                if change["audience_id"] == "rich_buyers"
            ] if all(receiver.changes(f"rich-{number}") for number in range(7)) else None)  # fmt: skip
            assert len(ids) == 7
            assert usher.stop() == 0, usher.lines
        finally:
            usher.close()

        # All that an evaluator keeps on its node is gone.
        for path in (tmp_path / "data").glob("evaluator-0*"):
            path.unlink()
        shutil.rmtree(tmp_path / "data" / "membership")
        shutil.rmtree(tmp_path / "data" / "checkpoints")
        again = Usher(tmp_path / "data")
        try:
            again.await_ready()
            assert members(again, 8) == [True] * 7 + [False]
            order(again, "rich-7")
            assert members(again, 8) == [True] * 8
            eventually("the new entry is sent", lambda: receiver.changes("rich-7"))
            sent = [c["transition_id"] for c in receiver.changes() if c["audience_id"] == "rich_buyers"]
            assert len(sent) == len(set(sent)) == 8, "nothing got another id"
            assert again.stop() == 0, again.lines
        finally:
            again.close()

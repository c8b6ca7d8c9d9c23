"""Where logs are kept in tests: both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.brokers import Brokers
from tests.brokers import brokers as running
from tests.cluster.log.kept import InKafka, InSqlite, Kept


@pytest.fixture(scope="package")
def brokers() -> Iterator[Brokers]:
    with running() as started:
        yield started


@pytest.fixture(params=["sqlite", "kafka"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    if request.param == "sqlite":
        return InSqlite(tmp_path)
    return InKafka(tmp_path, request.getfixturevalue("brokers"))


@pytest.fixture
def in_kafka(tmp_path: Path, brokers: Brokers) -> Iterator[InKafka]:
    yield InKafka(tmp_path, brokers)
    brokers.go_on()
    brokers.delay(0)

"""What every test of the simulation needs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A process that the simulation kills leaves coroutines that nobody will await: that is no fault of anybody."""
    ignored = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(ignored)


@pytest.fixture(autouse=True)
def _nothing_left_to_others() -> Iterator[None]:
    """What was left is collected here, and not while another test runs."""
    yield
    gc.collect()

"""What every test stands on: a clock that it moves, no Ray unless it says `live`, one Hypothesis profile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from cluster.clock import ManualClock

#: 2025-11-30T16:00:00Z, an ordinary instant for tests to start at.
START_MS = 1_764_518_400_000

settings.register_profile(
    "usher",
    deadline=None,  # a shared CI core is slow at times; tests are held to their time by the timeout
    max_examples=60,
    print_blob=True,  # a failure found in CI can be replayed here
    suppress_health_check=[HealthCheck.too_slow],
)
#: For an evening's search: pytest --hypothesis-profile=deep
settings.register_profile("deep", parent=settings.get_profile("usher"), max_examples=2_000)
settings.load_profile("usher")


def _ray_runs() -> bool:
    """Is Ray connected in this process? Never imports it."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@pytest.fixture(autouse=True)
def _no_ray_unless_live(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts Ray without saying so: unit tests have no Ray."""
    if request.node.get_closest_marker("live") is not None:
        yield
        return
    running_before = _ray_runs()
    yield
    if _ray_runs() and not running_before:
        pytest.fail("the test started Ray but is not marked `live`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test that needs the kernels may wait for the compiler: two minutes on a fresh machine."""
    waiting = (item for item in items if "compiled_kernels" in getattr(item, "fixturenames", ()))
    if first := next(waiting, None):
        first.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def compiled_kernels() -> None:
    """The evaluation kernels, compiled and loaded before the first example: no test's time is the compiler's."""
    from cluster.runtime.warming import warm_up

    asyncio.run(warm_up())


@pytest.fixture
def clock() -> ManualClock:
    """A clock at START_MS that moves only by `advance`."""
    return ManualClock(START_MS)

"""Engine and reference: every test here runs the engine, so the kernels are there before the first one."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session", autouse=True)
def _warm(compiled_kernels: None) -> None:
    """See `compiled_kernels`."""

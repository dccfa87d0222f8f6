"""Fixtures for every test."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# how long an example takes says something of the machine only
settings.register_profile("untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
# no test depends on what an earlier run measured on this machine, or leaves measurements behind
os.environ["QCOMPILER_CACHE"] = ""

ZOO = Path(__file__).resolve().parents[2] / "shared" / "zoo"


@pytest.fixture(scope="session")
def zoo() -> ModuleType:
    """The model zoo, where it stands beside the project; tests that need it skip elsewhere, but never in CI."""
    if not (ZOO / "zoo.py").is_file():
        if os.environ.get("QCOMPILER_REQUIRE_ZOO"):
            pytest.fail("the model zoo is required here and is not beside the project")
        pytest.skip("no model zoo beside the project")
    sys.path.insert(0, str(ZOO))
    import zoo as module

    return module

"""Shared by every test: the minutes-long ones are left out unless asked for with `-m long`, and what a test is given does
not depend on chance, nor its outcome on how busy the machine is."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "steady", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")

PACKAGE = Path(__file__).parents[1] / "reconciler"


def pytest_configure(config: pytest.Config) -> None:
    """Hundreds of daemons and commands are started: none of them is to compile the package anew, as where
    PYTHONDONTWRITEBYTECODE is set. An installation by pip is compiled, too."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(PACKAGE, quiet=1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("long")]

"""Houses for the tests of real processes: one of its own (`house`), or one that a file's tests share (`shared`)."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator

import pytest

from tests.real.house import House, new_house


@pytest.fixture
def house() -> Iterator[House]:
    """A house that is not up yet; ended, and checked for what it left, after the test."""
    with new_house() as house:
        yield house


@pytest.fixture(scope="module")
def shared() -> Iterator[House]:
    """A house that is up and empty; the tests of a file put pools of different names in it."""
    with new_house() as house:
        house.up()
        yield house


@pytest.fixture
def name(request: pytest.FixtureRequest, shared: House) -> Iterator[str]:
    """A pool name made from the test's; the pool is deleted after it."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    pool = f"{words[:30].strip('-')}-{zlib.crc32(request.node.name.encode()):08x}"
    yield pool
    if shared.serving() and shared.get("pools", pool) is not None:
        shared.delete(pool)


@pytest.fixture
def root() -> None:
    """Skips the test for anybody but root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")

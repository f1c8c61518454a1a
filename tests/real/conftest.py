"""Houses for the tests of real processes: one of its own (`house`), or one that a file's tests share (`shared`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import reconciler
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


@pytest.fixture
def as_nobody(root: None, house: House) -> list[str]:
    """What to put in front of a command of ours so that it runs as nobody, who may make no cgroups and own this house."""
    for directory in (house.path, house.manifests):
        os.chown(directory, 65534, 65534)
    packages = os.pathsep.join([str(Path(reconciler.__file__).parents[1]), *filter(os.path.isdir, sys.path)])
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"PYTHONPATH={packages}"]
    # the interpreter of these tests may be root's alone: then the system's, of the same version, runs the same files
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        wrapper = [*nobody, "sh", "-c", 'python="$1"; shift 2; exec "$python" "$@"', "sh", python]
        done = subprocess.run([*wrapper, "-", "-m", "reconciler", "version"], cwd="/", capture_output=True)
        if done.returncode == 0:
            return wrapper
    pytest.skip("nobody may not execute a Python that has what this needs")

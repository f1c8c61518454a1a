"""examples/07-locks as its README says: one writes, the other stands by, and whoever comes too late is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.house import House, eventually, new_house

EXAMPLE = Path(__file__).parents[2] / "examples" / "07-locks"


@pytest.fixture
def house() -> Iterator[House]:
    with new_house() as house:
        yield house


def test_the_one_that_stands_by_takes_over_with_a_newer_token(house: House) -> None:
    manifest = (EXAMPLE / "locks.yaml").read_text()
    assert manifest.count("/opt/ledger") == 1 and manifest.count("/tmp/ledger") == 1
    ledger = house.path / "written"
    house.write("locks.yaml", manifest.replace("/opt/ledger", str(EXAMPLE)).replace("/tmp/ledger", str(ledger)))
    house.up()

    def lines(token: int) -> list[str]:
        text = ledger.read_text() if ledger.exists() else ""
        return [line for line in text.splitlines() if line.startswith(f"{token} ")]

    eventually(lambda: lines(1), 30.0, "the first to write")
    eventually(lambda: house.condition("writer", "Ready").get("status") == "True", what="one to stand by, as declared")
    eventually(lambda: len(house.pids("writer")) == 1, what="the pid of the one that writes")
    (pid,) = house.pids("writer").values()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: lines(2), 30.0, "the other to take over")
    assert len({line.split()[1] for line in (*lines(1), *lines(2))}) == 2

    late = {**os.environ, "RECONCILER_LOCK_TOKEN": "1"}
    done = subprocess.run([sys.executable, EXAMPLE / "ledger.py", ledger], env=late, capture_output=True, timeout=120)
    assert done.returncode == 1 and b"token 1 is too old" in done.stderr

"""The instruments of these tests: the ledger sees a double, and a house sees what was left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.real.house import House, eventually, worker


def test_the_ledger_sees_a_second_holder_of_a_slot(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    env = {"LEDGER": str(house.path), "RECONCILER_WORKER": "web-0"}
    first = subprocess.Popen(worker("ledger"), env={**env, "RECONCILER_INSTANCE": "one"})
    try:
        eventually(lambda: house.ledger("start"))
        second = subprocess.run(worker("ledger"), env={**env, "RECONCILER_INSTANCE": "two"})
        assert second.returncode == 99
        with pytest.raises(AssertionError, match="DOUBLE"):
            house.assert_single()
    finally:
        first.terminate()
        first.wait()
    assert [line.what for line in house.ledger()] == ["start", "DOUBLE", "stop"]


def test_a_house_kills_what_was_left_and_complains(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    for role in ("ignore-term", "wipe-environ", "thread-leader-exit", "close-stdio"):
        env = {"LEDGER": str(house.path), "RECONCILER_WORKER": role}
        subprocess.Popen(worker(role), env=env, start_new_session=True)
    eventually(lambda: len(house.ledger("start")) == 4 and house.ledger("wiped"))
    with pytest.raises(AssertionError, match="processes were left"):
        house.close()
    assert house.processes() == {}

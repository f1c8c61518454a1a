"""A worker of an ordinary user's daemon that becomes another user by a setuid program: it may not be signalled any more."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.real.house import House, alive, eventually


@pytest.fixture
def becomes_root(as_nobody: list[str], house: House) -> str:
    """The path of a program that gives root to whoever runs it; the house's own directory is root's while it lies there."""
    program = shutil.copy(shutil.which("setpriv") or pytest.skip("needs setpriv"), house.path / "setpriv")
    os.chmod(program, 0o4755)
    if os.statvfs(house.path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{house.path} is mounted nosuid")
    return str(program)


@pytest.mark.parametrize("waits", [False, pytest.param(True, marks=pytest.mark.long)], ids=["at once", "until stuck"])
def test_fault_P35_what_may_not_be_signalled_is_named_and_harms_nobody(
    house: House, as_nobody: list[str], becomes_root: str, waits: bool
) -> None:
    once = f'mkdir "$LEDGER/$RECONCILER_WORKER" && {becomes_root} --reuid=0 --clear-groups sleep 1000'
    house.manifest("itself", ["sh", "-c", f"{once.replace('&& ', '&& exec ')} || exec sleep 2000"], grace="300ms")
    house.manifest("child", ["sh", "-c", f"{{ {once}; }} & exec sleep 2000"], grace="300ms")
    house.manifest("web", ["sleep", "3000"])
    house.up(wrapper=as_nobody)
    daemon = (house.launcher, house.controller())
    own = house.ready("web", 1)
    foreigners = eventually(lambda: len(found := owned_by_root(house)) == 2 and found)
    try:
        assert house.cli("stop", "pool/itself", "pool/child", "--override").returncode == 0
        for words in ("could not be sent", "could not be killed"):
            eventually(lambda words=words: words in house.output())
        if waits:
            for name in ("itself-0", "child-0"):
                eventually(lambda name=name: house.worker(name)["state"] == "StopStuck")
            eventually(lambda: "StopStuck" in house.cli("status").stdout)
        assert house.cli("start", "pool/itself", "pool/child").returncode == 0
        assert (house.launcher, house.controller()) == daemon and house.pids("web") == own
        eventually(lambda: owned_by_root(house) == foreigners)
        assert not {"itself-0", "child-0"} & {name for name, one in house.workers().items() if one["ready"]}
    finally:
        for pid in foreigners:
            os.kill(pid, signal.SIGKILL)
    for pool in ("itself", "child"):
        house.ready(pool, 1)


def owned_by_root(house: House) -> set[int]:
    found = {pid for pid, line in house.children().items() if line == "sleep 1000"}
    return {pid for pid in found if alive(pid) and Path(f"/proc/{pid}").stat().st_uid == 0}

"""Ends by the kernel's hand where the process had no limit of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.launcher.cgroups import Cgroups
from reconciler.launcher.oom import RECENT_S, KernelLog
from reconciler.launcher.protocol import Limits
from tests.launcher.conftest import House, until


def log_of(path: Path, *records: str) -> KernelLog:
    """A log that has these records after its opening; a file instead of the device gives them as one."""
    path.write_text("")
    log = KernelLog(str(path))
    path.write_text("\n".join(records))
    return log


def test_a_kill_is_known_by_its_pid_for_a_while(tmp_path: Path) -> None:
    now_us = int(time.clock_gettime(time.CLOCK_MONOTONIC) * 1e6)
    text = "Out of memory: Killed process 4711 (python3) total-vm:218672kB"

    assert log_of(tmp_path / "a", f"3,100,{now_us},-;{text}").killed(4711)
    assert not log_of(tmp_path / "b", f"3,100,{now_us},-;{text}").killed(471)
    assert not log_of(tmp_path / "c", f"3,100,{now_us - int(RECENT_S * 1e6)},-;{text}").killed(4711)
    assert not log_of(tmp_path / "d", "6,101,99,-;something else about process 4711 (x)").killed(4711)


def test_without_the_log_nothing_is_claimed(tmp_path: Path) -> None:
    assert not KernelLog(str(tmp_path / "none")).killed(1)


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[list[str]]:
    """A cgroup with little memory for everything, the launcher included; what to put in front of a command to enter it."""
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("the kernel's log may not be read here")
    made = Cgroups(f"{tmp_path}/narrow", print)
    limits = Limits(memory_bytes=160 << 20)
    if made.lacking(limits):
        pytest.skip(f"memory cannot be limited here: {made.about()['memory']}")
    paths = made.prepare("narrow", limits)
    yield ["sh", "-c", f'for p in {" ".join(paths)}; do echo 0 >$p; done; exec "$@"', "sh"]

    def closed() -> bool:
        made.close()
        return not any(map(os.path.exists, paths))

    until(closed)


def test_fault_P32_a_host_that_ran_out_of_memory_is_told_from_a_kill_from_outside(
    narrow: list[str], house: House
) -> None:
    controller = house.up(wrapper=narrow)
    eater = controller.run("worker/a-0", ["python3", "-c", "bytearray(300 << 20)"])
    how = controller.exit(eater)
    assert (how["signal"], how.get("oom")) == (9, 1)
    sleeper = controller.run("worker/b-0", ["sleep", "1000"])
    os.kill(controller.pid_of(sleeper), 9)
    assert "oom" not in controller.exit(sleeper)

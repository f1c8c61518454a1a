"""What the cgroup of an instance proves about its tree, with real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.launcher.containment import BEGINNING_S, Trees
from reconciler.launcher.machine import Child
from reconciler.launcher.system import OwnChildren
from reconciler.launcher.table import S

Enter = Callable[[str], tuple[Child, "subprocess.Popen[bytes]"]]


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[Trees]:
    found = Trees(str(tmp_path), lambda text: None)
    if found.word != "cgroup":
        pytest.skip("missing right: a writable cgroup v2")
    yield found
    found.close()


@pytest.fixture
def enter(trees: Trees) -> Iterator[Enter]:
    """Starts a shell script, waits for its first line, and puts it into a cgroup of its own."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(script: str) -> tuple[Child, subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        child = Child("worker/a", "4f2a.1")
        child.pid, child.state = process.pid, S.UP
        trees.enter(child)
        return child, process

    yield start
    for process in processes:
        with contextlib.suppress(ValueError, BrokenPipeError):  # it has been told, or has ended
            process.communicate(b"go\n", timeout=30)
        process.wait(30)


def _gone(trees: Trees, child: Child, own: list[int], wait_until: Any) -> int:
    """How many had escaped, once nothing is left."""
    found: list[tuple[Child, int]] = []

    def swept() -> bool:
        found.extend(trees.sweep(own, contextlib.nullcontext))
        return bool(found)

    trees.left(child, seen=True)
    wait_until(swept)
    assert [left for left, _ in found] == [child]
    return found[0][1]


def test_fault_P17_what_an_enclosed_instance_leaves_is_ended_and_its_empty_cgroup_says_the_rest(
    trees: Trees, enter: Enter, process_is_alive: Any, wait_until: Any
) -> None:
    child, process = enter("echo here; read go; setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' &")
    trees.look_at_entered(OwnChildren().read())
    assert child.enclosed
    out, _ = process.communicate(b"go\n")  # until it has left the session and let go of the pipe
    assert _gone(trees, child, OwnChildren().read(), wait_until) == 1
    assert not process_is_alive(int(out))


def test_an_instance_that_has_started_something_already_is_not_taken_for_enclosed(trees: Trees, enter: Enter) -> None:
    child, _ = enter("sleep 1000 >/dev/null 2>&1 & echo here; read go; kill $!")
    trees.look_at_entered(OwnChildren().read())
    assert not child.enclosed


def test_with_a_stranger_among_our_children_nobody_is_taken_for_enclosed(trees: Trees, enter: Enter) -> None:
    child, process = enter("echo here; read go")
    trees.look_at_entered([pid for pid in OwnChildren().read() if pid != process.pid])
    assert not child.enclosed


def test_one_that_has_ended_before_the_look_is_no_matter(trees: Trees, enter: Enter, wait_until: Any) -> None:
    child, process = enter("echo here")
    process.wait()
    trees.look_at_entered(OwnChildren().read())
    assert not child.enclosed
    assert _gone(trees, child, [os.getpid(), *OwnChildren().read()], wait_until) == 0


HIDES = """
import ctypes, struct, time
libc = ctypes.CDLL(None)
libc.sbrk.restype = ctypes.c_void_p
with open("/proc/self/stat") as file:
    fields = [int(word) for word in file.read().rpartition(")")[2].split()[1:]]
code, end_code, stack, data, end_data, brk = (fields[number - 4] for number in (26, 27, 28, 45, 46, 47))
described = struct.pack("12QII", code, end_code, data, end_data, brk, libc.sbrk(0), *[stack] * 5, 0, 0, 0xFFFFFFFF)
print(libc.prctl(35, 14, ctypes.create_string_buffer(described), ctypes.c_ulong(len(described)), 0), flush=True)
time.sleep(1000)
"""
"""Shows neither command line nor environment, as the kernel does between one program and the next."""


def test_what_cannot_be_told_yet_is_waited_for_a_moment_and_no_longer(tmp_path: Path, wait_until: Any) -> None:
    trees = Trees(str(tmp_path), lambda text: None, use_cgroup=False)
    words = [sys.executable, "-I", "-S", "-c", HIDES]
    stranger = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert stranger.stdout is not None
        if stranger.stdout.readline() != b"0\n":
            pytest.skip("missing right: prctl PR_SET_MM_MAP")
        child = Child("worker/a", f"{tmp_path}.1")
        child.pid, child.state = 1 << 30, S.UP  # it has ended, and been reaped
        began = time.monotonic()
        assert _gone(trees, child, [], wait_until) == 0
        assert time.monotonic() - began >= BEGINNING_S
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.communicate()
        trees.close()

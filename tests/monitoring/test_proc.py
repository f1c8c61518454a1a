"""Looks at real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.monitoring.proc import PAGE_BYTES, TICKS_PER_S, Proc
from reconciler.monitoring.usage import Look, Root, Sample, sample
from reconciler.resources.units import from_ms
from tests.real.house import orphans_are_reaped, worker

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")


@contextmanager
def root(code: str, instance: str = "u.1") -> Iterator[Root]:
    """A Python program in a session of its own, as the launcher starts one."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        env={**os.environ, "RECONCILER_INSTANCE": instance},
        start_new_session=True,
    )
    try:
        yield Root("worker/web-0", instance, process.pid, "web")
    finally:
        process.kill()
        process.wait()


def seen(one: Root, proc_: Proc | None = None, before: Look | None = None) -> Sample | None:
    look, roots = (proc_ or Proc()).look([one])
    return sample(one, before, look, from_ms(0), TICKS_PER_S, PAGE_BYTES) if roots else None


def cpu_percent(one: Root, before: Look, now: Look) -> float | None:
    found = sample(one, before, now, from_ms(0), TICKS_PER_S, PAGE_BYTES)
    return None if found is None else found.cpu_percent


def until(condition: Callable[[], Any], deadline_s: float = 30.0) -> Any:
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)
    return found


def test_memory_threads_and_children_of_a_process_are_seen() -> None:
    code = (
        "import threading, time, subprocess, sys; kept = bytearray(64 << 20);"
        "[threading.Thread(target=time.sleep, args=(100,), daemon=True).start() for _ in range(3)];"
        "subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE);"
        "time.sleep(100)"
    )
    with root(code) as one:
        found = until(lambda: (s := seen(one)) and s.processes == 2 and s.threads == 5 and s)
        assert 64 << 20 <= found.memory_bytes <= 200 << 20
        assert found.virtual_memory_bytes > found.memory_bytes
        assert found.open_files >= 6


def test_cpu_of_a_busy_process_is_about_one_core() -> None:
    with root("while True: pass") as one:
        looks = Proc()
        began = time.monotonic()
        before, _ = until(lambda: (found := looks.look([one]))[1] and found)
        now = until(lambda: (found := looks.look([one])[0]) and (cpu_percent(one, before, found) or 0) >= 10 and found)
        really_s = time.monotonic() - began
        used_s = cpu_percent(one, before, now) * (now.at_s - before.at_s) / 100
        assert used_s <= really_s + 0.05, "ticks are hundredths of a second"


def test_a_daemon_that_has_left_session_and_parent_is_found_by_its_token() -> None:
    code = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: time.sleep(100)\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(100)"
    )
    with orphans_are_reaped(), root(code) as one:
        looks = Proc()

        def left_behind() -> list[int]:
            look, _ = looks.look([one])
            members = look.trees.get(one.key, [])
            return [pid for pid in members if look.stats[pid].parent == os.getpid() and pid != one.pid]

        (daemon,) = until(left_behind)
        until(lambda: (s := seen(one, looks)) and s.processes == 2)
        os.kill(daemon, 9)


def test_a_program_whose_first_thread_has_ended_has_memory_and_threads() -> None:
    with orphans_are_reaped():
        process = subprocess.Popen(worker("thread-leader-exit"), start_new_session=True, env={})
        try:
            one = Root("worker/web-0", "u.1", process.pid, "web")
            until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
            found = seen(one)
            assert found is not None
            assert found.memory_bytes > 1 << 20
            assert found.threads >= 1
        finally:
            process.kill()
            process.wait()


def test_processes_that_come_and_go_during_a_look_harm_nothing() -> None:
    code = "import os\nwhile True:\n    if os.fork() == 0: os._exit(0)\n    os.wait()"
    with root(code) as one:
        looks = Proc()
        until(lambda: seen(one, looks))
        for _ in range(30):
            found = seen(one, looks)
            assert found is not None and found.processes >= 1


def test_a_process_that_is_gone_has_no_sample() -> None:
    with root("pass") as one:
        until(lambda: (found := seen(one)) is None or found.processes == 0)


def test_files_are_counted_where_the_kernel_gives_no_number() -> None:
    with root("import time; time.sleep(100)") as one:
        looks = Proc()
        looks._sized = False  # as on Linux before 6.2
        look = until(lambda: (found := looks.look([one]))[1] and found[0])
        assert look.open_files[one.key] >= 3

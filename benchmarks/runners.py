"""What runs many commands, so many at a time: xargs, GNU parallel, task-spooler; none keeps anything over its own death.

    RUNNERS["xargs -P"](slots, count)  ->  {"rate": ...}      `true` so often, from its start to its end

parallel and task-spooler come from their Debian packages (see fetched.py).
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import machine
from fetched import libraries, unpacked
from figure import Values

DEADLINE_S = 180.0


def xargs(slots: int, count: int) -> Values:
    began = time.monotonic()
    argv = [machine.which("xargs"), "-P", str(slots), "-n", "1", machine.which("true")]
    subprocess.run(argv, input=b"x\n" * count, check=True, timeout=DEADLINE_S)
    return {"rate": ("/s", count / (time.monotonic() - began))}


def parallel(slots: int, count: int) -> Values:
    program = str(need_parallel() / "parallel")
    argv = [program, "--will-cite", f"-j{slots}", "-n1", machine.which("true")]
    began = time.monotonic()
    subprocess.run(argv, input=b"x\n" * count, check=True, timeout=DEADLINE_S)
    return {"rate": ("/s", count / (time.monotonic() - began))}


def task_spooler(slots: int, count: int) -> Values:
    """From the first command given to the server, each by a client as is its way, to the end of the last."""
    programs = need_task_spooler()
    tsp = str(programs / "tsp")
    with machine.work_directory("tsp") as directory:
        own = {"TS_SOCKET": str(directory / "socket"), "TS_SLOTS": str(slots), "TS_MAXFINISHED": "10"}
        env = {**os.environ, **libraries(programs), **own}
        began = time.monotonic()
        script = (
            f"i=0; while [ $i -lt {count} ]; do {tsp} -n {machine.which('true')} || exit; i=$((i+1)); done; {tsp} -w"
        )
        try:
            subprocess.run(
                ["/bin/sh", "-ec", script], env=env, check=True, timeout=DEADLINE_S, stdout=subprocess.DEVNULL
            )
            while b"queued" in (left := _listed(tsp, env)) or b"running" in left:
                time.sleep(0.005)
            return {"rate": ("/s", count / (time.monotonic() - began))}
        finally:
            subprocess.run([tsp, "-K"], env=env, timeout=DEADLINE_S)


def _listed(tsp: str, env: dict[str, str]) -> bytes:
    return subprocess.run([tsp], env=env, check=True, timeout=DEADLINE_S, stdout=subprocess.PIPE).stdout


def need_parallel() -> Path:
    return unpacked("parallel", ["parallel"])


def need_task_spooler() -> Path:
    return unpacked("tsp", ["task-spooler"])


RUNNERS: dict[str, Callable[[int, int], Values]] = {
    "xargs -P": xargs,
    "parallel -j": parallel,
    "tsp -S": task_spooler,
}
NEEDS = {"parallel": need_parallel, "task-spooler": need_task_spooler}

"""F2: from kill -9 of a worker until its replacement runs."""

from __future__ import annotations

import os
import select
import signal
import time
from functools import partial
from pathlib import Path

import machine
from figure import Board, Measured, Plan, Values, goal, percentile
from subject import PROGRAM, Subject, started
from subjects import everyone

NAME = "F2"
WHAT = "kill -9 of one of 1,000 workers until its replacement has written its pid (a shell, then sleep)"
COUNT = 1000
KILLS = 200
BUDGET_S = 40.0
"""A subject that restarts by polling would take minutes: after this long its kills are counted as they are."""
SETTLE_S = 2.0
"""Some supervisors make a worker wait that ends in its first second."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    subjects, board.left_out = everyone()
    kills = KILLS // 4 if plan.quick else KILLS
    board.rounds({subject.name: partial(_restarts, subject, kills) for subject in subjects})
    return board.measured(
        [
            goal("p50 ms", board.median("reconciler", "p50"), must=5, aim=2.5),
            goal("p99 ms", board.median("reconciler", "p99"), must=25, aim=25),
            goal("p50 of runit", board.ratio("p50", "runit"), must=1, aim=1),
        ]
    )


def _restarts(subject: Subject, kills: int) -> Values:
    with machine.work_directory("fifo") as directory:
        births = Births(directory)
        with started(subject, COUNT, births.command):
            pids = [births.next_pid(10.0) for _ in range(COUNT)]
            time.sleep(SETTLE_S)
            took_s = []
            end = time.monotonic() + BUDGET_S
            for victim in pids[:: COUNT // kills][:kills]:
                began = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                births.next_pid(20.0)
                took_s.append(time.monotonic() - began)
                if time.monotonic() > end:
                    break
                time.sleep(0.02)
        births.close()
    return {
        "p50": ("ms", percentile(took_s, 0.5) * 1000),
        "p99": ("ms", percentile(took_s, 0.99) * 1000),
        "kills": ("", len(took_s)),
    }


class Births:
    """Workers that say on a FIFO that they are there, before they turn into `sleep`."""

    def __init__(self, directory: Path) -> None:
        fifo, script = directory / "births", directory / "worker.sh"
        os.mkfifo(fifo)
        script.write_text(f"echo $$ > {fifo}\nexec {machine.which(PROGRAM)} 100000\n")
        self.command = [machine.which("sh"), str(script)]
        self._fd = os.open(fifo, os.O_RDWR | os.O_CLOEXEC)  # held for writing too, so that it never reads as ended
        self._rest = b""

    def next_pid(self, deadline_s: float) -> int:
        """The next worker that has come up. Raises TimeoutError."""
        while b"\n" not in self._rest:
            if not select.select([self._fd], [], [], deadline_s)[0]:
                raise TimeoutError(f"no worker came up within {deadline_s:g} s")
            self._rest += os.read(self._fd, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return int(line)

    def close(self) -> None:
        os.close(self._fd)

"""F5: the CPU time a subject takes while nothing happens."""

from __future__ import annotations

import time
from functools import partial

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import Ours
from subject import Subject, started
from subjects import everyone

NAME = "F5"
WHAT = "CPU time while 1,000 workers sleep, for 30 s"
COUNT = 1000
SETTLE_S = 5.0
WINDOW_S = 30.0
SAMPLING = "reconciler-sampling"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    others, board.left_out = everyone()
    ours = [Ours(options=["--sample-every", "0s"]), Ours(SAMPLING, ["--sample-every", "10s"])]
    subjects = [*ours, *(subject for subject in others if subject.name != OURS)]
    window_s = WINDOW_S / 3 if plan.quick else WINDOW_S  # one look of three, or all three
    board.rounds({subject.name: partial(_idle, subject, window_s) for subject in subjects}, rounds=1)
    return board.measured(
        [
            goal("s per 30 s", board.median(OURS, "all"), must=0.1, aim=0.02),
            goal("s per 30 s, CPU and memory sampled every 10 s", board.median(SAMPLING, "all"), must=0.5, aim=0.2),
        ]
    )


def _idle(subject: Subject, window_s: float) -> Values:
    with started(subject, COUNT) as tree:
        time.sleep(SETTLE_S)
        parts = tree.parts()
        before = [machine.cpu_s(part.pids) for part in parts]
        time.sleep(window_s)
        used = {
            part.name: ("s/30s", (machine.cpu_s(part.pids) - was) / window_s * 30)
            for part, was in zip(parts, before, strict=True)
        }
    return used | {"all": ("s/30s", sum(value for _, value in used.values()))}

"""F4: what a subject itself takes while it keeps 1,000 workers up."""

from __future__ import annotations

import time
from functools import partial

import machine
from figure import Board, Measured, Plan, Values, goal
from subject import Subject, started
from subjects import everyone

NAME = "F4"
WHAT = "memory at 1,000 workers (PSS: shared pages divided among those who share them)"
COUNT = 1000
SETTLE_S = 3.0
MB = 1e6


def run(plan: Plan) -> Measured:
    board = Board(plan)
    subjects, board.left_out = everyone()
    board.rounds({subject.name: partial(_memory, subject) for subject in subjects}, rounds=1)
    return board.measured(
        [
            goal("launcher RSS MB", board.median("reconciler", "launcher RSS"), must=14, aim=11),
            goal("controller RSS MB", board.median("reconciler", "controller RSS"), must=90, aim=60),
        ]
    )


def _memory(subject: Subject) -> Values:
    found: dict[str, tuple[str, float]] = {}
    with started(subject, COUNT) as tree:
        time.sleep(SETTLE_S)
        total = 0
        for part in tree.parts():
            sizes = [machine.memory_bytes(pid) for pid in part.pids]
            pss, rss = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
            found[f"{part.name} PSS"], found[f"{part.name} RSS"] = ("MB", pss / MB), ("MB", rss / MB)
            total += pss
        found["all PSS"] = ("MB", total / MB)
    return found

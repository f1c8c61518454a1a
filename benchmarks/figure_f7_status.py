"""F7: how long a person waits for the list of all workers."""

from __future__ import annotations

import subprocess
import time
from functools import partial

from figure import Board, Measured, Plan, Values, goal, percentile
from subject import Subject, started
from subjects import everyone

NAME = "F7"
WHAT = "the command that lists 1,000 workers, whole process (median of 5)"
COUNT = 1000
TIMES = 5


def run(plan: Plan) -> Measured:
    board = Board(plan)
    subjects, board.left_out = everyone()
    asked = [subject for subject in subjects if subject.name != "floor"]
    board.rounds({subject.name: partial(_status, subject) for subject in asked})
    return board.measured([goal("s", board.median("reconciler", "list"), must=0.4, aim=0.2)])


def _status(subject: Subject) -> Values:
    with started(subject, COUNT) as tree:
        assert tree.status_command is not None, f"{subject.name} has no such command"
        took_s = []
        for _ in range(TIMES):
            began = time.monotonic()
            subprocess.run(tree.status_command, env=tree.environment, check=True, capture_output=True, timeout=60)
            took_s.append(time.monotonic() - began)
    return {"list": ("s", percentile(took_s, 0.5))}

"""F6: from the stop signal until nothing is left."""

from __future__ import annotations

import time
from functools import partial

from figure import Board, Measured, Plan, Values, goal
from subject import Subject, started
from subjects import everyone

NAME = "F6"
WHAT = "stop all 1,000 workers and the subject itself, from its stop signal"
COUNT = 1000
SETTLE_S = 2.0
"""Some supervisors make a worker wait that ends in its first second."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    subjects, board.left_out = everyone()
    board.rounds({subject.name: partial(_stop, subject) for subject in subjects})
    return board.measured([goal("s", board.median("reconciler", "all stopped"), must=1, aim=0.3)])


def _stop(subject: Subject) -> Values:
    with started(subject, COUNT) as tree:
        time.sleep(SETTLE_S)
        return {"all stopped": ("s", tree.stop())}

"""F1: from the start command until all workers run."""

from __future__ import annotations

from functools import partial

from figure import Board, Measured, Plan, Values, goal
from subject import Subject, started
from subjects import everyone

NAME = "F1"
WHAT = "start 1,000 workers, from the start command until all have passed exec"
COUNT = 1000


def run(plan: Plan) -> Measured:
    board = Board(plan)
    subjects, board.left_out = everyone()
    board.rounds({subject.name: partial(_start, subject) for subject in subjects})
    return board.measured(
        [
            goal("of the floor", board.ratio("all up", "floor"), must=4, aim=2),
            *(
                goal(f"of {name}", board.ratio("all up", name), must=1, aim=1)
                for name in ("runit", "supervisord", "circus")
            ),
        ]
    )


def _start(subject: Subject) -> Values:
    with started(subject, COUNT) as tree:
        return {"all up": ("s", tree.up_after_s)}

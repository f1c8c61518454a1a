"""F15: how long a command takes, whole process."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

from figure import OURS, Board, Measured, Plan, Values, goal, percentile
from product import COMMAND, Ours
from subject import started

NAME = "F15"
WHAT = "the command line, whole process (median of 10)"
TIMES = 10


def run(plan: Plan) -> Measured:
    board = Board(plan)
    with started(Ours(), 10) as tree:
        state = ["--state", tree.status_command[-1]] if tree.status_command else []
        commands = {
            f"{OURS} version": [*COMMAND, "version"],
            f"{OURS} get pools": [*COMMAND, "get", "pools", *state],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        environment = tree.environment
        board.rounds({name: partial(_took, argv, environment) for name, argv in commands.items()}, clean=False)
    return board.measured(
        [
            goal("version ms", board.median(f"{OURS} version", "took"), must=120, aim=80),
            goal("get pools ms", board.median(f"{OURS} get pools", "took"), must=200, aim=130),
        ]
    )


def _took(argv: list[str], environment: dict[str, str]) -> Values:
    took_s = []
    for _ in range(TIMES):
        began = time.monotonic()
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)
        took_s.append(time.monotonic() - began)
    return {"took": ("ms", percentile(took_s, 0.5) * 1000)}

"""M2: while one service takes its time to stop, a worker of another one dies; how long is it missed?

stop web, whose workers ignore the signal for 5 s      kill -9 of one of api      until api is whole again
"""

from __future__ import annotations

import os
import signal
import time

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from mistakes import Service, at_work, pids, sides

NAME = "M2"
WHAT = "web takes 5 s to stop; a worker of api is killed meanwhile: until its replacement runs"
WEB, API = Service("web", 100_001, deaf=True), Service("api", 100_002)
SETTLE_S = 3.0
BEGUN_S = 1.0
"""After the command to stop was begun: all of them have passed it on by then, and web is not gone."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    board.rounds(sides(_replace, board))
    return board.measured([goal("ms", board.median(OURS, "replaced"), must=500, aim=100)])


def _replace(side: str) -> Values:
    with at_work(side, (WEB, API)) as (peer, _):
        time.sleep(SETTLE_S)
        before = pids(API)
        peer.stop(WEB.name)
        time.sleep(BEGUN_S)
        if not pids(WEB):
            raise RuntimeError("web was gone at once: it was to ignore its stop signal")
        os.kill(min(before), signal.SIGKILL)
        took_s = machine.wait_for(lambda: len(pids(API) - {min(before)}) == API.workers, "api whole again")
        return {"replaced": ("ms", took_s * 1000)}

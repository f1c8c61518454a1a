"""M1: one harmless value of one service is changed; whose workers are replaced for it?

web and api, 4 workers each; web's time to stop in grows from 5 to 6 s, which no running process can notice
"""

from __future__ import annotations

import time

from figure import OURS, Board, Measured, Plan, Values, goal
from mistakes import Service, at_work, pids, sides, wait_all_up

NAME = "M1"
WHAT = "a harmless value of web is changed, beside api: how many of 4 + 4 workers are replaced"
WEB, API = Service("web", 100_001), Service("api", 100_002)
SETTLE_S = 3.0
"""After the command has returned: circus and PM2 go on by themselves."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    board.rounds(sides(_change, board), rounds=1)  # it is counted, not timed
    return board.measured(
        [goal(what, board.median(OURS, what), must=0, aim=0) for what in ("of web replaced", "of api replaced")]
    )


def _change(side: str) -> Values:
    with at_work(side, (WEB, API)) as (peer, _):
        time.sleep(SETTLE_S)  # supervisord counts a worker as started after a second
        before = {service: pids(service) for service in (WEB, API)}
        peer.change((WEB._replace(grace_s=6), API))
        time.sleep(SETTLE_S)
        wait_all_up((WEB, API))
        return {f"of {service.name} replaced": ("", len(was - pids(service))) for service, was in before.items()}

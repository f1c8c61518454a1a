"""F16: from kill -9 of the controller until the API serves again."""

from __future__ import annotations

import os
import signal
import time
from typing import cast

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import Ours, Product
from subject import started

NAME = "F16"
WHAT = "kill -9 of the controller beside 1,000 workers, until the API answers again and knows them all"
COUNT = 1000


def run(plan: Plan) -> Measured:
    board = Board(plan)
    board.left_out = {"supervisord, circus": "killed and started again they start every worker a second time"}
    with started(Ours(), COUNT) as tree:
        product = cast(Product, tree)
        product.wait_serving()
        board.rounds({OURS: lambda: _comeback(product)}, rounds=plan.rounds * 3, clean=False)
    return board.measured(
        [
            goal("s to serving", board.median(OURS, "serving again"), must=1, aim=0.5),
            goal("workers that changed", board.median(OURS, "workers changed"), must=0, aim=0),
        ]
    )


def _comeback(product: Product) -> Values:
    before = set(product.workers())
    (controller,) = next(part for part in product.parts() if part.name == "controller").pids
    began = time.monotonic()
    os.kill(controller, signal.SIGKILL)
    product.wait_serving()
    serving_s = time.monotonic() - began
    with product.client() as client:
        machine.wait_for(lambda: _up(client.find("workers")["items"]) >= COUNT, "all workers known", 30.0)
    known_s = time.monotonic() - began
    after = set(product.workers())
    return {
        "serving again": ("s", serving_s),
        "all workers known": ("s", known_s),
        "workers changed": ("", len(before ^ after)),
    }


def _up(workers: list[dict[str, dict[str, object]]]) -> int:
    return sum(worker["status"].get("state") == "Ready" for worker in workers)

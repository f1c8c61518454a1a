"""F10 and F11: how many tasks a second warm workers do, each durable, and how fast they are taken in; beside ProcessPoolExecutor."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import Product, pool

NAME = "F10"
WHAT = "20,000 tasks that give their payload back, 4 warm workers; ours durable, ProcessPoolExecutor in memory"
TASKS = 20_000
WORKERS = 4
REQUEST = 1000
SERVE = "from reconciler.worker import serve; serve(lambda payload: payload)"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    count = TASKS // 5 if plan.quick else TASKS
    board.rounds({OURS: partial(_ours, count), "ProcessPoolExecutor": partial(_executor, count)})
    rate = board.median(OURS, "rate")
    return board.measured(
        [
            goal("of 5,000/s", rate / 5000 if rate else None, 1, 4, higher_is_better=True),
            goal("of ProcessPoolExecutor", board.ratio("rate", "ProcessPoolExecutor", OURS), 0.2, 1, True),
        ]
    )


def _ours(count: int) -> Values:
    """All submitted first, in requests of 1,000; the time from the first request to the last end."""
    template = {"command": [sys.executable, "-c", SERVE]}
    with machine.work_directory(OURS) as directory:
        product = Product(directory, pool({"replicas": WORKERS, "template": template, "tasks": {"mode": "Warm"}}))
        try:
            product.wait_serving()
            with product.client() as client:
                client.wait(["pool/bench"], "ready", 60.0)
                began = time.monotonic()
                for _ in range(count // REQUEST):
                    client.submit_many("bench", [{"payload": 1}] * REQUEST)
                taken = time.monotonic()
                client.wait([], "finished", 120.0, all_of="bench")
                ended = time.monotonic()
                states = client.get("pools", "bench")["status"]["tasks"]
        except BaseException:
            machine.show_tail(directory / "output")
            machine.end_what_is_left()  # before its directory goes: it may still write there
            raise
        product.stop()
    if states["failed"] or states["deadLettered"]:
        raise RuntimeError(f"not all of {count} tasks succeeded: {states}")
    return {"rate": ("/s", count / (ended - began)), "submit": ("/s", count / (taken - began))}


def _executor(count: int) -> Values:
    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(abs, range(WORKERS * 10)))  # its processes are there
        began = time.monotonic()
        for future in [executor.submit(abs, 1) for _ in range(count)]:
            future.result()
        return {"rate": ("/s", count / (time.monotonic() - began))}

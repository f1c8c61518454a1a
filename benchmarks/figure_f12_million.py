"""F12: whether a million tasks that wait slow the ones that go, and how long a start takes with them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import Product, moment_s, pool

from reconciler.client import Client

NAME = "F12"
WHAT = "5,000 x `true` at 4 slots with an empty queue and before 1,000,000 more; the start of the daemon with these"
PENDING = 1_000_000
MEASURED = 5000
SLOTS = 4
TASK = {"command": ["true"]}


def run(plan: Plan) -> Measured:
    board = Board(plan)
    pending, measured = (PENDING // 10, MEASURED // 5) if plan.quick else (PENDING, MEASURED)
    board.rounds({OURS: lambda: _ours(pending, measured)}, rounds=min(plan.rounds, 2))
    full, empty = board.median(OURS, "rate, full"), board.median(OURS, "rate, empty")
    return board.measured(
        [
            goal("rate of an empty queue", full / empty if full and empty else None, 0.8, 1, higher_is_better=True),
            goal("s until it serves again", board.median(OURS, "start, full"), must=10, aim=5),
        ]
    )


def _ours(pending: int, measured: int) -> Values:
    tasks = {"mode": "PerTask", "queueLimit": 2 * PENDING}
    with machine.work_directory(OURS) as directory:
        product = Product(directory, pool({"replicas": SLOTS, "tasks": tasks}))
        try:
            product.wait_serving()
            start_empty_s = time.monotonic() - product.began_at
            with product.client() as client:
                client.wait(["pool/bench"], "ready", 60.0)
                empty = _rate(client, _submitted(client, measured))
                client.hold("bench", "pause")
                before_bytes = _controller_bytes(product)
                began = time.monotonic()
                first = _submitted(client, pending)[:measured]
                filled_s = time.monotonic() - began
                per_task = (_controller_bytes(product) - before_bytes) / pending
                client.hold("bench", "resume")
                full = _rate(client, first)
                client.hold("bench", "pause")
            product.stop()
            product = Product(directory)
            product.wait_serving(120.0)
            start_s = time.monotonic() - product.began_at
            after_bytes = _controller_bytes(product)
        except BaseException:
            machine.show_tail(directory / "output")
            machine.end_what_is_left()  # before its directory goes: it may still write there
            raise
        product.stop()
    return {
        "rate, empty": ("/s", empty),
        "rate, full": ("/s", full),
        "taken in": ("/s", pending / filled_s),
        "start, empty": ("s", start_empty_s),
        "start, full": ("s", start_s),
        "memory a task": ("bytes", per_task),
        "controller after the start": ("MB", after_bytes / 1e6),
    }


def _submitted(client: Client, count: int) -> list[str]:
    return list(client.submit_all("bench", (TASK for _ in range(count))))


def _rate(client: Client, names: Sequence[str]) -> float:
    """Tasks a second from the first start to the last end of these."""
    client.wait([f"task/{names[-1]}"], "finished", 120.0)
    client.wait([f"task/{name}" for name in names[-20:]], "finished", 60.0)
    found = client.find("tasks", len(names), **{"continue": str(int(names[0]) - 1)})["items"]
    started_s = min(moment_s(task["status"]["startedAt"]) for task in found)
    ended_s = max(moment_s(task["status"]["finishedAt"]) for task in found)
    return len(found) / (ended_s - started_s)


def _controller_bytes(product: Product) -> int:
    """Resident memory."""
    return sum(machine.memory_bytes(pid)[0] for pid in product.parts()[1].pids)

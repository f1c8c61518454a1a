"""F11: how many tasks a second are taken in, each acknowledged after its COMMIT; beside the same rows written by bare SQLite."""

from __future__ import annotations

import json
import sqlite3
import time

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import task_pool

from reconciler.store.schema import MIGRATIONS

NAME = "F11"
WHAT = (
    "100,000 tasks submitted by one client in requests of 1,000, nothing runs; the floor: the same rows by executemany"
)
TASKS = 100_000
REQUEST = 1000
FLOOR = "SQLite"
TASK = {"command": ["/usr/bin/python3", "train.py", "--epochs", "3"]}
_NEW = {
    "pool": "bench", "state": "Pending", "submitted_ms": 1_790_000_000_000, "max_attempts": 3, "timeout_ms": 0,
    "on_unknown_fail": 0, "priority": 100, "deadline_ms": 0, "attempts": 0, "claim": 0, "due_ms": 0, "started_ms": 0,
    "finished_ms": 0, "message": "", "slot": -1, "cancelling": 0, "spec": json.dumps({**TASK, "pool": "bench"}),
}  # fmt: skip
_INSERT = f"INSERT INTO task (id, {', '.join(_NEW)}) VALUES (?{', ?' * len(_NEW)})"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    count = TASKS // 5 if plan.quick else TASKS
    board.rounds({OURS: lambda: _ours(count), FLOOR: lambda: _floor(count)})
    rate = board.median(OURS, "rate")
    return board.measured(
        [
            goal("of 50,000/s", rate / 50_000 if rate else None, 1, 2, higher_is_better=True),
            goal("of SQLite alone", board.ratio("rate", FLOOR), 0.3, 0.6, higher_is_better=True),
        ]
    )


def _ours(count: int) -> Values:
    with task_pool(1) as product, product.client() as client:
        client.hold("bench", "pause")
        controller = product.parts()[1].pids
        spent_s = machine.cpu_s(controller)
        began = time.monotonic()
        names = list(client.submit_all("bench", (TASK for _ in range(count))))
        took_s = time.monotonic() - began
        spent_s = machine.cpu_s(controller) - spent_s
        if len(set(names)) != count:
            raise RuntimeError(f"{len(set(names))} of {count} tasks were taken in")
    return {"rate": ("/s", count / took_s), "controller CPU": ("us/task", spent_s / count * 1e6)}


def _floor(count: int) -> Values:
    with machine.work_directory("sqlite") as directory:
        db = sqlite3.connect(directory / "floor.db", isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            db.execute(f"PRAGMA {pragma}").fetchall()
        for statements in MIGRATIONS:
            for statement in statements:
                db.execute(statement)
        began, spent_s = time.monotonic(), time.process_time()
        for start in range(1, count + 1, REQUEST):
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_INSERT, ((number, *_NEW.values()) for number in range(start, start + REQUEST)))
            db.execute("COMMIT")
        took_s, spent_s = time.monotonic() - began, time.process_time() - spent_s
        db.close()
    return {"rate": ("/s", count / took_s), "CPU": ("us/task", spent_s / count * 1e6)}

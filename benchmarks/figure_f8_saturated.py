"""F8: how many tasks a second, when there are always more waiting."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import machine
from figure import OURS, Board, Measured, Plan, Values, goal
from product import moment_s, task_pool
from runners import RUNNERS

NAME = "F8"
WHAT = "5,000 x `true`, one process each; ours and the floor with every claim and end on the disk, the others without"
TASKS = 5000
SLOTS = (4, 8, 16)
AHEAD = 16
SLOWER = ("parallel -j", "tsp -S")
"""They do a fifth of it."""
FLOOR = Path(__file__).resolve().parent / "floor.py"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    count = TASKS // 5 if plan.quick else TASKS
    for slots in SLOTS:
        board.rounds(
            {
                f"{OURS} x{slots}": partial(_ours, slots, count),
                f"floor x{slots}": partial(_floor, slots, count, 0),
                f"floor ahead x{slots}": partial(_floor, slots, count, AHEAD),
                f"xargs -P{slots}": partial(RUNNERS["xargs -P"], slots, count),
                **{f"{name}{slots}": partial(RUNNERS[name], slots, count // 5) for name in SLOWER},
            },
        )
    goals = []
    for slots in SLOTS:
        ours = f"{OURS} x{slots}"
        floors = [board.median(f"{floor} x{slots}", "rate") for floor in ("floor", "floor ahead")]
        better, mine = max((rate for rate in floors if rate is not None), default=None), board.median(ours, "rate")
        goals += [
            *(goal(f"x{slots} of {name}", board.ratio("rate", f"{name}{slots}", ours), 1, 1, True) for name in RUNNERS),
            goal(f"x{slots} of the better floor", mine / better if mine and better else None, 0.85, 1, True),
        ]
    return board.measured(goals)


def _ours(slots: int, count: int) -> Values:
    """All in one request; the time from the first start to the last end, as the API tells it."""
    with task_pool(slots) as product, product.client() as client:
        parts = product.parts()
        before = [machine.cpu_s(part.pids) for part in parts]
        began = time.monotonic()
        client.submit_many("bench", [{"command": ["true"]}] * count)
        acknowledged = time.monotonic()
        client.wait([], "finished", 120.0, all_of="bench")
        ended = time.monotonic()
        cpu = {
            f"{part.name} CPU": ("us/task", (machine.cpu_s(part.pids) - was) / count * 1e6)
            for part, was in zip(parts, before, strict=True)
        }
        tasks = client.find("tasks", pool="bench")["items"]
    states = {task["status"]["state"] for task in tasks}
    if len(tasks) != count or states != {"Succeeded"}:
        raise RuntimeError(f"{len(tasks)} of {count} tasks ended, as {states}")
    first = min(moment_s(task["status"]["startedAt"]) for task in tasks)
    last = max(moment_s(task["status"]["finishedAt"]) for task in tasks)
    return {
        "rate": ("/s", count / (last - first)),
        "submit": ("ms", (acknowledged - began) * 1000),
        "rate with submit": ("/s", count / (ended - began)),
        **cpu,
    }


def _floor(slots: int, count: int, ahead: int) -> Values:
    with machine.work_directory("floor") as directory:
        sizes = ["--slots", str(slots), "--count", str(count), "--ahead", str(ahead)]
        argv = [sys.executable, "-I", "-S", str(FLOOR), "tasks", *sizes, str(directory / "journal")]
        out = subprocess.run(argv, check=True, capture_output=True, timeout=120)
    found = json.loads(out.stdout)
    return {"rate": ("/s", found["perS"]), "floor CPU": ("us/task", found["cpuUs"])}

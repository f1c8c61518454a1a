"""F9: how late the end of a task is when so many a second are offered, whether or not the daemon keeps pace."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import machine
from figure import OURS, Board, Measured, Plan, Values, goal, percentile
from product import moment_s, task_pool

NAME = "F9"
WHAT = "1,000 x `true` a second offered for 60 s in batches of 10; from the intended moment of submission"
RATE_PER_S = 1000
SECONDS = 60
SLOTS = 16
SAMPLE_EVERY = 20
HERE = Path(__file__).resolve().parent
ENDED = "to its end"
"""Until the process had ended: `finishedAt`, whole milliseconds. The floor: until the end was on the disk."""
SEEN = "to its end seen"
"""Until a client's long poll said so, which it does after the COMMIT; one task of 200."""
ACKNOWLEDGED = "to acknowledged"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    count = RATE_PER_S * (10 if plan.quick else SECONDS)
    board.rounds({OURS: lambda: _ours(count), "floor": lambda: _floor(count)}, rounds=min(plan.rounds, 2))
    return board.measured(
        [
            goal("p99 ms to the end", board.median(OURS, f"{ENDED} p99"), must=50, aim=15),
            goal("max ms to the end", board.median(OURS, f"{ENDED} max"), must=500, aim=500),
            goal("p99 ms to the end seen", board.median(OURS, f"{SEEN} p99"), must=50, aim=15),
            goal("max ms to the end seen", board.median(OURS, f"{SEEN} max"), must=500, aim=500),
        ]
    )


def _ours(count: int) -> Values:
    with task_pool(SLOTS) as product, product.client() as client:
        parts = product.parts()
        before = [machine.cpu_s(part.pids) for part in parts]
        argv = [sys.executable, "-I", "-S", str(HERE / "load.py"), product.socket_path, "bench"]
        out = subprocess.run(
            [*argv, str(RATE_PER_S), str(count), str(SAMPLE_EVERY)], check=True, stdout=subprocess.PIPE, timeout=240
        )
        cpu = {
            f"{part.name} CPU": ("us/task", (machine.cpu_s(part.pids) - was) / count * 1e6)
            for part, was in zip(parts, before, strict=True)
        }
        client.wait([], "finished", 60.0, all_of="bench")
        tasks = client.find("tasks", pool="bench")["items"]
    load = json.loads(out.stdout)
    if len(tasks) != count or any(task["status"]["state"] != "Succeeded" for task in tasks):
        raise RuntimeError(f"{len(tasks)} of {count} tasks, not all succeeded")
    ended_s = [moment_s(task["status"]["finishedAt"]) - load["tasks"][task["metadata"]["name"]] for task in tasks]
    return {
        **_spread(ENDED, ended_s),
        **_spread(SEEN, load["seen"]),
        **_spread(ACKNOWLEDGED, load["acknowledged"]),
        "generator late max": ("ms", load["late"] * 1000),
        "connections": ("", load["connections"]),
        **cpu,
    }


def _floor(count: int) -> Values:
    with machine.work_directory("floor") as directory:
        sizes = ["--slots", str(SLOTS), "--count", str(count), "--rate", str(RATE_PER_S)]
        argv = [sys.executable, "-I", "-S", str(HERE / "floor.py"), "tasks", *sizes, str(directory / "journal")]
        out = subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=240)
    return _spread(ENDED, json.loads(out.stdout)["latencies"])


def _spread(what: str, values_s: Sequence[float]) -> dict[str, tuple[str, float]]:
    return {
        f"{what} {word}": ("ms", percentile(values_s, share) * 1000)
        for word, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }

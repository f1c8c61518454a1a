"""F10: how many tasks a second warm workers do and how late they are, each durable; beside the queues of the field."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import machine
import queues
from figure import OURS, Board, Measured, Plan, Values, goal
from product import Product, moment_s, pool
from queues import spread

from reconciler.client import Client

NAME = "F10"
WHAT = "tasks that give their payload back, 4 warm workers; all durable but ProcessPoolExecutor's"
TASKS = 20_000
OF_PEERS = 1000
WORKERS = 4
REQUEST = 1000
SERVE = "from reconciler.worker import serve; serve(lambda payload: payload)"
HERE = Path(__file__).resolve().parent

FAST = 5000
FAST_S = 20
BATCH = 50
SAMPLE_EVERY = 10
"""The end of the last task of every 10th batch is waited for by a client."""

SLOW = 100
SLOW_S = 10
"""What every peer is thought to keep pace with."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    part = 5 if plan.quick else 1
    board.rounds({OURS: partial(_ours, TASKS // part), "ProcessPoolExecutor": partial(_executor, TASKS // part)})
    late = {OURS: partial(_late, FAST_S // part, SLOW_S // part)}
    for name in queues.COMMANDS:
        late[name] = partial(_peer, name, OF_PEERS // part, SLOW_S // part)
    board.rounds(late, rounds=min(plan.rounds, 2))
    rate, at = board.median(OURS, "rate"), f"at {FAST}/s"
    goals = [
        goal("of 5,000/s", rate / 5000 if rate else None, 1, 4, higher_is_better=True),
        goal("of ProcessPoolExecutor", board.ratio("rate", "ProcessPoolExecutor", OURS), 0.2, 1, True),
        goal(f"p99 ms to the end {at}", board.median(OURS, f"{at} p99"), must=20, aim=10),
        goal(f"p99 ms to the end seen {at}", board.median(OURS, f"{at} seen p99"), must=20, aim=10),
    ]
    for name in queues.COMMANDS:
        goals.append(goal(f"rate, of {name}", board.ratio("rate", name, OURS), 1, 5, higher_is_better=True))
        goals.append(goal(f"p99 at {SLOW}/s, of {name}", board.ratio(f"at {SLOW}/s p99", name, OURS), 1, 0.5))
    return board.measured(goals)


@contextmanager
def _warm() -> Iterator[tuple[Product, Client]]:
    template = {"command": [sys.executable, "-c", SERVE]}
    with machine.work_directory(OURS) as directory:
        product = Product(directory, pool({"replicas": WORKERS, "template": template, "tasks": {"mode": "Warm"}}))
        try:
            product.wait_serving()
            with product.client() as client:
                client.wait(["pool/bench"], "ready", 60.0)
                yield product, client
                states = client.get("pools", "bench")["status"]["tasks"]
        except BaseException:
            machine.show_tail(directory / "output")
            machine.end_what_is_left()  # before its directory goes: it may still write there
            raise
        product.stop()
    if states["failed"] or states["deadLettered"]:
        raise RuntimeError(f"not all tasks succeeded: {states}")


def _ours(count: int) -> Values:
    """All submitted first, in requests of 1,000; the time from the first request to the last end."""
    with _warm() as (_, client):
        began = monotonic()
        for _ in range(count // REQUEST):
            client.submit_many("bench", [{"payload": 1}] * REQUEST)
        taken = monotonic()
        client.wait([], "finished", 120.0, all_of="bench")
        ended = monotonic()
    return {"rate": ("/s", count / (ended - began)), "submit": ("/s", count / (taken - began))}


def _late(fast_s: int, slow_s: int) -> Values:
    """Open loops: at the rate of the goal, and at one that the peers can keep."""
    with _warm() as (product, client):
        fast = _offered(product, client, FAST, FAST * fast_s, BATCH)
    with _warm() as (product, client):
        return fast | _offered(product, client, SLOW, SLOW * slow_s, 1)


def _offered(product: Product, client: Client, rate_per_s: int, count: int, batch: int) -> Values:
    sizes = map(str, (rate_per_s, count, SAMPLE_EVERY, batch))
    parts = product.parts()
    before = [machine.cpu_s(part.pids) for part in parts]
    argv = [sys.executable, "-I", "-S", str(HERE / "load.py"), product.socket_path, "bench", *sizes, '{"payload": 1}']
    load = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE, timeout=240).stdout)
    client.wait([], "finished", 60.0, all_of="bench")
    after = [machine.cpu_s(part.pids) for part in parts]
    tasks = client.find("tasks", pool="bench")["items"]
    late_s = [moment_s(task["status"]["finishedAt"]) - load["tasks"][task["metadata"]["name"]] for task in tasks]
    if len(late_s) != count:
        raise RuntimeError(f"{len(late_s)} of {count} tasks")
    return {
        **spread(f"at {rate_per_s}/s", late_s),
        **spread(f"at {rate_per_s}/s seen", load["seen"]),
        f"at {rate_per_s}/s generator late max": ("ms", load["late"] * 1000),
        **{
            f"at {rate_per_s}/s {part.name} CPU": ("us/task", (now - was) / count * 1e6)
            for part, was, now in zip(parts, before, after, strict=True)
        },
    }


def _peer(name: str, count: int, slow_s: int) -> Values:
    late_s = queues.open_loop(name, WORKERS, SLOW * slow_s, SLOW)
    return queues.saturated(name, WORKERS, count) | spread(f"at {SLOW}/s", late_s)


def _executor(count: int) -> Values:
    with ProcessPoolExecutor(WORKERS) as executor:
        list(executor.map(abs, range(WORKERS * 10)))  # its processes are there
        began = monotonic()
        for future in [executor.submit(abs, 1) for _ in range(count)]:
            future.result()
        return {"rate": ("/s", count / (monotonic() - began))}

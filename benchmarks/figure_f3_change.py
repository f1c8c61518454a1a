"""F3: from a changed manifest until what it describes runs, beside 1,000 pools that must not notice."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import cast

import machine
from figure import OURS, Board, Measured, Plan, Values, goal, percentile
from figure_f2_restart import Births
from product import COMMAND, Many, Product, pool
from subject import started

NAME = "F3"
WHAT = "one pool beside 1,000 others added or changed, until its new worker has written its pid (median of 5)"
COUNT = 1000
TIMES = 5
SETTLE_S = 1.5
"""A rollout waits to see that a worker stays: what comes earlier is not measured with it."""


def run(plan: Plan) -> Measured:
    board = Board(plan)
    with machine.work_directory("fifo") as directory:
        births = Births(directory)
        with started(Many(), COUNT, births.command) as tree:
            product = cast(Product, tree)
            product.wait_serving()
            for _ in range(COUNT):
                births.next_pid(10.0)
            time.sleep(SETTLE_S)
            changes = Changes(product, births)
            ways = {
                f"{OURS} request": (changes.request, "applied"),
                f"{OURS} apply": (changes.apply, "applied"),
                f"{OURS} saved file": (changes.save, "bench7"),
            }
            board.rounds({name: partial(changes.measure, *way) for name, way in ways.items()}, clean=False)
        births.close()
    return board.measured(
        [
            goal("request ms", board.median(f"{OURS} request", "changed"), must=100, aim=50),
            goal("saved file ms", board.median(f"{OURS} saved file", "changed"), must=600, aim=600),
            *(
                goal(f"others touched by {row.subject}", row.median, must=0, aim=0)
                for row in board.rows()
                if row.measure == "others touched"
            ),
        ]
    )


class Changes:
    """Makes changes, each another one."""

    def __init__(self, product: Product, births: Births) -> None:
        self._product = product
        self._births = births
        self._number = 0

    def measure(self, act: Callable[[dict[str, object]], None], name: str) -> Values:
        took_s, touched = [], 0
        for _ in range(TIMES):
            self._number += 1
            env = [{"name": "CHANGE", "value": str(self._number)}]
            template = {"command": self._births.command, "env": env, "stop": {"signal": "SIGKILL"}}
            before = set(self._product.workers())
            began = time.monotonic()
            act(pool({"template": template}, name))
            born = self._births.next_pid(30.0)
            took_s.append(time.monotonic() - began)
            time.sleep(SETTLE_S)
            after = set(self._product.workers())
            touched += max(0, len(before - after) - 1) + max(0, len(after - before - {born}))
        return {"changed": ("ms", percentile(took_s, 0.5) * 1000), "others touched": ("", touched)}

    def request(self, manifest: dict[str, object]) -> None:
        with self._product.client() as client:
            client.apply([("one.yaml", json.dumps(manifest))])

    def apply(self, manifest: dict[str, object]) -> None:
        """The whole command, as a person types it."""
        words = [*COMMAND, "apply", "--state", str(self._product.state), "-f", "-"]
        text = json.dumps(manifest).encode()
        environment = self._product.environment
        subprocess.run(words, input=text, env=environment, check=True, capture_output=True, timeout=60)

    def save(self, manifest: dict[str, object]) -> None:
        """By rename, as careful editors do."""
        path = self._product.file(7)
        new = path.with_name(".new")
        new.write_text(json.dumps(manifest))
        os.rename(new, path)

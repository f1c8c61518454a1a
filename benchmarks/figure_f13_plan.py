"""F13: how long the plan of one pool takes when one of its workers has changed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import partial

from figure import OURS, Board, Measured, Plan, Values, goal, percentile

import reconciler.unplugged  # noqa: F401  before the first model
from reconciler.backends.local import LocalHost
from reconciler.clock import SystemClock
from reconciler.controllers.pool import plan as plan_of
from reconciler.resources.kinds import build
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec, revision_hash
from reconciler.resources.worker import Process, State, Worker, WorkerSpec, WorkerStatus
from reconciler.runtime.loop import Loop
from reconciler.store.memory import MemoryStore

NAME = "F13"
WHAT = "the plan of a pool one of whose workers has changed; in this process, the store in memory (median of 200)"
TIMES = 200
AMONG, ALONE = f"{OURS}, 10 workers among 10,000 objects", f"{OURS}, 1,000 workers"


def run(plan: Plan) -> Measured:
    board = Board(plan)
    build()
    board.rounds({AMONG: partial(_took, [10] * 840), ALONE: partial(_took, [1000])}, clean=False)
    return board.measured(
        [
            goal("10 workers among 10,000 objects ms", board.median(AMONG, "plan"), must=1, aim=0.2),
            goal("1,000 workers ms", board.median(ALONE, "plan"), must=1, aim=0.2),
        ]
    )


class Silent:
    """Where a launcher would be."""

    def send(self, messages: object) -> None:
        """To nobody."""


def _took(replicas: Sequence[int]) -> Values:
    with tempfile.TemporaryDirectory() as directory:
        loop = Loop(MemoryStore(SystemClock().now), Silent(), LocalHost(directory), SystemClock(), _at_will)
        for number, count in enumerate(replicas):
            _pool(loop, f"pool{number}", count)
        took_s = [_plan(loop, "pool0", ready=number % 2 == 1) for number in range(TIMES)]
    return {"plan": ("ms", percentile(took_s, 0.5) * 1000), "objects": ("", sum(count + 2 for count in replicas))}


def _pool(loop: Loop, name: str, count: int) -> None:
    """A pool whose workers are all up, with its revision."""
    spec = PoolSpec.model_validate({"replicas": count, "template": {"command": ["/bin/serve"]}})
    pool = loop.store.create(Pool(metadata=Metadata(name=name), spec=spec))
    assert isinstance(pool, Pool), "what was given"
    hash_ = revision_hash(pool)
    up = WorkerStatus(state=State.READY, process=Process.UP, ready=True, template_hash=hash_)
    for ordinal in range(count):
        metadata = Metadata(name=f"{name}-{ordinal}", owner=str(pool.key))
        spec_ = WorkerSpec(pool=name, ordinal=ordinal, template_hash=hash_)
        loop.store.create(Worker(metadata=metadata, spec=spec_, status=up))
    _plan(loop, name, ready=True)


def _plan(loop: Loop, name: str, ready: bool) -> float:
    """One of its workers changes; how long the pool's plan takes, in seconds."""
    worker = loop.store.get(Worker, f"{name}-0")
    assert worker is not None, "made above"
    loop.store.set_status(worker.key, worker.status.changed(ready=ready))
    now = SystemClock().now()
    began = time.perf_counter()
    plan = plan_of(Key("Pool", name), loop.world, now)
    took_s = time.perf_counter() - began
    loop.executor.run(plan.actions, loop.world, now)
    loop.store.commit()
    return took_s


def _at_will(apart_s: float) -> None:
    """Nothing is turned."""

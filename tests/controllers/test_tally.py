"""A tally that is kept says the same as one counted anew."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.backends.local import LocalHost
from reconciler.clock import SystemClock
from reconciler.controllers.tally import Tally
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec
from reconciler.resources.worker import Process, State, Worker, WorkerSpec, WorkerStatus
from reconciler.runtime.loop import Loop
from reconciler.store.memory import MemoryStore

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

statuses = st.builds(
    WorkerStatus,
    state=st.sampled_from(State),
    process=st.sampled_from(Process),
    template_hash=st.sampled_from(["", "a", "b"]),
    ready=st.booleans(),
    restarts=st.integers(0, 3),
    message=st.sampled_from(["", "waits for pool/db"]),
    claims=st.sampled_from(["", "x.1"]),
)
steps = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["status", "spec", "delete", "remove"]), statuses), max_size=40
)


def said(tally: Tally) -> dict[str, Any]:
    return {**vars(tally), "hashes": tally.hashes, "fills": [tally.fills(replicas) for replicas in range(6)]}


def worker(ordinal: int, status: WorkerStatus) -> Worker:
    metadata = Metadata(name=f"web-{ordinal}", owner="pool/web")
    return Worker(metadata=metadata, spec=WorkerSpec(pool="web", ordinal=ordinal, template_hash="a"), status=status)


class Silent:
    """Whoever listens hears nothing."""

    def send(self, messages: object) -> None:
        """To nobody."""


@settings(max_examples=60, deadline=None)
@given(steps)
def test_whatever_happens_to_workers_their_tally_is_that_of_a_count(
    course: list[tuple[int, str, WorkerStatus]],
) -> None:
    clock = SystemClock()
    store = MemoryStore(clock.now)
    store.create(Pool(metadata=Metadata(name="web"), spec=PoolSpec.model_validate({"replicas": 3})))
    loop = Loop(store, Silent(), LocalHost(str(Path("/nowhere"))), clock, lambda apart_s: None)
    assert said(loop.world.tally("web")) == said(Tally())
    for ordinal, what, status in course:
        known = store.get(Worker, f"web-{ordinal}")
        if known is None:
            store.create(worker(ordinal, status))
        elif what == "status":
            store.set_status(known.key, status)
        elif what == "spec":
            store.update(known.changed(spec=known.spec.changed(template_hash="b")))
        elif what == "delete":
            store.update(known.changed(metadata=known.metadata.changed(deleted_at=NOW)))
        else:
            store.remove(known.key)
        assert said(loop.world.tally("web")) == said(Tally(store.owned_by(Key("Pool", "web"), Worker)))


def test_slots_are_filled_when_each_has_its_worker_and_nobody_leaves() -> None:
    ready = WorkerStatus(state=State.READY, ready=True)
    full = Tally([worker(1, ready), worker(0, ready)])
    assert [full.fills(replicas) for replicas in (1, 2, 3)] == [False, True, False]
    assert not Tally([worker(1, ready), worker(2, ready)]).fills(2)
    leaving = worker(1, ready)
    leaving = leaving.changed(metadata=leaving.metadata.changed(deleted_at=NOW))
    assert not Tally([worker(0, ready), leaving]).fills(2)

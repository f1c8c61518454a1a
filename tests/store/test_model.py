"""The durable store against the one in memory: any series of calls, kills and starts, and no difference is seen."""

from __future__ import annotations

import copy
import shutil
import tempfile
from dataclasses import astuple, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.errors import Conflict, Gone, NotFound
from reconciler.resources.event import event
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker, WorkerSpec, WorkerStatus
from reconciler.store.base import TaskRecord
from reconciler.store.memory import MemoryStore
from reconciler.store.sqlite import SqliteStore

NAMES = st.sampled_from(["a", "b", "c"])
POOLS = st.sampled_from(["a", "b"])
KEYS = st.sampled_from([None, "x", "y"])
ORDINALS = st.sampled_from([2, 10])
STATES = st.sampled_from(list(TaskState))
BOTH = (Pool, Worker)


class StoreMachine(RuleBasedStateMachine):
    """`real` has a disk; `model` has not, and is set back to its last commit where `real` is killed."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.starts = 0
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.real = SqliteStore(self.root / "0", self)
        self.model = MemoryStore(lambda: self.at)
        self.saved = copy.deepcopy(self.model)
        self.opened_at = 0

    def teardown(self) -> None:
        self.real.close()
        shutil.rmtree(self.root)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    @rule(seconds=st.integers(1, 400))
    def time_passes(self, seconds: int) -> None:
        self.at += timedelta(seconds=seconds)

    @rule(name=NAMES, replicas=st.integers(0, 3))
    def create_pool(self, name: str, replicas: int) -> None:
        self._both(lambda store: store.create(Pool(metadata=Metadata(name=name), spec=PoolSpec(replicas=replicas))))

    @rule(pool=NAMES, ordinal=ORDINALS)
    def create_worker(self, pool: str, ordinal: int) -> None:
        worker = Worker(
            metadata=Metadata(name=f"{pool}-{ordinal}", owner=f"pool/{pool}"),
            spec=WorkerSpec(pool=pool, ordinal=ordinal, template_hash="h"),
        )
        self._both(lambda store: store.create(worker))

    @rule(name=NAMES, replicas=st.integers(0, 3), label=st.sampled_from(["", "x"]), behind=st.integers(0, 1))
    def update_pool(self, name: str, replicas: int, label: str, behind: int) -> None:
        there = self.model.get(Pool, name)
        version = (there.metadata.resource_version if there else 1) - behind
        pool = Pool(metadata=Metadata(name=name, labels={"l": label}), spec=PoolSpec(replicas=replicas))
        self._both(lambda store: store.update(pool, expected=version))

    @rule(name=NAMES, ready=st.integers(0, 2))
    def set_pool_status(self, name: str, ready: int) -> None:
        self._both(lambda store: store.set_status(Key("Pool", name), PoolStatus(ready_replicas=ready)))

    @rule(pool=NAMES, ordinal=ORDINALS, pid=st.integers(1, 3))
    def set_worker_status(self, pool: str, ordinal: int, pid: int) -> None:
        status = WorkerStatus(pid=pid, started_at=self.at)
        self._both(lambda store: store.set_status(Key("Worker", f"{pool}-{ordinal}"), status))

    @rule(name=NAMES)
    def remove_pool(self, name: str) -> None:
        self._both(lambda store: store.remove(Key("Pool", name)))

    @rule(pool=NAMES, ordinal=ORDINALS)
    def remove_worker(self, pool: str, ordinal: int) -> None:
        self._both(lambda store: store.remove(Key("Worker", f"{pool}-{ordinal}")))

    @rule(name=NAMES, message=st.sampled_from(["one", "two"]))
    def say(self, name: str, message: str) -> None:
        self._both(lambda store: store.add_event(event(Key("Pool", name), "Said", message, self.at)))

    @rule(pool=POOLS, key=KEYS, state=STATES)
    def submit(self, pool: str, key: str | None, state: TaskState) -> None:
        taken = key is not None and self.model.tasks.by_key(pool, key) is not None
        assert taken == (key is not None and self.real.tasks.by_key(pool, key) is not None)
        if taken:
            return
        number = self.model.tasks.next_id()
        assert self.real.tasks.next_id() == number
        record = TaskRecord(number, pool, state, 1000 * number, 3, f"spec {number}", idempotency_key=key)
        self._both(lambda store: store.tasks.stage(replace(record)))

    @rule(pool=POOLS, states=st.lists(STATES, min_size=1, max_size=3), key=KEYS)
    def submit_many(self, pool: str, states: list[TaskState], key: str | None) -> None:
        """Together is the same as one by one."""
        if key is not None and self.model.tasks.by_key(pool, key) is not None:
            key = None
        records = []
        for state in states:
            number = self.model.tasks.next_id()
            assert self.real.tasks.next_id() == number
            records.append(TaskRecord(number, pool, state, 1000 * number, 3, f"spec {number}", idempotency_key=key))
            key = None
        self.real.tasks.stage_new(pool, [replace(record) for record in records])
        for record in records:
            self.model.tasks.stage(record)

    @rule(
        which=st.integers(0, 5), state=STATES, column=st.sampled_from(["attempts", "exit_code", "slot", "cancelling"])
    )
    def change_task(self, which: int, state: TaskState, column: str) -> None:
        live = list(self.model.tasks.live())
        if not live:
            return
        number = live[which % len(live)].id
        for store in (self.real, self.model):
            record = store.tasks._live[number]
            record.state = state
            setattr(record, column, True if column == "cancelling" else which)
            store.tasks.stage(record)

    @rule(pool=POOLS, before_ms=st.sampled_from([0, 1]), keep=st.integers(0, 2), limit=st.integers(1, 3))
    def drop_ended_tasks(self, pool: str, before_ms: int, keep: int, limit: int) -> None:
        dropped = [store.tasks.drop(pool, before_ms, keep, limit) for store in (self.real, self.model)]
        assert dropped[0] == dropped[1]

    @rule()
    def take_back_new_tasks(self) -> None:
        dropped = [[task.id for task in store.tasks.drop_new()] for store in (self.real, self.model)]
        assert dropped[0] == dropped[1]

    @rule()
    def commit(self) -> None:
        self.real.commit()
        self.model.commit()
        self.saved = copy.deepcopy(self.model)
        self._same_on_disk()

    @rule()
    def have_a_quiet_moment(self) -> None:
        self.real.idle()

    @rule()
    def kill_and_start(self) -> None:
        """What a killed process leaves is the files as they are, with nobody to close them."""
        self.starts += 1
        left = self.root / str(self.starts)
        left.mkdir()
        for name in ("store.db", "store.db-wal"):
            shutil.copyfile(self.real._directory / name, left / name)
        self._start(left)

    @precondition(lambda self: not self.real.staged)
    @rule()
    def end_and_start(self) -> None:
        before = self._everything(self.real)
        self._start(self.real._directory)
        assert self._everything(self.real) == before

    @invariant()
    def same_to_the_eye(self) -> None:
        assert self._everything(self.real, uid=False) == self._everything(self.model, uid=False)
        for revision in range(self.opened_at, self.model.revision + 1):
            assert self._changes(self.real, revision) == self._changes(self.model, revision)
        if self.opened_at:
            with pytest.raises(Gone):
                self.real.changes_since(self.opened_at - 1)

    def _both(self, call) -> None:
        outcomes = []
        for store in (self.real, self.model):
            try:
                got = call(store)
                outcomes.append(got and _shown(got, uid=False))
            except (Conflict, NotFound, ValueError) as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]

    def _start(self, directory: Path) -> None:
        self.real.close()
        self.real = SqliteStore(directory, self)
        self.model = copy.deepcopy(self.saved)
        self.opened_at = self.real.revision
        self._same_on_disk()

    def _same_on_disk(self) -> None:
        for pool in (None, "a"):
            for state in (None, TaskState.PENDING, TaskState.SUCCEEDED):
                got, expected = (
                    [astuple(task) for task in store.tasks.query(pool, state, since_ms=2000, after_id=1, limit=5)]
                    for store in (self.real, self.model)
                )
                assert got == expected

    def _everything(self, store, uid: bool = True):
        live = list(store.tasks.live())
        return (
            store.revision,
            store.staged,
            [[_shown(obj, uid) for obj in store.all(model)] for model in BOTH],
            [[_shown(obj, uid) for obj in store.owned_by(Key("Pool", name), Worker)] for name in ("a", "b", "c")],
            [one.to_json() for one in store.events()],
            [astuple(replace(task, spec=None)) for task in live],
            store.tasks.specs([task.id for task in live]),
            [store.tasks.counts(pool) for pool in ("a", "b")],
            [task and astuple(task) for task in map(store.tasks.get, range(5))],
        )

    def _changes(self, store, revision: int):
        return [(c.revision, c.type, _shown(c.object, uid=False)) for c in store.changes_since(revision)]


def _shown(obj, uid: bool):
    shown = obj.to_json()
    if not uid:
        shown["metadata"].pop("uid")
    return shown


StoreMachine.TestCase.settings = settings(
    derandomize=True, deadline=None, max_examples=60, stateful_step_count=40, database=None
)
test_no_difference_is_seen = StoreMachine.TestCase

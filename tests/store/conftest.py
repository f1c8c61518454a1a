"""Small things a store is filled with, and a clock that moves only when told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Pool, PoolSpec
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker, WorkerSpec
from reconciler.store.base import Store, TaskRecord
from reconciler.store.memory import MemoryStore
from reconciler.store.sqlite import SqliteStore


class Still:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Make:
    """Small objects and tasks."""

    @staticmethod
    def pool(name: str = "web", replicas: int = 1) -> Pool:
        return Pool(metadata=Metadata(name=name), spec=PoolSpec(replicas=replicas))

    @staticmethod
    def worker(pool: str = "web", ordinal: int = 0) -> Worker:
        return Worker(
            metadata=Metadata(name=f"{pool}-{ordinal}", owner=f"pool/{pool}"),
            spec=WorkerSpec(pool=pool, ordinal=ordinal, template_hash="0123456789"),
        )

    @staticmethod
    def task(
        store: Store, pool: str = "batch", key: str | None = None, state: TaskState = TaskState.PENDING
    ) -> TaskRecord:
        number = store.tasks.next_id()
        record = TaskRecord(number, pool, state, 1000 + number, 3, f'{{"number":{number}}}', idempotency_key=key)
        store.tasks.stage(record)
        return record


@pytest.fixture
def clock() -> Still:
    return Still()


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture
def opened(clock: Still) -> Iterator[Callable[[Path], SqliteStore]]:
    """Opens stores, and closes them after the test."""
    stores: list[SqliteStore] = []

    def open_(directory: Path) -> SqliteStore:
        stores.append(SqliteStore(directory, clock))
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, clock: Still, tmp_path: Path, opened: Callable[[Path], SqliteStore]) -> Store:
    """Each kind of store in turn: what is asked of one is asked of all."""
    return MemoryStore(clock.now) if request.param == "memory" else opened(tmp_path)

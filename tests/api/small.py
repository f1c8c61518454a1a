"""A small daemon over a store in memory, served on a real Unix socket in a thread of its own.

It starts no processes: tests put workers and tasks into the state they want, with `within` on the daemon's own thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from reconciler.api.app import create_app
from reconciler.api.base import LogFile
from reconciler.api.server import serve
from reconciler.client import Client
from reconciler.clock import SystemClock
from reconciler.controllers.intake import again, retry_key
from reconciler.errors import Conflict, NotFound, QueueFull, Refused
from reconciler.monitoring.sampler import Sampler
from reconciler.monitoring.usage import Root
from reconciler.resources.meta import Condition, Key, Metadata, Status
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus, Tasks, Template
from reconciler.resources.task import Plain, Submission, TaskState
from reconciler.resources.units import to_ms
from reconciler.resources.worker import State, Worker, WorkerSpec, WorkerStatus
from reconciler.store.base import StoreFull, TaskRecord
from reconciler.store.memory import MemoryStore

T = TypeVar("T")
NOW = datetime(2026, 11, 23, 18, 10, tzinfo=UTC)


class FixedClock:
    """It is always ten past six."""

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return 0.0


class SmallDaemon:
    """What the API asks of a daemon, and no more."""

    def __init__(self, directory: Path) -> None:
        self.store = MemoryStore(FixedClock().now)
        self.directory = directory
        self.full = False
        self.stuck = False
        self.ended: list[tuple[bool, bool]] = []
        self.rescans = 0
        self.sources: list[Any] = []
        self.sent: list[tuple[str, str, bool]] = []
        self.files: dict[Key, list[LogFile]] = {}
        self.roots: list[Root] = []
        self.usage = Sampler(lambda: self.roots, SystemClock(), every_s=0)
        self._waiting: list[asyncio.Future[None]] = []

    async def committed(self) -> None:
        if self.full:
            self.store.tasks.drop_new()
            raise StoreFull("the disk is full", "free some space")
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(0)
        self.store.commit()
        self.wake()

    async def changed(self, tasks: Collection[int] = ()) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    @property
    def waiting(self) -> int:
        """How many requests wait for a change."""
        return len(self._waiting)

    def wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def submit(self, pool: str, submissions: Sequence[Submission | Plain]) -> list[TaskRecord]:
        found = self.store.get(Pool, pool)
        if found is None:
            raise NotFound(f"there is no pool {pool!r}")
        if found.spec.tasks is None:
            raise Refused(f"pool/{pool} takes no tasks")
        if len(list(self.store.tasks.live())) + len(submissions) > found.spec.tasks.queue_limit:
            raise QueueFull(f"the queue of pool/{pool} is full")
        records = []
        for asked in submissions:
            submission = asked if isinstance(asked, Submission) else Submission.model_validate(asked)
            key = submission.idempotency_key
            old = self.store.tasks.by_key(pool, key) if key else None
            spec = json.dumps({"command": submission.command, "pool": pool}, separators=(",", ":"))
            if old is not None:
                if old.spec != spec:
                    raise Conflict(f"the key {key!r} belongs to task/{old.id}")
                records.append(old)
                continue
            number = self.store.tasks.next_id()
            most = submission.max_attempts or 3
            record = TaskRecord(number, pool, TaskState.PENDING, to_ms(NOW), most, spec, idempotency_key=key)
            self.store.tasks.stage(record)
            records.append(record)
        return records

    def retry(self, task_id: int) -> TaskRecord:
        old = self.store.tasks.get(task_id)
        if old is None:
            raise NotFound(f"there is no task {task_id}")
        known = self.store.tasks.by_key(old.pool, retry_key(task_id))
        if known is None:
            known = again(old, self.store.tasks.next_id, to_ms(NOW))
            self.store.tasks.stage(known)
        return known

    def cancel(self, task_id: int) -> TaskRecord:
        record = self.store.tasks.get(task_id)
        if record is None:
            raise NotFound(f"there is no task {task_id}")
        if not record.state.ended:
            record.state = TaskState.CANCELLED
            record.finished_ms = to_ms(NOW)
            self.store.tasks.stage(record)
        return record

    def live_task(self, task_id: int) -> TaskRecord | None:
        return next((record for record in self.store.tasks.live() if record.id == task_id), None)

    def signal(self, workers: Sequence[Worker], name: str, group: bool) -> list[str]:
        self.sent += [(worker.name, name, group) for worker in workers]
        return [worker.name for worker in workers]

    async def reload(self, pool: Pool, workers: Sequence[Worker]) -> dict[str, str]:
        return dict.fromkeys(self.signal(workers, "reload", False), "")

    def restart(self, pool: Pool) -> None:
        self.store.set_status(pool.key, pool.status.changed(restarts_asked=pool.status.restarts_asked + 1))

    def rescan(self) -> None:
        self.rescans += 1

    def shutdown(self, keep_workers: bool, hurry: bool = False) -> None:
        self.ended.append((keep_workers, hurry))

    def report(self) -> dict[str, Any]:
        return {
            "launcher": {"pid": 10},
            "controller": {"pid": 11, "startedAt": "2026-11-23T18:00:00.000Z", "restarts": 0},
            "state": str(self.directory),
            "sources": [{"path": "/srv/manifests", "lastAttempted": "a", "lastApplied": "a", "error": ""}],
            "pools": {"web": {"replicas": 2, "readyReplicas": 1, "ready": False}},
            "problems": ["pool/web: CrashLoop: worker/web-1 \x1b[31mcrashes"],
        }

    def written_before(self, files: Sequence[LogFile], since_s: float) -> dict[str, int]:
        return {}

    def logs(self, key: Key, previous: bool = False) -> list[LogFile]:
        if key not in self.files:
            raise NotFound(f"{key} has no output")
        return self.files[key]

    # what tests put there

    def add_pool(self, name: str, replicas: int = 2, tasks: bool = False, queue_limit: int = 1000) -> Pool:
        spec = PoolSpec(
            replicas=replicas,
            template=Template() if tasks else Template(command=["sleep", "1000"]),
            tasks=Tasks(queue_limit=queue_limit) if tasks else None,
        )
        created = self.store.create(Pool(metadata=Metadata(name=name), spec=spec))
        self.store.commit()
        assert isinstance(created, Pool)
        return created

    def add_worker(self, pool: str, ordinal: int, **status: Any) -> Worker:
        worker = Worker(
            metadata=Metadata(name=f"{pool}-{ordinal}", owner=f"pool/{pool}"),
            spec=WorkerSpec(pool=pool, ordinal=ordinal, template_hash="abc"),
            status=WorkerStatus(**status),
        )
        created = self.store.create(worker)
        self.store.commit()
        assert isinstance(created, Worker)
        return created

    def make_ready(self, name: str) -> None:
        pool = self.store.get(Pool, name)
        assert pool is not None
        ready = Condition(type="Ready", status=Status.TRUE, reason="AllReady", last_transition_time=NOW)
        status = PoolStatus(
            observed_generation=pool.metadata.generation,
            replicas=pool.spec.replicas,
            ready_replicas=pool.spec.replicas,
            available_replicas=pool.spec.replicas,
            updated_replicas=pool.spec.replicas,
            conditions=(ready,),
        )
        self.store.set_status(pool.key, status)
        self.store.commit()
        self.wake()

    def end_task(self, number: int, state: TaskState = TaskState.SUCCEEDED, **fields: Any) -> None:
        record = self.store.tasks.get(number)
        assert record is not None
        record.state, record.finished_ms, record.attempts = state, to_ms(NOW), 1
        for name, value in fields.items():
            setattr(record, name, value)
        self.store.tasks.stage(record)
        self.store.commit()
        self.wake()

    def write(self, key: Key, name: str, data: bytes) -> Path:
        """Output of `key` in a file of its own, newest last."""
        path = self.directory / name
        path.write_bytes(data)
        self.files.setdefault(key, []).append(LogFile(str(path), True))
        return path


class Served:
    """The daemon and the thread it lives in."""

    def __init__(self, directory: Path) -> None:
        self.state = directory
        (directory / "run").mkdir(mode=0o700)
        self.path = directory / "run" / "api.sock"
        self.daemon = SmallDaemon(directory)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(str(self.path))
        self._sock.listen(64)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._serving: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(60)

    def _run(self) -> None:
        app = create_app(self.daemon, FixedClock())
        self._serving = self._loop.create_task(serve(app, self._sock, self._ready.set))
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._serving)
        self._loop.close()

    def stop(self) -> None:
        if self._thread.is_alive():
            assert self._serving is not None
            self._loop.call_soon_threadsafe(self._serving.cancel)
            self._thread.join(60)
        assert not self._thread.is_alive()

    def restart(self) -> None:
        """As when a controller dies and the next one takes over the launcher's socket."""
        kept = self._sock.dup()
        self.stop()
        self._sock = kept
        self.start()

    def within(self, call: Callable[[], T]) -> T:
        """Runs it on the daemon's own thread."""

        async def inner() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(inner(), self._loop).result(60)

    def client(self) -> Client:
        return Client(str(self.path))

    def until(self, holds: Callable[[], bool], deadline_s: float = 30) -> None:
        """Waits for a condition of the daemon."""
        end_s = time.monotonic() + deadline_s
        while not self.within(holds):
            assert time.monotonic() < end_s, "in vain"

    def raw(self, data: bytes, timeout_s: float = 60) -> bytes:
        """What comes back for these very bytes, up to the end of the connection or of one answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(timeout_s)
            sock.connect(str(self.path))
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all sent
                sock.sendall(data)
            return b"".join(answer(sock))


def answer(sock: socket.socket) -> Iterator[bytes]:
    """The blocks of one answer, or all up to the end of the connection."""
    got = b""
    while True:
        try:
            block = sock.recv(1 << 16)
        except ConnectionResetError:
            return
        if not block:
            return
        got += block
        yield block
        head, found, body = got.partition(b"\r\n\r\n")
        if found and b"content-length: " in head.lower():
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(body) >= length:
                return


@contextmanager
def served(directory: Path) -> Iterator[Served]:
    """A daemon that answers until the end of the block."""
    os.chmod(directory, 0o700)
    house = Served(directory)
    house.start()
    try:
        yield house
    finally:
        house.stop()


READY = WorkerStatus(state=State.READY, ready=True, pid=4242, instance="u.1")

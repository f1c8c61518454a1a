"""Output files are kept small, and one that is silent costs nothing until it is written to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from reconciler.backends import logs
from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Logs, Pool, PoolSpec, Template
from reconciler.resources.worker import Process, Worker, WorkerSpec, WorkerStatus
from reconciler.runtime.queues import Queues
from reconciler.runtime.rotation import SILENT_S, Rotation
from reconciler.store.memory import MemoryStore
from tests.sim.timeline import BEGIN

SMALL = Logs().changed(max_size_bytes=8192, max_files=2)


class Time:
    """Stands still between two looks."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> object:
        return BEGIN

    def monotonic(self) -> float:
        return self.at

    def wall_ahead_ms(self) -> int:
        return 0


class House:
    """One worker that is up, its output file, and who keeps it small."""

    def __init__(self, root: Path) -> None:
        self.store, self.time = MemoryStore(lambda: BEGIN), Time()
        pool = PoolSpec(replicas=1, template=Template(command=["serve"], logs=SMALL))
        self.store.create(Pool(metadata=Metadata(name="web"), spec=pool))
        worker = WorkerSpec(pool="web", ordinal=0, template_hash="1")
        status = WorkerStatus(process=Process.UP, instance="0000abcd.1")
        self.store.create(Worker(metadata=Metadata(name="web-0", owner="pool/web"), spec=worker, status=status))
        self.rotation = Rotation(self.store, Queues(self.store.tasks, "1"), root, self.time)  # type: ignore[arg-type]
        self.log = root / "w" / "0000abcd.1.log"
        self.log.parent.mkdir()

    def write(self, count: int) -> None:
        with self.log.open("ab") as file:
            file.write(b"x" * count)

    async def look(self, after_s: float = 1.0) -> None:
        self.time.at += after_s
        await asyncio.sleep(0)  # what the kernel has to say is heard
        await asyncio.sleep(0)
        await self.rotation.look()

    @property
    def parts(self) -> int:
        return len(logs.parts(str(self.log)))


def story(root: Path, tell: Callable[[House], Awaitable[None]]) -> None:
    async def run() -> None:
        await tell(House(root))

    asyncio.run(run())


def test_a_file_that_grows_is_rotated_at_the_next_look(tmp_path: Path) -> None:
    async def tell(house: House) -> None:
        house.write(100)
        await house.look()
        house.write(20_000)
        await house.look()
        assert house.parts == 2 and house.log.stat().st_size <= SMALL.max_size_bytes

    story(tmp_path, tell)


def test_a_silent_file_that_is_flooded_is_rotated_at_the_next_second(tmp_path: Path) -> None:
    async def tell(house: House) -> None:
        house.write(100)
        for _ in range(5):
            await house.look()
        house.write(20_000)
        await house.look()
        assert house.parts == 2

    story(tmp_path, tell)


def test_a_silent_file_is_not_looked_at_until_a_minute_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    rotate = Rotation._rotate
    monkeypatch.setattr(Rotation, "_rotate", lambda self, *words: (looked.append(1), rotate(self, *words))[1])

    async def tell(house: House) -> None:
        house.write(100)
        await house.look()
        await house.look()
        looked.clear()
        for _ in range(10):
            await house.look()
        assert not looked
        await house.look(SILENT_S)
        assert len(looked) == 1

    story(tmp_path, tell)


def test_where_nothing_can_be_watched_a_silent_file_is_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("reconciler.runtime.rotation.Inotify", none_left)

    async def tell(house: House) -> None:
        house.write(100)
        for _ in range(8):
            await house.look()
        house.write(20_000)
        await house.look(16.0)
        assert house.parts == 2

    story(tmp_path, tell)


def test_a_smaller_limit_holds_for_a_silent_file_too(tmp_path: Path) -> None:
    async def tell(house: House) -> None:
        house.write(8000)
        for _ in range(3):
            await house.look()
        pool = house.store.get(Pool, "web")
        assert pool is not None
        smaller = pool.spec.template.changed(logs=Logs().changed(max_size_bytes=4096, max_files=2))
        house.store.update(pool.changed(spec=pool.spec.changed(template=smaller)))
        await house.look()
        assert house.parts == 2

    story(tmp_path, tell)


def test_what_cannot_be_rotated_is_a_problem_until_it_can(tmp_path: Path) -> None:
    async def tell(house: House) -> None:
        house.write(20_000)
        blocked = Path(f"{house.log}.new")
        blocked.mkdir()
        await house.look()
        assert "cannot be rotated: EISDIR" in house.rotation.problems[0]
        blocked.rmdir()
        await house.look(2.0)
        assert house.rotation.problems == [] and house.parts == 2

    story(tmp_path, tell)

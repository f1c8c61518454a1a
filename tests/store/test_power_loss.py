"""The power goes, or the disk fails, at every single step of the store's own work.

    store -> SQLite -> Disk (records each step) -> real files
    images(steps) -> for each step the files as they may be when the power goes right after it

    none    only what was synced         subset  some of the rest, each write by itself
    all     everything                   torn    as subset, one write cut at a multiple of 512 bytes

Names in the directory become durable with the first sync of a new file, for then SQLite syncs the directory.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

from reconciler.clock import Clock
from reconciler.errors import StoreBroken
from reconciler.resources.event import event
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker, WorkerSpec, WorkerStatus
from reconciler.store.base import StoreFull, TaskRecord
from reconciler.store.sqlite import SqliteStore

Step = tuple[str, int, int, bytes]
"""What (`write`, `truncate`, `sync`, `link`, `unlink`), which file, offset or size, bytes or name."""

_numbers = itertools.count()


class Disk(apsw.VFS):
    """Records every step of every file; `fails` may answer a step with a result code of SQLite."""

    def __init__(self, fails: Callable[[str], int] = lambda what: 0) -> None:
        self.vfs = f"disk-{next(_numbers)}"
        self.steps: list[Step] = []
        self.names: dict[str, int] = {}
        self.fails = fails
        super().__init__(self.vfs, "")

    def step(self, what: str, file: int, at: int = 0, data: bytes = b"") -> None:
        code = self.fails(what)
        if code:
            raise apsw.exception_for(code)
        self.steps.append((what, file, at, data))

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        opened = File(self, name, flags, os.path.basename(path))
        return opened

    def xDelete(self, name: str, sync_directory: bool) -> None:
        self.step("unlink", self.names.pop(os.path.basename(name), -1), 0, os.path.basename(name).encode())
        super().xDelete(name, sync_directory)

    def link(self, name: str) -> int:
        """The number of the file of that name; a new one where there is none."""
        if name not in self.names:
            self.names[name] = next(_numbers)
            self.steps.append(("link", self.names[name], 0, name.encode()))
        return self.names[name]


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int], base: str) -> None:
        super().__init__("", name, flags)
        self.disk, self.number = disk, disk.link(base)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.step("write", self.number, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self.disk.step("truncate", self.number, size)
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        self.disk.step("sync", self.number)  # the real disk need not be bothered


class RecordedStore(SqliteStore):
    """The store as it is, on that disk; `synchronous` may be weakened to see that the test would notice."""

    def __init__(self, directory: Path, clock: Clock, disk: Disk, synchronous: str = "FULL") -> None:
        self.disk, self.synchronous = disk, synchronous
        super().__init__(directory, clock)

    def _connect(self, mode: str) -> Any:
        connection = Connection(self._path, mode, self.disk.vfs, self.synchronous)
        self._connections.append(connection)
        return connection


class Connection:
    """What the store uses of a sqlite3.Connection, by apsw."""

    def __init__(self, path: Path, mode: str, vfs: str, synchronous: str) -> None:
        self.synchronous = synchronous
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        self.db = _told(apsw.Connection, f"{path.as_uri()}?mode={mode}&vfs={vfs}", flags=flags)

    @property
    def in_transaction(self) -> bool:
        return bool(self.db.in_transaction)

    def execute(self, sql: str, values: Any = ()) -> Rows:
        return Rows(_told(lambda: list(self.db.execute(sql.replace("=FULL", f"={self.synchronous}"), values))))

    def executemany(self, sql: str, values: Any) -> None:
        _told(lambda: list(self.db.executemany(sql, values)))

    def close(self) -> None:
        with contextlib.suppress(apsw.Error):  # closing succeeds; apsw tells what SQLite has passed over
            self.db.close()


class Rows(list[Any]):
    def fetchall(self) -> list[Any]:
        return self

    def fetchone(self) -> Any:
        return self[0] if self else None


def _told(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """The call, with its error as the standard library's sqlite3 would raise it."""
    try:
        return call(*args, **named)
    except apsw.Error as error:
        told = sqlite3.OperationalError(str(error))
        told.sqlite_errorcode = error.extendedresult
        raise told from error


def images(steps: list[Step], seed: int) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """For every step what may be left when the power goes right after it: (steps done, how, content by name)."""
    rng = random.Random(seed)
    durable: dict[int, bytes] = {}
    pending: dict[int, list[Step]] = {}
    names: dict[str, int] = {}
    renamed: list[Step] = []  # changes of the directory that are not durable yet
    for done, step in enumerate(steps, 1):
        what, file, _, _ = step
        if what in ("link", "unlink"):
            renamed.append(step)
        elif what == "sync":
            durable[file] = _written(durable.get(file, b""), pending.pop(file, []))
            if any(change[0] == "link" and change[1] == file for change in renamed):
                names = _named(names, renamed)
                renamed = []
        else:
            pending.setdefault(file, []).append(step)
        for how in ("none", "all", "subset", "torn"):
            kept = {"none": 0, "all": len(renamed)}.get(how, rng.randint(0, len(renamed)))
            content = {}
            for name, number in _named(names, renamed[:kept]).items():
                some = pending.get(number, [])
                if how == "none":
                    some = []
                elif how != "all":
                    some = [one for one in some if rng.random() < 0.5]
                    if how == "torn" and some:
                        some.append(_torn(some.pop(), rng))
                content[name] = _written(durable.get(number, b""), some)
            yield done, how, content


def _named(names: dict[str, int], changes: list[Step]) -> dict[str, int]:
    names = dict(names)
    for what, file, _, name in changes:
        if what == "link":
            names[name.decode()] = file
        else:
            names.pop(name.decode(), None)
    return names


def _written(content: bytes, steps: list[Step]) -> bytes:
    image = bytearray(content)
    for what, _, at, data in steps:
        if what == "truncate":
            del image[at:]
        else:
            image.extend(bytes(max(0, at - len(image))))
            image[at : at + len(data)] = data
    return bytes(image)


def _torn(step: Step, rng: random.Random) -> Step:
    what, file, at, data = step
    return (what, file, at, data[: 512 * rng.randint(0, len(data) // 512)])


TABLES = ("meta", "object", "event", "task")
Snapshot = dict[str, list[Any]]


class Story:
    """A little of everything a store does; notes what was acknowledged, when, and how the tables stood then."""

    def __init__(self, open_: Callable[[], SqliteStore], now: Callable[[], datetime], turns: int) -> None:
        self.open, self.now, self.turns = open_, now, turns
        self.store: SqliteStore | None = None
        self.acknowledged: list[tuple[int, int]] = []  # (steps of the disk until then, revision)
        self.tables: dict[int, Snapshot] = {}
        self.refusals = 0

    def tell(self, steps: list[Step]) -> None:
        """Raises StoreBroken where the disk fails for good."""
        self.store = self.open()
        for turn in range(self.turns):
            self._turn(self.store, turn)
            for _ in range(3):
                try:
                    self.store.commit()
                    break
                except StoreFull:
                    self.refusals += 1
            else:
                return
            self.acknowledged.append((len(steps), self.store.revision))
            self.tables[self.store.revision] = _tables(lambda sql: self.store.read(sql))
            if turn % 7 == 3:
                self.store.idle()
            if turn == self.turns * 2 // 3:
                self.store.close()
                self.store = self.open()

    def _turn(self, store: SqliteStore, turn: int) -> None:
        name = f"web-{turn % 4}"
        worker = store.get(Worker, name)
        if worker is None:
            metadata = Metadata(name=name, owner="pool/web")
            spec = WorkerSpec(pool="web", ordinal=turn % 4, template_hash="h")
            store.create(Worker(metadata=metadata, spec=spec))
        elif turn % 5 == 0:
            store.remove(worker.key)
        else:
            store.set_status(worker.key, WorkerStatus(pid=turn, message="m" * 50 * turn))
        store.add_event(event(Key("Worker", name), "Turned", f"turn {turn % 3}", self.now()))
        for task in store.tasks.live():
            task.state = TaskState.RUNNING if task.state is TaskState.PENDING else TaskState.SUCCEEDED
            task.attempts = 1
            store.tasks.stage(task)
        number = store.tasks.next_id()
        spec_json = '{"payload":"' + "x" * (turn % 4 * 3000) + '"}'
        store.tasks.stage(TaskRecord(number, "batch", TaskState.PENDING, 1, 3, spec_json, idempotency_key=f"k{turn}"))


def _tables(read: Callable[[str], list[Any]]) -> Snapshot:
    return {table: read(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


class Judged(NamedTuple):
    """What became of the images."""

    images: int
    corrupt: int
    lost: int
    mixed: int


def _judge(steps: list[Step], story: Story, directory: Path, every: int = 1) -> Judged:
    """Opens the images with the SQLite the product uses; counts those that are not a moment the store has been in."""
    number = corrupt = lost = mixed = 0
    for done, _, content in images(steps, seed=7):
        if done % every:
            continue
        number += 1
        for old in directory.iterdir():
            old.unlink()
        for name, data in content.items():
            (directory / name).write_bytes(data)
        promised = max((revision for at, revision in story.acknowledged if at <= done), default=0)
        db = sqlite3.connect(directory / "store.db")
        try:
            sound = db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            known = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").fetchone()[0]
            found = db.execute("SELECT revision FROM meta").fetchone()[0] if known else 0
            corrupt += not sound
            lost += found < promised
            mixed += found > 0 and _tables(lambda sql, db=db: db.execute(sql).fetchall()) != story.tables[found]
        except sqlite3.DatabaseError:
            corrupt += 1
        finally:
            db.close()
    return Judged(number, corrupt, lost, mixed)


@pytest.fixture
def ramdisk() -> Iterator[Path]:
    """Where thousands of images are written: in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


def _record(tmp_path, clock, synchronous: str) -> tuple[Disk, Story]:
    disk = Disk()
    story = Story(lambda: RecordedStore(tmp_path, clock, disk, synchronous), clock.now, turns=24)
    story.tell(disk.steps)
    story.store.close()
    return disk, story


def test_fault_C10_C29_power_loss_at_any_step_costs_nothing_acknowledged(tmp_path, ramdisk, clock):
    """I2, from the first migration to the last close."""
    disk, story = _record(tmp_path, clock, "FULL")
    judged = _judge(disk.steps, story, ramdisk)

    assert judged.images > 1000
    assert judged[1:] == (0, 0, 0)


def test_power_loss_images_are_opened_by_the_store_itself(tmp_path, ramdisk, clock):
    disk, story = _record(tmp_path, clock, "FULL")
    for at, revision in story.acknowledged:
        for done, how, content in images(disk.steps[:at], seed=at):
            if done < at:
                continue
            left = ramdisk / f"{at}-{how}"
            left.mkdir()
            for name, data in content.items():
                (left / name).write_bytes(data)
            store = SqliteStore(left, clock)
            assert store.revision == revision
            store.close()
            shutil.rmtree(left)


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_the_images_show_it_when_the_log_is_not_synced(tmp_path, ramdisk, clock, synchronous):
    """A control: with less than FULL this test must find what is lost."""
    disk, story = _record(tmp_path, clock, synchronous)
    judged = _judge(disk.steps, story, ramdisk, every=5)

    assert judged.lost > 20
    assert (judged.corrupt + judged.mixed > 0) is (synchronous == "OFF")


FAILURES = {
    "write": (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_FULL, apsw.SQLITE_READONLY),
    "sync": (apsw.SQLITE_IOERR_FSYNC,),
    "truncate": (apsw.SQLITE_IOERR_TRUNCATE,),
}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("what", FAILURES)
def test_fault_C8_C9_C10_a_failing_disk_neither_corrupts_nor_loses_nor_invents(tmp_path, ramdisk, clock, what, lasting):
    """Every write, sync and truncation fails in turn, once or from then on."""
    total = _steps_of(what, ramdisk, clock)
    assert total > (0 if what == "truncate" else 15)
    seen: set[str] = set()
    codes = FAILURES[what]
    for first, code in enumerate(codes, 1):
        for nth in range(first, total + 1, len(codes)):
            seen.add(_fail(ramdisk / f"{code}-{nth}", clock, what, nth, code, lasting))
    assert seen <= {"went on", "full", "broken"}
    assert "broken" in seen
    assert ("full" in seen) is (what == "write")


def _steps_of(what: str, directory: Path, clock) -> int:
    disk = Disk()
    story = Story(lambda: RecordedStore(directory / "dry", clock, disk), clock.now, turns=9)
    story.tell(disk.steps)
    story.store.close()
    return sum(1 for step in disk.steps if step[0] == what)


def _on_disk(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in ("store.db", "store.db-wal")}


def _fail(directory: Path, clock, what: str, nth: int, code: int, lasting: bool) -> str:
    left = nth

    def fails(step: str) -> int:
        nonlocal left
        if step != what:
            return 0
        left -= 1
        return code if left == 0 or (left < 0 and lasting) else 0

    disk = Disk(fails)
    story = Story(lambda: RecordedStore(directory, clock, disk), clock.now, turns=9)
    outcome = "went on"
    try:
        story.tell(disk.steps)
        if len(story.acknowledged) < story.turns:
            outcome = "full"
    except StoreBroken:
        outcome = "broken"
    except StoreFull:
        outcome = "full"
    if story.store is not None:
        found = _on_disk(directory)
        story.store.close()
        if outcome == "broken":
            assert _on_disk(directory) == found, "closing has written something"

    promised = story.acknowledged[-1][1] if story.acknowledged else 0
    store = SqliteStore(directory, clock)
    assert store._writer.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    if outcome == "broken":
        assert store.revision >= promised  # the kernel may have kept what nobody was told of
    else:
        assert store.revision == promised
    if store.revision == promised and promised:
        assert _tables(store.read) == story.tables[promised]
    store.close()
    return outcome

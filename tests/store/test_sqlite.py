"""The durable store on a real disk: what outlives what, and what each failure of the disk leads to."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.errors import Conflict, StoreBroken
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker
from reconciler.store import lock, sqlite, tasktable
from reconciler.store.base import StoreFull
from reconciler.store.schema import MIGRATIONS
from reconciler.store.sqlite import BALLAST_BYTES, filesystem

WEB = Key("Pool", "web")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs CAP_SYS_ADMIN, to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_what_was_committed_is_there_after_a_start(tmp_path, clock, make, opened):
    store = opened(tmp_path)
    store.create(make.pool(replicas=2))
    store.create(make.worker())
    store.set_status(WEB, PoolStatus(replicas=1))
    store.add_event(event(WEB, "Said", "hello", clock.now()))
    make.task(store, key="k")
    store.commit()
    before = (store.id, store.revision, store.get(Pool, "web"), store.owned_by(WEB, Worker), store.events())
    store.close()

    store = opened(tmp_path)
    assert (store.id, store.revision, store.get(Pool, "web"), store.owned_by(WEB, Worker), store.events()) == before
    (task,) = store.tasks.live()
    assert (task.id, task.state, task.spec) == (1, TaskState.PENDING, None)
    assert store.tasks.specs([1]) == {1: '{"number":1}'}
    assert store.tasks.get(1).spec == '{"number":1}'
    assert store.tasks.next_id() == 2


def test_what_was_not_committed_is_not_there_after_a_start(tmp_path, make, opened):
    store = opened(tmp_path)
    store.create(make.pool())
    store.close()

    assert opened(tmp_path).get(Pool, "web") is None


def test_what_was_removed_stays_removed(tmp_path, make, opened):
    store = opened(tmp_path)
    store.create(make.pool())
    store.create(make.worker())
    store.commit()
    store.remove(WEB)
    store.commit()
    store.close()

    store = opened(tmp_path)
    assert (store.all(Pool), len(store.all(Worker))) == ([], 1)


@pytest.mark.parametrize("column", tasktable._MUTABLE[1:])
def test_a_waiting_task_comes_back_with_everything_that_was_noted_of_it(tmp_path, make, opened, column):
    store = opened(tmp_path)
    fresh, task = make.task(store), make.task(store)
    store.commit()
    told = {
        "signal": "SIGTERM",
        "reason": "Signalled",
        "message": "m",
        "cancelling": True,
        "result": "1",
        "tries": "[]",
    }.get(column, 7)
    setattr(task, column, told)
    store.tasks.stage(task)
    store.commit()
    store.close()

    found = {one.id: getattr(one, column) for one in opened(tmp_path).tasks.live()}
    assert found == {fresh.id: getattr(fresh, column), task.id: told}


def test_an_ended_task_takes_no_memory(tmp_path, make, opened):
    store = opened(tmp_path)
    task = make.task(store, key="k", state=TaskState.RUNNING)
    store.commit()
    task.state = TaskState.SUCCEEDED
    store.tasks.stage(task)
    store.commit()

    tasks = store.tasks
    assert not (tasks._live or tasks._states or tasks._keys or tasks._ended or tasks._new or tasks._changed)


def test_nobody_else_can_read_the_store(tmp_path, make, opened):
    store = opened(tmp_path)
    make.task(store)
    store.commit()

    assert {path.name: path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == dict.fromkeys(
        ("store.lock", "store.db", "store.db-wal", "store.db-shm", "ballast"), 0
    )


def test_the_event_that_was_counted_replaces_the_one_on_disk(tmp_path, clock, opened):
    store = opened(tmp_path)
    for _ in range(3):
        store.add_event(event(WEB, "Said", "hello", clock.now()))
        store.commit()
    store.close()

    store = opened(tmp_path)
    store.add_event(event(WEB, "Said", "hello", clock.now()))
    assert [one.count for one in store.events()] == [4]


def test_a_failed_callback_does_not_undo_a_commit(tmp_path, make, opened):
    store = opened(tmp_path)
    store.on_commit(lambda changes: 1 / 0)
    store.create(make.pool())
    with pytest.raises(ZeroDivisionError):
        store.commit()

    assert not store.staged
    store.close()
    assert opened(tmp_path).get(Pool, "web") is not None


def test_a_number_of_a_task_is_never_given_again(tmp_path, make, opened):
    store = opened(tmp_path)
    make.task(store)
    make.task(store)
    store.commit()
    store._writer.execute("DELETE FROM task")
    store.close()

    assert opened(tmp_path).tasks.next_id() == 3


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        (tasktable._QUERY, "task_by_state (pool=? AND state=? AND rowid>?)"),
        (tasktable._BY_KEY, "task_by_key (pool=? AND idempotency_key=?)"),
        (tasktable._SELECT_LIVE, "task_by_state (pool=? AND state=?)"),
        (f"{tasktable._SELECT_TRIED} WHERE id IN (?)", "INTEGER PRIMARY KEY (rowid=?)"),
        (tasktable._UPDATE, "INTEGER PRIMARY KEY (rowid=?)"),
        ("SELECT pool, state, count(*) FROM task GROUP BY pool, state", "COVERING INDEX task_by_state"),
    ],
)
def test_every_query_of_tasks_goes_by_an_index(tmp_path, opened, sql, index):
    store = opened(tmp_path)
    plan = "\n".join(row[3] for row in store._reader.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")))

    assert index in plan
    assert "TEMP B-TREE" not in plan


def test_fault_T1_a_key_is_in_the_table_once(tmp_path, make, opened):
    """The caller looks with by_key first; the table has the last word."""
    store = opened(tmp_path)
    make.task(store, key="k")
    make.task(store, pool="other", key="k")
    store.commit()
    assert store.tasks.by_key("batch", "k").id == 1

    make.task(store, key="k")
    with pytest.raises(StoreBroken, match="UNIQUE constraint failed"):
        store.commit()


def test_fault_T2_what_was_submitted_under_a_key_can_be_compared(tmp_path, make, opened):
    store = opened(tmp_path)
    task = make.task(store, key="k")
    task.digest = "d1"
    store.tasks.stage(task)
    store.commit()
    store.close()

    store = opened(tmp_path)
    assert store.tasks.by_key("batch", "k").digest == "d1"
    ended = store.tasks.get(1)
    ended.state = TaskState.SUCCEEDED
    store.tasks.stage(ended)
    store.commit()
    store.close()
    assert opened(tmp_path).tasks.by_key("batch", "k").digest == "d1"


SUBMIT = """
import sys
from reconciler.clock import SystemClock
from reconciler.resources.task import TaskState
from reconciler.store.base import TaskRecord
from reconciler.store.sqlite import SqliteStore

store = SqliteStore(sys.argv[1], SystemClock())
if store.tasks.by_key("batch", "k") is None:
    store.tasks.stage(TaskRecord(store.tasks.next_id(), "batch", TaskState.PENDING, 1, 3, "{}", idempotency_key="k"))
    store.commit()
print("acknowledged", store.tasks.by_key("batch", "k").id)
"""


@pytest.mark.parametrize(
    ("point", "there"), [("controller.before-commit:2", False), ("controller.after-commit:2", True)], ids=["T4", "T3"]
)
def test_fault_T3_T4_a_crash_around_the_commit_leaves_all_or_nothing(tmp_path, opened, point, there):
    """The first passing makes the tables, the second is the task's."""
    submit = [sys.executable, "-c", SUBMIT, str(tmp_path)]
    died = subprocess.run(submit, env={**os.environ, "RECONCILER_CRASH_AT": point}, capture_output=True, text=True)
    assert (died.returncode, died.stdout) == (137, "")

    store = opened(tmp_path)
    assert (store.tasks.by_key("batch", "k") is not None) is there
    store.close()
    again = subprocess.run(submit, capture_output=True, text=True)
    assert again.stdout == "acknowledged 1\n"


def test_fault_T5_an_end_that_is_told_twice_is_stored_once(tmp_path, make, opened):
    store = opened(tmp_path)
    task = make.task(store)
    store.commit()
    task.state = TaskState.SUCCEEDED
    store.tasks.stage(task)
    store.tasks.stage(task)
    store.commit()

    assert list(store.tasks.live()) == []
    assert [one.state for one in store.tasks.query()] == [TaskState.SUCCEEDED]


def _fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return


def test_fault_C8_a_full_disk_keeps_everything_staged_and_mends_by_itself(small_disk, make, opened):
    store = opened(small_disk)
    store.create(make.pool())
    running = make.task(store, state=TaskState.RUNNING)
    store.commit()
    _fill(small_disk)

    def end(number: int) -> None:
        store.set_status(WEB, PoolStatus(replicas=number))

    with pytest.raises(StoreFull) as full:
        for number in range(3000):
            end(number)
            make.task(store)
            store.commit()
    assert "make room" in full.value.help
    assert store.staged
    assert not (small_disk / "ballast").exists()
    assert store.tasks.query(limit=1)[0].id == running.id  # what is there can be read

    acknowledged = max(task.id for task in store.tasks.query(limit=10_000))
    (refused,) = store.tasks.drop_new()
    assert refused.id == acknowledged + 1
    running.state = TaskState.SUCCEEDED
    store.tasks.stage(running)
    store.commit()  # in the ballast's room: no end is lost though the disk is full

    with pytest.raises(StoreFull):
        for number in range(30_000):
            end(number + 10_000)
            store.commit()
    (small_disk / "filler").unlink()
    store.commit()
    store.idle()
    assert os.stat(small_disk / "ballast").st_size == BALLAST_BYTES
    last = (store.revision, store.get(Pool, "web").status)
    store.close()

    store = opened(small_disk)
    assert (store.revision, store.get(Pool, "web").status) == last
    assert store.tasks.get(running.id).state is TaskState.SUCCEEDED
    assert store.tasks.get(acknowledged) is not None and store.tasks.get(refused.id) is None


def test_fault_C8_a_disk_without_room_for_a_store_says_so(small_disk, opened):
    _fill(small_disk)
    with pytest.raises(StoreFull, match="disk"):
        opened(small_disk)

    (small_disk / "filler").unlink()
    opened(small_disk)


def test_fault_C8_a_daemon_can_start_on_a_full_disk(small_disk, make, opened):
    _committed(small_disk, make, opened)
    _fill(small_disk)

    store = opened(small_disk)
    assert not (small_disk / "ballast").exists()
    store.remove(Key("Worker", "web-0"))
    store.commit()


def test_fault_C9_a_store_on_a_read_only_disk_is_not_opened_and_not_damaged(small_disk, make, opened):
    store = opened(small_disk)
    store.create(make.pool())
    store.commit()
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreFull, match="Read-only file system"):
        opened(small_disk)

    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert opened(small_disk).get(Pool, "web") is not None


def test_fault_C16_a_reboot_is_known_until_something_is_committed(tmp_path, make, opened):
    store = opened(tmp_path)
    store.create(make.pool())
    store.commit()
    assert not store.rebooted
    store._writer.execute("UPDATE meta SET boot_id = 'the boot before'")
    store.close()

    for _ in range(2):  # a start that comes to nothing forgets nothing
        store = opened(tmp_path)
        assert store.rebooted
        store.close()
    store = opened(tmp_path)
    store.remove(WEB)
    store.commit()
    assert not store.rebooted
    store.close()
    assert not opened(tmp_path).rebooted


def _committed(directory, make, opened) -> Path:
    """A closed store with something in it; returns its file."""
    store = opened(directory)
    for ordinal in range(200):
        store.create(make.worker(ordinal=ordinal))
        make.task(store)
    store.commit()
    store.close()
    return directory / "store.db"


@pytest.mark.parametrize("what", ["header", "page", "cut", "text"])
def test_fault_C17_a_damaged_file_is_refused_and_left_as_it_is(tmp_path, make, opened, what):
    path = _committed(tmp_path, make, opened)
    whole = path.read_bytes()
    root = sqlite3.connect(path).execute("SELECT rootpage FROM sqlite_master WHERE name = 'object'").fetchone()[0]
    page = (root - 1) * 4096
    damaged = {
        "header": bytes(100) + whole[100:],
        "page": whole[:page] + b"\xa5" * 4096 + whole[page + 4096 :],
        "cut": whole[: len(whole) // 2],
        "text": b"apiVersion: reconciler/v1\n" * 300,
    }[what]
    path.write_bytes(damaged)

    with pytest.raises(StoreBroken) as broken:
        opened(tmp_path)
    assert str(path) in broken.value.message
    assert "restore a backup" in broken.value.help
    assert path.read_bytes() == damaged


def test_fault_C17_damage_found_at_work_ends_the_use_of_the_file(tmp_path, make, opened):
    store = opened(tmp_path)
    make.task(store)
    store.commit()
    store.idle()
    with (tmp_path / "store.db").open("r+b") as file:  # by another program, after everything was checked
        file.seek(4096)
        file.write(b"\xa5" * (os.stat(tmp_path / "store.db").st_size - 4096))
    store._writer.execute("PRAGMA shrink_memory")  # so that it reads again
    for _ in range(2):
        make.task(store)
        with pytest.raises(StoreBroken):
            store.commit()
    damaged = (tmp_path / "store.db").read_bytes()
    store.close()
    assert (tmp_path / "store.db").read_bytes() == damaged


@pytest.mark.parametrize("name", ["store.db", "store.db-wal", "store.lock"])
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_fault_C18_a_file_taken_away_is_noticed_before_anything_is_acknowledged(tmp_path, make, opened, name, how):
    store = opened(tmp_path)
    store.create(make.pool())
    store.commit()
    store.heartbeat()
    if how == "replaced":
        shutil.copyfile(tmp_path / name, tmp_path / "copy")
        os.replace(tmp_path / "copy", tmp_path / name)
    else:
        (tmp_path / name).unlink()
    published = []
    store.on_commit(published.append)

    store.create(make.pool("api"))
    with pytest.raises(StoreBroken, match=f"{name} was {how} while it was in use"):
        store.commit()
    with pytest.raises(StoreBroken):
        store.heartbeat()
    assert published == []


def test_fault_C18_a_store_that_is_gone_is_not_begun_anew(tmp_path, make, opened):
    """An empty store would start every worker a second time."""
    _committed(tmp_path, make, opened).unlink()
    with pytest.raises(StoreBroken, match=r"is missing or empty, but store [0-9a-f]{8} was there"):
        opened(tmp_path)

    (tmp_path / "store.lock").unlink()
    assert opened(tmp_path).all(Worker) == []


def test_fault_C20_the_log_is_shortened_when_there_is_time(tmp_path, make, opened):
    store = opened(tmp_path)
    for _ in range(20):
        make.task(store)
        store.commit()
        store.tasks.query()
    wal = tmp_path / "store.db-wal"
    assert os.stat(wal).st_size > 0
    store.idle()
    assert os.stat(wal).st_size == 0


HOLD = """
import sys
from reconciler.clock import SystemClock
from reconciler.store.sqlite import SqliteStore

store = SqliteStore(sys.argv[1], SystemClock())
print("held", flush=True)
sys.stdin.read()
"""


def test_fault_C21_a_second_holder_is_refused_and_told_who_holds(tmp_path, opened):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Conflict, match=f"is in use by process {holder.pid}"):
            opened(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    opened(tmp_path)


def test_fault_C22_neither_a_program_nor_a_fork_keeps_the_lock(tmp_path, opened):
    """The store's own end is simulated by closing what its process would lose with its life."""
    store = opened(tmp_path)
    read, write = os.pipe()
    forked = os.fork()
    if forked == 0:
        os.close(write)
        os.read(read, 1)  # lives until the test ends, with whatever it has inherited
        os._exit(0)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as program:
        try:
            os.close(store._lock_fd)  # without LOCK_UN, as a kill does
            lock._HELD.discard(store._lock_fd)
            store._lock_fd = -1
            store.close()
            opened(tmp_path)
        finally:
            program.kill()
            os.close(write)
            os.close(read)
            os.waitpid(forked, 0)


def test_fault_C22_a_lock_file_that_was_removed_meanwhile_is_not_taken_for_the_lock(tmp_path, opened, monkeypatch):
    flock, removed = lock.fcntl.flock, []

    def removes_it_first(fd, how):
        if not removed:
            removed.append(fd)
            (tmp_path / "store.lock").unlink()
        flock(fd, how)

    monkeypatch.setattr(lock.fcntl, "flock", removes_it_first)
    store = opened(tmp_path)
    assert os.fstat(store._lock_fd).st_ino == os.stat(tmp_path / "store.lock").st_ino


MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:50 / /srv rw - nfs4 server:/srv rw
31 30 0:51 / /srv/local\040disk rw shared:3 master:1 - xfs /dev/sdb rw
32 21 0:52 / /home rw - ext4 /dev/sdc rw
33 32 0:53 / /home rw - cifs //server/home rw
""".strip()


def test_fault_C23_a_network_file_system_is_recognised_and_refused(tmp_path, opened, monkeypatch):
    found = [
        filesystem(Path(path), MOUNTS) for path in ("/var/lib", "/srv/x", "/srv/local disk/x", "/home/me", "/srvx")
    ]
    assert found == ["ext4", "nfs4", "xfs", "cifs", "ext4"]

    here = filesystem(tmp_path, Path("/proc/self/mountinfo").read_text())
    monkeypatch.setattr(sqlite, "NETWORK_FILESYSTEMS", {here})
    with pytest.raises(StoreBroken, match=f"is on {here}: the store needs a local file system"):
        opened(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_fault_C28_a_newer_schema_is_refused_and_nothing_is_written(tmp_path, make, opened):
    path = _committed(tmp_path, make, opened)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()

    with pytest.raises(
        StoreBroken, match=f"has schema {len(MIGRATIONS) + 1}, this version of reconciler knows {len(MIGRATIONS)}"
    ):
        opened(tmp_path)
    assert path.read_bytes() == before


def test_fault_C28_the_log_of_a_newer_store_is_left_alone_too(tmp_path, make, opened):
    live = tmp_path / "live"
    store = opened(live)
    store.create(make.pool())
    store._writer.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    store.commit()
    left = tmp_path / "left"
    left.mkdir()
    before = {}
    for name in ("store.db", "store.db-wal"):
        shutil.copyfile(live / name, left / name)
        before[name] = (left / name).read_bytes()

    with pytest.raises(StoreBroken, match="run the version that wrote it"):
        opened(left)
    assert {name: (left / name).read_bytes() for name in before} == before


def test_tasks_of_the_version_before_priorities_are_kept(tmp_path, opened):
    db = sqlite3.connect(tmp_path / "store.db")
    for statement in (*MIGRATIONS[0], "PRAGMA user_version=1", "INSERT INTO meta VALUES (1, 'abcd1234', 'b', 0, 1)"):
        db.execute(statement)
    old = "INSERT INTO task VALUES (?, 'batch', ?, 5, 3, 0, ?, NULL, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, '', -1, 0, ?)"
    db.execute(old, (1, "Pending", "k", '{"n":1}'))
    db.execute(old, (2, "Succeeded", None, '{"n":2}'))
    db.execute("UPDATE meta SET next_task_id = 3")
    db.commit()
    db.close()

    store = opened(tmp_path)
    waits, done = store.tasks.get(1), store.tasks.get(2)
    assert (waits.state, waits.priority, waits.tenant, waits.deadline_ms) == (TaskState.PENDING, 100, None, 0)
    assert (waits.spec, done.spec, done.state) == ('{"n":1}', '{"n":2}', TaskState.SUCCEEDED)
    assert store.tasks.by_key("batch", "k").id == 1 and store.tasks.counts("batch")[TaskState.SUCCEEDED] == 1


def test_priority_tenant_key_and_deadline_outlive_the_daemon(tmp_path, make, opened):
    store = opened(tmp_path)
    plain, urgent = make.task(store), make.task(store)
    urgent.priority, urgent.tenant, urgent.key, urgent.deadline_ms = 255, "research", "user-7", 99
    store.commit()
    store.close()

    kept = {one.id: (one.priority, one.tenant, one.key, one.deadline_ms) for one in opened(tmp_path).tasks.live()}
    assert kept == {plain.id: (100, None, None, 0), urgent.id: (255, "research", "user-7", 99)}


def test_ended_tasks_are_dropped_by_age_and_by_number_and_are_counted_for_ever(tmp_path, make, opened):
    store = opened(tmp_path)
    for number in range(1, 9):
        task = make.task(store, key=f"k{number}", state=TaskState.SUCCEEDED if number % 2 else TaskState.FAILED)
        task.finished_ms, task.attempts = 1000 * number, 1
    waits = make.task(store)
    store.commit()

    assert [row.id for row in store.tasks.drop("batch", before_ms=2500, keep=100, limit=10)] == [1, 2]
    assert store.tasks.drop("batch", before_ms=9000, keep=0, limit=10) == []  # one batch a commit
    store.commit()
    assert [row.id for row in store.tasks.drop("batch", before_ms=0, keep=3, limit=10)] == [3, 4, 5]
    store.commit()
    store.close()

    after = opened(tmp_path)
    assert [one.id for one in after.tasks.query("batch")] == [6, 7, 8, waits.id]
    counts = after.tasks.counts("batch")
    assert (counts[TaskState.SUCCEEDED], counts[TaskState.FAILED], counts[TaskState.PENDING]) == (4, 4, 1)
    assert after.tasks.by_key("batch", "k1") is None and after.tasks.by_key("batch", "k8").id == 8
    assert after.tasks.drop("batch", before_ms=0, keep=3, limit=10) == []


def test_fault_T11_with_a_million_rows_every_read_of_tasks_goes_by_an_index(tmp_path, make, opened):
    store = opened(tmp_path)
    make.task(store)
    store.commit()
    asked = [
        (tasktable._SELECT + " WHERE id = ?", (1,)),
        (tasktable._QUERY, ("batch", "Failed", 0, 0, 10)),
        (tasktable._OLDEST, ("batch", "Failed", 10)),
        (tasktable._BY_KEY, ("batch", "k")),
        (tasktable._SELECT_LIVE, ("batch", "Pending")),
        (f"{tasktable._SELECT_TRIED} WHERE id IN (?)", (1,)),
    ]
    for sql, values in asked:
        plan = [row[3] for row in store.read(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert plan and all(step.startswith("SEARCH task USING") for step in plan), (sql, plan)


def test_a_database_of_another_program_is_refused(tmp_path, opened):
    db = sqlite3.connect(tmp_path / "store.db")
    db.execute("CREATE TABLE songs (name)")
    db.close()

    with pytest.raises(StoreBroken, match="is a database of another program"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('UPDATE object SET json = replace(json, \'"replicas":2\', \'"replicas":"two"\')', "pool/web cannot be read"),
        ("UPDATE object SET kind = 'Cron'", "Cron/web cannot be read: there is no such kind"),
        ("UPDATE task SET state = 'Napping'", "a task of pool/batch cannot be read: there is no state Napping"),
        ("UPDATE event SET json = '{}'", "event 1 cannot be read"),
    ],
)
def test_fault_C28_what_cannot_be_understood_is_named_and_not_dropped(tmp_path, clock, make, opened, change, words):
    store = opened(tmp_path)
    store.create(make.pool(replicas=2))
    store.add_event(event(WEB, "Said", "hello", clock.now()))
    make.task(store)
    store.commit()
    store._writer.execute(change)
    store.close()

    with pytest.raises(StoreBroken, match=words):
        opened(tmp_path)
    with pytest.raises(StoreBroken, match=words):  # it is still there
        opened(tmp_path)


def test_fault_C29_a_migration_that_fails_changes_nothing(tmp_path, make, opened, monkeypatch):
    path = _committed(tmp_path, make, opened)
    before = path.read_bytes()
    more = ("CREATE TABLE new (a)", "UPDATE object SET json = '{}'", "CREATE TABLE new (a)")
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*MIGRATIONS, more))
    with pytest.raises(StoreBroken, match="table new already exists"):
        opened(tmp_path)

    monkeypatch.undo()
    assert len(opened(tmp_path).all(Worker)) == 200
    assert path.read_bytes()[:4096] == before[:4096]


def test_a_store_that_another_program_locks_waits_and_stays_whole(tmp_path, make, opened, monkeypatch):
    store = opened(tmp_path)
    store._writer.execute("PRAGMA busy_timeout=1")
    store.create(make.pool())
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFull, match="another program holds it"):
        store.commit()

    other.execute("ROLLBACK")
    store.commit()
    assert store.changes_since(0)[0].object.key == WEB


def test_a_scaled_pool_is_read_back_as_it_was_said(tmp_path, make, opened):
    store = opened(tmp_path)
    pool = store.create(make.pool())
    store.update(pool.changed(spec=PoolSpec(replicas=7)))
    store.commit()
    store.close()

    assert opened(tmp_path).get(Pool, "web").spec.replicas == 7


def test_a_list_of_tasks_says_what_runs_now_though_the_disk_says_it_waits(tmp_path, opened, make) -> None:
    store = opened(tmp_path)
    ended, runs, *rest = (make.task(store) for _ in range(4))
    store.commit()
    ended.state = TaskState.SUCCEEDED
    store.tasks.stage(ended)
    store.commit()
    runs.claim = 1
    store.tasks.stage(runs)
    store.commit()
    runs.state, runs.slot = TaskState.RUNNING, 3  # memory only
    states = [(record.id, record.state) for record in store.tasks.query()]
    assert states == [
        (ended.id, TaskState.SUCCEEDED),
        (runs.id, TaskState.RUNNING),
        *((record.id, TaskState.PENDING) for record in rest),
    ]
    assert [record.id for record in store.tasks.query(state=TaskState.RUNNING)] == [runs.id]
    assert [record.id for record in store.tasks.query(pool="batch", after_id=ended.id, limit=2)] == [
        runs.id,
        rest[0].id,
    ]
    assert all(record.spec for record in store.tasks.query())


def test_a_list_of_tasks_is_in_the_order_of_ids_after_a_start_too(tmp_path, make, opened):
    store = opened(tmp_path)
    for number in range(12):
        state = (TaskState.PENDING, TaskState.RETRYING, TaskState.SUCCEEDED)[number % 3]
        make.task(store, pool="ab"[number % 2], state=state).attempts = number % 4
    store.commit()
    store.close()

    store = opened(tmp_path)
    assert [task.id for task in store.tasks.query()] == list(range(1, 13))
    assert [task.id for task in store.tasks.query(limit=3, after_id=2)] == [3, 4, 5]


def test_what_an_order_of_tasks_has_learned_outlives_the_daemon(tmp_path, opened):
    store = opened(tmp_path)
    store.tasks.remember("batch", {"=ads": "[1, 2.5]", "=research": "[9, null]", "all": "[0, null]"})
    store.commit()
    store.tasks.remember("batch", {"=ads": None, "all": "[9, 2.5]"})
    store.commit()
    store.tasks.remember("batch", {"all": "never committed"})
    store.close()

    after = opened(tmp_path).tasks
    assert after.remembered("batch") == {"=research": "[9, null]", "all": "[9, 2.5]"}
    assert after.remembered("other") == {} and not after.staged

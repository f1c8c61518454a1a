"""The store with SQLite as its durable log.

    memory (MemoryStore, the truth while open)  --commit-->  BEGIN IMMEDIATE; objects, events, tasks, meta; COMMIT

    DIR/store.lock   held with flock for life; names the holder and the store: lock.py
    DIR/store.db     WAL, synchronous=FULL: what was committed survives a power cut; schema.py, tasktable.py
    DIR/ballast      space given up when the disk is full, so that ends can still be recorded

One connection writes, inline in the caller's thread; a second one, read-only, reads ended tasks. Disk full, read-only or
locked: StoreFull, nothing written, all stays staged. Everything else that goes wrong on the disk is StoreBroken: the file
is left as it is and this handle is not used again, for after a failed fsync nobody knows what the kernel has dropped.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from reconciler.clock import Clock
from reconciler.crash import crash_point
from reconciler.errors import ReconcilerError, StoreBroken
from reconciler.resources.event import Event
from reconciler.resources.kinds import STORED
from reconciler.store import lock
from reconciler.store.base import StoreFull
from reconciler.store.memory import MemoryStore
from reconciler.store.schema import MIGRATIONS
from reconciler.store.tasktable import SqliteTasks

BALLAST_BYTES = 1 << 20
QUICK_CHECK_BYTES = 32 << 20
"""Larger files are not checked page by page at every start."""

NETWORK_FILESYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "fuse.sshfs"})
"""Where processes do not share memory maps, or locks cannot be trusted: WAL would corrupt silently."""


class SqliteStore(MemoryStore):
    """A store that forgets nothing it has acknowledged; see `base.Store`.

    Opening raises Conflict (another process holds the store), StoreFull (no room, or read-only), StoreBroken (the rest).
    """

    rebooted: bool
    """Whether the machine has booted since the last commit: then no process that is recorded lives. The next commit
    records this boot, so who acts on it stages that first."""

    def __init__(self, directory: str | Path, clock: Clock) -> None:
        super().__init__(clock.now, lambda: secrets.token_hex(8))
        self._directory = Path(directory).absolute()
        self._path = self._directory / "store.db"
        self._ballast = self._directory / "ballast"
        self._connections: list[sqlite3.Connection] = []  # in the order in which they are closed
        self._lock_fd = -1
        self._inodes: dict[str, int] = {}
        self._broken: StoreBroken | None = None
        self._wal_grew = False
        self._meta: tuple[int, int, str] | None = None
        """As it was written last."""
        try:
            self._open_or_close()
        except StoreFull as full:
            try:
                self._ballast.unlink()
            except OSError:  # there is none, or nothing can be changed
                raise full from full.__cause__
            self._open_or_close()  # a daemon that starts on a full disk still has its workers to look after

    def idle(self) -> None:
        """Housekeeping for a moment without work: shortens the log, restores the ballast."""
        if self._wal_grew and self._broken is None:
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                self._wal_grew = False
            except sqlite3.Error as error:
                meaning = self._failed(error)
                if isinstance(meaning, StoreBroken):
                    raise meaning from error
                return  # the log keeps what it holds, and the next commit that needs room says so
        self._make_ballast()

    def heartbeat(self) -> None:
        """Raises StoreBroken when the files were deleted or replaced under us: writes to those succeed and are lost."""
        if self._broken is not None:
            raise self._broken
        for path, inode in self._inodes.items():
            try:
                now = os.stat(path).st_ino
            except FileNotFoundError:
                now = -1
            if now != inode:
                self._broken = StoreBroken(
                    f"{path} was {'deleted' if now < 0 else 'replaced'} while it was in use",
                    "put it back, or restore a backup, then start again; workers are left running",
                )
                raise self._broken

    def close(self) -> None:
        # the last one to close shortens the log, unless it is the reader: a broken file is left as it is
        for connection in self._connections if self._broken is None else reversed(self._connections):
            connection.close()
        self._connections.clear()
        if self._lock_fd >= 0:
            lock.release(self._lock_fd)
            self._lock_fd = -1

    def rows(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Committed rows, one after another, to be read to the end: an open read keeps the log from being shortened."""
        try:
            yield from self._reader.execute(sql, values)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Committed rows, all at once."""
        return list(self.rows(sql, values))

    def not_ours(self, name: str, why: str) -> StoreBroken:
        """The error for what this version cannot understand: named, and kept."""
        return StoreBroken(
            f"{self._path}: {name} cannot be read: {why}", "run the version that wrote it; nothing was changed"
        )

    def _write(self) -> None:
        if self._broken is not None:
            raise self._broken
        objects, gone = self._rows()
        new_events = [
            (number, event.model_dump_json(by_alias=True, exclude_none=True))
            for number, event in self._new_events.items()
        ]
        with self._transaction() as db:
            if gone:
                db.executemany("DELETE FROM object WHERE kind = ? AND name = ?", gone)
            if objects:
                db.executemany(
                    "INSERT INTO object (kind, name, json) VALUES (?, ?, ?)"
                    " ON CONFLICT (kind, name) DO UPDATE SET json = excluded.json",
                    objects,
                )
            if self._dropped_events:
                db.executemany("DELETE FROM event WHERE id = ?", [(number,) for number in self._dropped_events])
            if new_events:
                db.executemany("INSERT INTO event (id, json) VALUES (?, ?)", new_events)
            self._log.write(db)
            meta = (self._revision, self._log.next_unused, self._boot_id)
            if meta != self._meta:  # ends of tasks change none of it, and it is a page of its own
                db.execute("UPDATE meta SET revision = ?, next_task_id = ?, boot_id = ?", meta)
        self._meta = meta
        self.rebooted = False

    def _rows(self) -> tuple[list[tuple[str, str, str]], list[tuple[str, str]]]:
        """What is staged of the objects: rows to write, and the keys of those that are gone."""
        there: list[tuple[str, str, str]] = []
        gone: list[tuple[str, str]] = []
        for kind, name in dict.fromkeys(change.object.key for change in self._staged.values()):
            obj = self._objects[kind].get(name)
            if obj is None:
                gone.append((kind, name))
            else:
                there.append((kind, name, obj.model_dump_json(by_alias=True, exclude_none=True)))
        return there, gone

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._writer
        try:
            db.execute("BEGIN IMMEDIATE")
            yield db
            crash_point("controller.before-commit")
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except BaseException:
            db.execute("ROLLBACK")
            raise
        crash_point("controller.after-commit")
        self._wal_grew = True
        self.heartbeat()  # after the COMMIT and before any acknowledgement

    def _failed(self, error: sqlite3.Error) -> ReconcilerError:
        """Rolls back and says what the error means; makes room when there is none."""
        if self._writer.in_transaction:
            with suppress(sqlite3.Error):  # it has been rolled back already, or the handle is given up below
                self._writer.execute("ROLLBACK")
        meaning = self._meaning(error)
        if isinstance(meaning, StoreBroken):
            self._broken = meaning
        else:
            self._ballast.unlink(missing_ok=True)
        return meaning

    def _meaning(self, error: sqlite3.Error | OSError | StoreBroken) -> ReconcilerError:
        if isinstance(error, StoreBroken):
            return error
        if isinstance(error, OSError):
            where = f"{error.filename or self._directory}: {error.strerror}"
            if error.errno in _NO_ROOM:
                return StoreFull(where, "make room on the disk, or mount it writable")
            return StoreBroken(where, "the state directory must belong to whoever runs the daemon")
        code = getattr(error, "sqlite_errorcode", None) or 0
        what = f"{self._path}: {error} ({getattr(error, 'sqlite_errorname', None) or type(error).__name__})"
        if code & 0xFF == sqlite3.SQLITE_BUSY:
            return StoreFull(f"{what}: another program holds it", "end the program that has opened it")
        if code in _NO_ROOM_CODES or (code in _PERHAPS_NO_ROOM and _no_room(self._directory)):
            return StoreFull(what, "make room on the disk, or mount it writable; it goes on by itself")
        return StoreBroken(
            what,
            f"the file is left as it is and workers are left running; restore a backup of it, or move {self._path}*"
            f" and {self._directory / 'store.lock'} aside to begin with an empty store",
        )

    def _open_or_close(self) -> None:
        try:
            self._open()
        except (sqlite3.Error, OSError, StoreBroken) as error:
            meaning = self._meaning(error)
            if isinstance(meaning, StoreBroken):
                self._broken = meaning
            self.close()
            raise meaning from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        kind = filesystem(self._directory, Path("/proc/self/mountinfo").read_text())
        if kind in NETWORK_FILESYSTEMS:
            raise StoreBroken(
                f"{self._directory} is on {kind}: the store needs a local file system", "choose another with --state"
            )
        self._lock_fd, known = lock.hold(self._directory / "store.lock")
        self._make_ballast()
        empty = not self._path.exists() or os.stat(self._path).st_size == 0
        if empty and known:
            raise StoreBroken(
                f"{self._path} is missing or empty, but store {known} was there",
                f"restore it, or remove {self._directory / 'store.lock'} to begin with an empty store",
            )
        if not empty:
            self._inspect()
        writer = self._connect("rwc")
        os.chmod(self._path, 0o600)  # commands and their variables stand in it; its log takes after it
        version = int(writer.execute("PRAGMA user_version").fetchone()[0])
        for name, value in (("journal_mode", "WAL"), ("synchronous", "FULL"), ("wal_autocheckpoint", "1000")):
            writer.execute(f"PRAGMA {name}={value}").fetchall()
        self._writer = writer
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        if version < len(MIGRATIONS):
            self._migrate(version)
        self._reader = self._connect("ro")
        self._connections.reverse()  # the writer last
        self._log = SqliteTasks(self)
        self.tasks = self._log
        self._load()
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n{self.id}\n".encode(), 0)
        files = (self._path, self._directory / "store.db-wal", self._directory / "store.lock")
        self._inodes = {str(path): os.stat(path).st_ino for path in files}

    def _connect(self, mode: str) -> sqlite3.Connection:
        # by URI and never by open(): closing a descriptor of the file would drop SQLite's locks on it
        db = sqlite3.connect(f"{self._path.as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=5.0)
        self._connections.append(db)
        for name, value in (("foreign_keys", "ON"), ("trusted_schema", "OFF"), ("cell_size_check", "ON")):
            db.execute(f"PRAGMA {name}={value}")
        return db

    def _inspect(self) -> None:
        """Looks without writing: a file that this code does not understand stays as it is, its log included."""
        db = self._connect("ro")
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > len(MIGRATIONS):
            raise StoreBroken(
                f"{self._path} has schema {version}, this version of reconciler knows {len(MIGRATIONS)}",
                "run the version that wrote it; nothing was changed",
            )
        if version == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreBroken(f"{self._path} is a database of another program", "choose another --state")
        if os.stat(self._path).st_size <= QUICK_CHECK_BYTES:
            found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
        self._connections.remove(db)
        db.close()

    def _migrate(self, version: int) -> None:
        with self._transaction() as db:
            for statements in MIGRATIONS[version:]:
                for statement in statements:
                    db.execute(statement)
            if version == 0:
                db.execute("INSERT INTO meta VALUES (1, ?, ?, 0, 1)", (secrets.token_hex(4), self._boot_id))
            db.execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _load(self) -> None:
        db = self._reader
        self.id, boot_id, self._revision, next_task_id = db.execute(
            "SELECT id, boot_id, revision, next_task_id FROM meta"
        ).fetchone()
        self.rebooted = boot_id != self._boot_id
        self._gone_revision = self._revision
        for kind, name, text in db.execute("SELECT kind, name, json FROM object"):
            model = STORED.get(kind)
            if model is None:
                raise self.not_ours(f"{kind}/{name}", "there is no such kind")
            try:
                self._put(model.model_validate_json(text))
            except ValidationError as error:
                raise self.not_ours(f"{kind.lower()}/{name}", str(error.errors()[0]["msg"])) from error
        for number, text in db.execute("SELECT id, json FROM event ORDER BY id"):
            try:
                self._put_event(number, Event.model_validate_json(text))
            except ValidationError as error:
                raise self.not_ours(f"event {number}", str(error.errors()[0]["msg"])) from error
            self._next_event = number + 1
        self._log.load(next_task_id)

    def _make_ballast(self) -> None:
        if self._ballast.exists():
            return
        room = os.statvfs(self._directory)
        if room.f_bavail * room.f_frsize < 2 * BALLAST_BYTES:
            return
        fd = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, BALLAST_BYTES)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._ballast.unlink()
        finally:
            os.close(fd)


def filesystem(path: Path, mountinfo: str) -> str:
    """The type of the file system a directory is on, from the text of /proc/self/mountinfo."""
    real = Path(os.path.realpath(path))
    found, depth = "", -1
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4]))
        if len(mounted.parts) >= depth and real.is_relative_to(mounted):  # the last of equals lies on top
            found, depth = right.split()[0], len(mounted.parts)
    return found


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NO_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_READONLY_DIRECTORY})
_PERHAPS_NO_ROOM = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_CANTOPEN,
    }
)
"""SQLite does not hand on the errno of these: a quota and a dying disk look the same, so it has to be tried."""


def _no_room(directory: Path) -> bool:
    """Whether a small file cannot be written for want of room."""
    probe = directory / "probe"
    try:
        probe.write_bytes(bytes(64 << 10))
    except OSError as error:
        return error.errno in _NO_ROOM
    finally:
        with suppress(OSError):  # it is not there, or it will be overwritten by the next one
            probe.unlink()
    return False

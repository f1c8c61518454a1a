"""What outlives every process: the image of the store, and the launcher's journal.

commit   all that is staged, or nothing; a crash before it leaves the image as it was, one after it does not undo it
journal  lines, as they would stand in the file
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from reconciler.resources.meta import Object
from reconciler.store.base import StoreFull, TaskRecord
from reconciler.store.memory import MemoryStore, MemoryTasks


class Disk:
    """The state directory."""

    def __init__(self) -> None:
        self.full = False
        self.holder: object | None = None
        """Which controller has the lock of the store."""
        self.commits = 0
        self.revision = 0
        self.next_task_id = 1
        self.boot_id = ""
        self.objects: dict[tuple[str, str], Object] = {}
        self.tasks: dict[int, TaskRecord] = {}
        self.retired: dict[int, TaskRecord] = {}
        """Ended tasks whose time was over."""
        self.journal: list[str] = []
        self.rows_written: Callable[[list[int]], None] = lambda numbers: None
        self._uids = 0

    def new_uid(self) -> str:
        """Never the same twice, whichever controller asks."""
        self._uids += 1
        return f"u{self._uids:04x}"


class DurableStore(MemoryStore):
    """A store whose committed state another one can begin from."""

    tasks: DurableTasks

    def __init__(
        self, disk: Disk, now: Callable[[], datetime], boot_id: str, before: Callable[[str], None] = lambda point: None
    ) -> None:
        super().__init__(now, disk.new_uid, "5105a11e")
        self._disk = disk
        self._before = before
        self._boot_id = boot_id
        self._revision = self._gone_revision = disk.revision
        self.rebooted = disk.boot_id not in ("", boot_id)
        self.tasks = DurableTasks(disk)
        for _, obj in sorted(disk.objects.items()):
            self._put(obj)

    def _write(self) -> None:
        self._before("controller.before-commit")
        if self._disk.full:
            raise StoreFull("the disk is full")
        disk = self._disk
        changes = list(self._staged.values())
        for change in changes:
            key = (change.object.kind, change.object.metadata.name)
            if change.type == "DELETED":
                del disk.objects[key]
            else:
                disk.objects[key] = change.object
        self.tasks.write(disk)
        disk.revision = self._revision
        disk.boot_id = self._boot_id
        disk.commits += 1
        self.rebooted = False
        self._before("controller.after-commit")


class DurableTasks(MemoryTasks):
    """Live tasks in memory, after opening without their specs; ended ones on the disk."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._next_id = disk.next_task_id
        for record in disk.retired.values():
            self._count(record.pool, record.state, +1)
            self._dropped[record.pool] = self._dropped.get(record.pool, 0) + 1
        for number, record in sorted(disk.tasks.items()):
            self._count(record.pool, record.state, +1)
            if record.idempotency_key is not None:
                self._keys[record.pool, record.idempotency_key] = number
            if record.state.ended:
                self._ended[number] = replace(record)
                continue
            self._live[number] = replace(record, spec=None, pid=0)
            if record.state is not record.state.PENDING:
                self._states[number] = record.state
        self._disk = disk

    def write(self, disk: Disk) -> None:
        """What is staged, as rows."""
        for number, record in (*self._new.items(), *self._moved.items(), *self._changed.items()):
            before = disk.tasks.get(number)
            spec = before.spec if before is not None else record.spec
            disk.tasks[number] = replace(record, spec=spec, pid=0)
        for row in (row for rows in self._dropping.values() for row in rows):
            disk.retired[row.id] = disk.tasks.pop(row.id)
            assert disk.retired[row.id].state.ended
        disk.next_task_id = self._next_id
        disk.rows_written([*self._new, *self._moved, *self._changed])

    def get(self, task_id: int) -> TaskRecord | None:
        record = super().get(task_id)
        if record is not None and record.spec is None:
            record.spec = self._disk.tasks[task_id].spec
        return record

    def specs(self, ids: list[int]) -> dict[int, str]:  # type: ignore[override]
        return {number: record.spec for number in ids if (record := self.get(number)) is not None and record.spec}

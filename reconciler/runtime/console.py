"""Copies the output of workers whose `logs.destination` says so: to our own standard output, or to the journal.

    w/<uid>.7.log  --follow-->  web-0: listening on 8000        Stdout: each line with its worker's name
                   --follow-->  MESSAGE=listening on 8000 ...   Journal: each line an entry, see backends/journal.py

The file is written all the same: it is what `logs` shows, and what nobody's death can break. Lines that were written while
no controller ran stand in the file only.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence

from reconciler.api.base import LogFile
from reconciler.api.output import stream
from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Destination, Pool
from reconciler.resources.worker import Process, Worker
from reconciler.store.base import Store

LOOK_S = 0.2
AGAIN_S = 1.0
"""After a line was not taken; meanwhile it stands in the file."""
LONGEST_LINE_BYTES = 16 << 10
"""A longer one is shown in pieces."""

_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


class Console:
    """One copier for each worker whose output goes to one destination."""

    def __init__(
        self,
        store: Store,
        files: Callable[[Key], Sequence[LogFile]],
        destination: Destination,
        write: Callable[[Worker, Sequence[bytes]], int],
    ) -> None:
        """`files` names the output files of a worker, oldest first; `write` takes lines, says how many, and may wait.

        What it does not take (OSError) is offered again.
        """
        self.problem = ""
        """Why lines are not taken now; empty when all is well."""
        self._store = store
        self._files = files
        self._destination = destination
        self._write = write
        self._turn = asyncio.Lock()
        """Lines stay whole, and a reader that is slow holds up one thread, not all."""
        self._copiers: dict[str, asyncio.Task[None]] = {}
        store.on_change(self._object_changed)
        for worker in store.all(Worker):
            self._look(worker)

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if isinstance(new, Worker) and new.name not in self._copiers:
            self._look(new)
        elif isinstance(new, Pool) and new.spec.template.logs.destination is self._destination:
            for worker in self._store.owned_by(new.key, Worker):
                self._look(worker)

    def _look(self, worker: Worker) -> None:
        if worker.name not in self._copiers and self._shown(worker.name):
            # what ran before us has been shown by another, as far as it was
            seen = worker.status.process is not Process.NONE and worker.status.started_at is not None
            task = asyncio.get_running_loop().create_task(self._copy(worker, seen))
            self._copiers[worker.name] = task
            task.add_done_callback(lambda done: self._ended(worker.name, done))

    def _shown(self, name: str) -> bool:
        worker = self._store.get(Worker, name)
        pool = self._store.get(Pool, worker.spec.pool) if worker is not None else None
        return pool is not None and pool.spec.template.logs.destination is self._destination

    async def _copy(self, worker: Worker, seen: bool) -> None:
        key = worker.key

        async def more() -> bool:
            await asyncio.sleep(LOOK_S)
            return self._shown(key.name)

        rest = b""
        async for block in stream(lambda: self._there(key), 0 if seen else None, 0.0, more):
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > LONGEST_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            if lines:
                worker = self._store.get(Worker, key.name) or worker
                await self._show(worker, lines)
        if rest:
            await self._show(worker, [rest])

    def _there(self, key: Key) -> Sequence[LogFile]:
        return self._files(key) if self._store.get(Worker, key.name) is not None else ()

    async def _show(self, worker: Worker, lines: Sequence[bytes]) -> None:
        while lines:
            try:
                async with self._turn:
                    taken = await asyncio.to_thread(self._write, worker, lines)
            except OSError as error:
                self.problem = (
                    f"output for the {self._destination.lower()} is not taken, it stands in its file: {error}"
                )
                await asyncio.sleep(AGAIN_S)
            else:
                self.problem, lines = "", lines[taken:]

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        self._copiers.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler({"message": "the console is broken", "exception": error})


def standard_output(worker: Worker, lines: Sequence[bytes]) -> int:
    """Writes lines with their worker's name before them."""
    prefix = f"{worker.name}: ".encode()
    _write(1, b"".join(prefix + line + b"\n" for line in lines))
    return len(lines)


def _write(fd: int, text: bytes) -> None:
    """All of it; on a terminal with control characters made visible. Nobody who reads is no reason to end."""
    if os.isatty(fd):
        text = _CONTROL.sub(lambda found: b"\\x%02x" % found[0][0], text)
    try:
        while text:
            text = text[os.write(fd, text) :]
    except BrokenPipeError:
        return

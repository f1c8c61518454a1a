"""Brings what workers say by themselves to whom it is about.

    datagram -> who sent it -> the worker whose process, or descendant, that is -> heard(worker, words)

A worker may speak before its start is known here, so what nobody claims is kept for a moment. What comes from nobody's
process is dropped: to speak for a worker one has to be of its tree, or its user with its token.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from reconciler.backends import notifications
from reconciler.backends.notifications import Said
from reconciler.clock import Clock
from reconciler.resources.meta import Object
from reconciler.resources.notify import Word
from reconciler.resources.worker import Process, Worker
from reconciler.store.base import Store

KEPT_S = 5.0
KEPT = 1000
"""So much is kept of what nobody has claimed yet."""

PAUSE_S = 0.05
"""After a full read: a flood costs a few percent of a core, and nobody's word is lost by it."""


class Listener:
    """Reads the socket that the launcher holds."""

    def __init__(
        self, sock: socket.socket, store: Store, clock: Clock, heard: Callable[[Worker, frozenset[Word]], None]
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._store = store
        self._clock = clock
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._by_pid: dict[int, str] = {}
        self._by_instance: dict[str, str] = {}
        self._unclaimed: deque[tuple[float, Said]] = deque(maxlen=KEPT)
        self._retrying = False
        store.on_change(self._object_changed)

    def begin(self) -> None:
        """Once, when it is known what runs."""
        for worker in self._store.all(Worker):
            self._object_changed(None, worker)
        self._loop.add_reader(self._sock, self._readable)

    def _object_changed(self, old: Object | None, new: Object | None) -> None:
        if isinstance(old, Worker) and old.status.health is not None:
            self._by_pid.pop(old.status.pid or 0, None)
            self._by_instance.pop(old.status.instance, None)
        if not isinstance(new, Worker):
            return
        status = new.status
        if status.probed is not None and status.process is Process.UP and status.stopping is None and status.pid:
            self._by_pid[status.pid] = self._by_instance[status.instance] = new.name
            if self._unclaimed and not self._retrying:
                self._retrying = True
                self._loop.call_soon(self._retry)

    def _readable(self) -> None:
        count = 0
        for said in notifications.read(self._sock):
            count += 1
            if said.words and not self._claimed(said):
                self._unclaimed.append((self._clock.monotonic(), said))
        if count >= notifications.A_READ:
            self._loop.remove_reader(self._sock)
            self._loop.call_later(PAUSE_S, self._loop.add_reader, self._sock, self._readable)

    def _retry(self) -> None:
        self._retrying = False
        since = self._clock.monotonic() - KEPT_S
        kept = [(at, said) for at, said in self._unclaimed if at >= since and not self._claimed(said)]
        self._unclaimed = deque(kept, maxlen=KEPT)

    def _claimed(self, said: Said) -> bool:
        name = next((self._by_pid[pid] for pid in said.pids if pid in self._by_pid), None)
        by_token = name is None
        if by_token:
            name = self._by_instance.get(said.instance)
        worker = self._store.get(Worker, name) if name is not None else None
        if worker is None or (by_token and notifications.uid_of(worker.status.pid or 0) != said.uid):
            return False
        self._heard(worker, said.words)
        return True

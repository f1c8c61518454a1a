"""What an operator does to running processes at once: no record is needed, and nothing is repeated.

A word goes to one instance: should the worker have been started again meanwhile, nobody hears it.
"""

from __future__ import annotations

import logging
import signal as signals
from collections.abc import Sequence

from reconciler.backends.base import Link
from reconciler.backends.launch import worker_key
from reconciler.resources.pool import Pool
from reconciler.resources.worker import Worker

log = logging.getLogger("reconciler")


class Operations:
    """Signals and reloads."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def signal(self, workers: Sequence[Worker], name: str, group: bool) -> list[str]:
        """Sends a signal to the main process, or the group, of each; returns their names."""
        number, scope = signals.Signals[name].value, "group" if group else "main"
        log.info("send %s to %s (asked for)", name, ", ".join(worker.name for worker in workers))
        self._link.send([["signal", worker_key(w.name), w.status.instance, number, scope] for w in workers])
        return [worker.name for worker in workers]

    def reload(self, pool: Pool, workers: Sequence[Worker]) -> list[str]:
        """Has each read its configuration anew, as the pool declares; returns their names."""
        how = pool.spec.template.reload
        return self.signal(workers, how.signal, group=False) if how is not None else []

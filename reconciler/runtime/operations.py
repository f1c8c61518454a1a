"""What an operator does to running processes at once: no record is needed, and nothing is repeated.

A word goes to one instance: should the worker have been started again meanwhile, nobody hears it.
"""

from __future__ import annotations

import asyncio
import logging
import signal as signals
from collections.abc import Awaitable, Sequence
from typing import Protocol

from reconciler.backends.ask import Answer
from reconciler.backends.base import Link
from reconciler.backends.launch import worker_key
from reconciler.resources.pool import Pool
from reconciler.resources.worker import Worker

log = logging.getLogger("reconciler")

RELOAD_WITHIN_S = 60.0
"""A command that reloads is ended then."""


class Commands(Protocol):
    """Runs commands as their workers are run."""

    def run(
        self, worker: Worker, kind: str, command: list[str], timeout_s: float, logged: bool = False
    ) -> Awaitable[Answer]:
        """Runs it, and ends it at the timeout; `logged`: what it prints goes to the worker's log."""
        ...


class Operations:
    """Signals and reloads."""

    def __init__(self, link: Link, commands: Commands) -> None:
        self._link = link
        self._commands = commands

    def signal(self, workers: Sequence[Worker], name: str, group: bool) -> list[str]:
        """Sends a signal to the main process, or the group, of each; returns their names."""
        number, scope = signals.Signals[name].value, "group" if group else "main"
        log.info("send %s to %s (asked for)", name, ", ".join(worker.name for worker in workers))
        self._link.send([["signal", worker_key(w.name), w.status.instance, number, scope] for w in workers])
        return [worker.name for worker in workers]

    async def reload(self, pool: Pool, workers: Sequence[Worker]) -> dict[str, str]:
        """Has each read its configuration anew, as the pool declares; by name what went wrong, or nothing."""
        how = pool.spec.template.reload
        if how is None or not workers:
            return {}
        if how.exec is None:
            return dict.fromkeys(self.signal(workers, how.signal or "SIGHUP", group=False), "")
        log.info("reload %s by %s", ", ".join(worker.name for worker in workers), how.exec.command[0])
        answers = await asyncio.gather(
            *(self._commands.run(worker, "reload", how.exec.command, RELOAD_WITHIN_S, True) for worker in workers)
        )
        return {
            worker.name: "" if answer.ok else f"{answer.text}; what it printed: reconciler logs worker/{worker.name}"
            for worker, answer in zip(workers, answers, strict=True)
        }

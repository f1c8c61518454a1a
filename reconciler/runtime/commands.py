"""Commands beside a worker (probes by exec, reloads), started by the launcher as the worker itself is.

    run --> ["spawn", probe/web-0/liveness ...] --> started --> exited --> emptied (nothing of its tree is left)
             timeout, or nobody wants it any more: SIGKILL to its tree

Of one key only one runs: the next waits until the tree of the one before is gone. They need no record: one that a
controller leaves behind is ended by the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from reconciler.backends.ask import Answer
from reconciler.backends.launch import StartError
from reconciler.clock import Clock
from reconciler.launcher.protocol import Exit, Message
from reconciler.resources.units import to_ms
from reconciler.resources.worker import Worker
from reconciler.runtime.observer import how

LATE_S = 0.5
"""As for every probe: this process was held up, and that says nothing of the worker."""

_SIGKILL = 9


class _Run:
    """One command under way."""

    def __init__(self, key: str, instance: str) -> None:
        self.key, self.instance = key, instance
        self.began, self.over, self.gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.exit: Exit = {"unknown": "lost"}
        self.refused = ""


class BesideWorkers:
    """Runs commands beside workers."""

    def __init__(
        self,
        send: Callable[[Sequence[Message]], None],
        prepare: Callable[[Worker, str, str, Sequence[str], bool], list[Message]],
        clock: Clock,
    ) -> None:
        """`prepare` makes the messages of a start of (worker, key, instance, command, logged), or raises StartError."""
        self._send = send
        self._prepare = prepare
        self._clock = clock
        self._life = f"{to_ms(clock.now()):x}"
        """Tells the instances of this controller from those of the one before."""
        self._count = 0
        self._by_key: dict[str, _Run] = {}
        self._by_instance: dict[str, _Run] = {}

    async def run(
        self, worker: Worker, kind: str, command: list[str], timeout_s: float, logged: bool = False
    ) -> Answer:
        """Runs it, kills its tree at the timeout, and then waits until nothing of it is left.

        `kind`: a kind of probe, or another word for what it is for. `logged`: what it prints goes to the worker's log.
        """
        key = f"probe/{worker.name}/{kind}"
        while (before := self._by_key.get(key)) is not None:
            await before.gone.wait()
        self._count += 1
        run = _Run(key, f"{worker.status.instance}.{kind}.{self._life}.{self._count}")
        try:
            messages = self._prepare(worker, key, run.instance, command, logged)
        except StartError as error:
            return Answer(None, error.message)
        self._by_key[key] = self._by_instance[run.instance] = run
        self._send(messages)
        try:
            await run.began.wait()
            began = self._clock.monotonic()
            async with asyncio.timeout(timeout_s):
                await run.over.wait()
        except TimeoutError:
            late_s = self._clock.monotonic() - began - timeout_s
            self._kill(run)
            await run.gone.wait()
            if late_s > LATE_S:
                return Answer(None, f"this process itself was held up for {late_s:.1f} s")
            return Answer(False, f"{command[0]}: no end within {timeout_s:g} s, killed")
        except asyncio.CancelledError:
            self._kill(run)
            raise
        return _answer(run, command[0])

    def heard(self, word: str, key: str, instance: str, detail: Any) -> None:
        """What the launcher says of such a command."""
        run = self._by_instance.get(instance)
        if run is None:
            return
        run.began.set()
        if word == "started":
            return
        if word == "exited":
            run.exit = detail
        elif word == "blocked":
            run.refused = detail
        run.over.set()
        if word != "exited" or "failed" in detail:
            run.gone.set()
            del self._by_instance[instance]
            self._by_key.pop(key, None)

    def _kill(self, run: _Run) -> None:
        self._send([["signal", run.key, run.instance, _SIGKILL, "tree"]])


def _answer(run: _Run, program: str) -> Answer:
    if run.refused:
        return Answer(None, run.refused)
    ended = how(run.exit, asked=False)
    if "failed" in run.exit or "unknown" in run.exit:
        return Answer(None, f"{program}: {ended.message}")
    if ended.signal is not None:
        return Answer(False, f"{program}: {ended.signal}")
    return Answer(ended.code == 0, f"{program}: exit code {ended.code}")

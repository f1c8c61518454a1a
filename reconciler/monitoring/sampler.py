"""Samples what every worker, task and pool uses: every ten seconds, in a thread, into memory only.

    running() -> Proc.look -> usage.sample -> of(key, pid)     joined into an object when it is read, never stored
                                           -> history(key)          the last hundred of each worker and pool

In a thread: a look at 1,000 processes takes 25 ms there as it does here, but nobody waits for it, and a hanging process
hangs up nobody else. `fresh` is for those who watch: they do not want to see the same for ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import groupby

from reconciler.clock import Clock
from reconciler.monitoring.host import HostCpu
from reconciler.monitoring.proc import PAGE_BYTES, TICKS_PER_S, Proc
from reconciler.monitoring.usage import History, Look, Root, Sample, sample, total

EVERY_S = 10.0
FIRST_AFTER_S = 2.0
"""The first look waits until what is started with the daemon has begun."""
FRESH_S = 1.0
"""Nobody needs to know more often."""
STUCK_S = 15.0
"""A look that takes longer waits for something that hangs."""

PATIENCE_S = 2.0
"""So long somebody who wants to see the latest waits for it; then he sees what there is."""

Samples = dict[str, tuple[int, Sample]]
"""By key; with the pid it is about, 0 for a pool."""


class Sampler:
    """The latest samples, and the history of each."""

    def __init__(self, running: Callable[[], Sequence[Root]], clock: Clock, every_s: float = EVERY_S) -> None:
        """`every_s` 0: nothing is sampled unless somebody asks for it."""
        self._running = running
        self._clock = clock
        self._every_s = every_s
        self._proc = Proc()
        self._host = HostCpu(clock.monotonic)
        self._under_way: asyncio.Task[None] | None = None
        self._began_s = 0.0
        self._looked_s = float("-inf")
        self._regular: Look | None = None
        self._latest: Look | None = None
        self._samples: Samples = {}
        self._histories: dict[str, History] = {}
        self._stopped: list[set[str]] = [set(), set()]
        """Who was found stopped, by the look before the last and by the last."""
        self._error = ""

    async def run(self) -> None:
        """Until cancelled."""
        if not self._every_s:
            return
        await asyncio.sleep(min(FIRST_AFTER_S, self._every_s))
        while True:
            began_s = self._clock.monotonic()
            if self._under_way is not None:
                await self._under_way
            await self._begin(regular=True)
            await asyncio.sleep(max(0.0, began_s + self._every_s - self._clock.monotonic()))

    async def fresh(self) -> None:
        """Returns when the samples are at most a second old, or cannot be had soon."""
        if self._clock.monotonic() - self._looked_s >= FRESH_S:
            await asyncio.wait({self._under_way or self._begin(regular=False)}, timeout=PATIENCE_S)

    def of(self, key: str, pid: int = 0) -> Sample | None:
        """The latest of this process and what belongs to it; of a pool, that of all it runs."""
        found = self._samples.get(key)
        return found[1] if found is not None and found[0] == pid else None

    def cpu_percent(self, pool: str | None) -> float | None:
        """Of one core for a pool, of all cores for the host; None: it is not known."""
        if pool is None:
            return self._host.percent()
        found = self.of(f"pool/{pool}")
        return None if found is None else found.cpu_percent

    def history(self, key: str, instance: str = "") -> list[Sample]:
        """Up to a hundred samples of this start, oldest first."""
        found = self._histories.get(key)
        return found.samples() if found is not None and found.instance == instance else []

    @property
    def problems(self) -> list[str]:
        """What `status` has to say."""
        if self._under_way is not None and (took_s := self._clock.monotonic() - self._began_s) >= STUCK_S:
            return [
                f"SamplingStuck: a look at /proc has not come back for {took_s:.0f} s: a process hangs in the kernel"
            ]
        if self._error:
            return [f"SamplingFailed: /proc cannot be read: {self._error}"]
        lasting = sorted(set.intersection(*self._stopped))  # a debugger stops a process for a moment, too
        return [
            f"{key} is stopped (SIGSTOP, SIGTTIN or a debugger) and does nothing: reconciler signal SIGCONT {key}"
            for key in lasting
        ]

    def _begin(self, regular: bool) -> asyncio.Task[None]:
        """One look at a time."""
        self._began_s = self._clock.monotonic()
        self._under_way = asyncio.create_task(self._look(regular))
        return self._under_way

    async def _look(self, regular: bool) -> None:
        try:
            look, roots, latest, since_regular = await asyncio.to_thread(
                self._seen, self._running(), self._clock.now(), regular
            )
        except OSError as error:  # no descriptor left, most likely: what was seen last is no longer so
            self._error, self._samples = error.strerror or str(error), {}
            return
        finally:
            self._under_way = None
        self._error = ""
        self._looked_s = self._clock.monotonic()
        self._samples, self._latest = latest, look
        now = {key for key, (_, one) in latest.items() if one.stopped and key.startswith("worker/")}
        self._stopped = [self._stopped[1], now]
        if regular:
            self._remember(since_regular, roots)
            self._regular = look

    def _seen(self, running: Sequence[Root], at: datetime, regular: bool) -> tuple[Look, list[Root], Samples, Samples]:
        """In the thread: the look, whose processes are known, and what they have used since the two looks before."""
        look, roots = self._proc.look(running)
        latest = _sampled(self._latest, look, roots, at)
        if not regular or self._regular is self._latest:
            return look, roots, latest, latest
        return look, roots, latest, _sampled(self._regular, look, roots, at)

    def _remember(self, samples: Samples, roots: Sequence[Root]) -> None:
        """Tasks are left out: most end before there is a second one."""
        instances = {root.key: root.instance for root in roots if not root.key.startswith("task/")}
        histories = {}
        for key, (pid, one) in samples.items():
            if pid and key not in instances:
                continue
            history = self._histories.get(key)
            if history is None or history.instance != instances.get(key, ""):
                history = History(instances.get(key, ""))
            history.add(one)
            histories[key] = history
        self._histories = histories


def _sampled(before: Look | None, now: Look, roots: Sequence[Root], at: datetime) -> Samples:
    found: Samples = {}
    for pool, of_pool in groupby(sorted(roots, key=lambda root: root.pool), lambda root: root.pool):
        samples = []
        for root in of_pool:
            one = sample(root, before, now, at, TICKS_PER_S, PAGE_BYTES)
            if one is not None:
                samples.append(one)
                found[root.key] = root.pid, one
        if (all_ := total(samples)) is not None:
            found[f"pool/{pool}"] = 0, all_
    return found

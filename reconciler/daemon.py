"""The controller process: the one place that names every concrete part and joins them.

    launcher --socketpair--> SocketLink -> Loop <- API (uvicorn on the launcher's listening socket)
                                            |
                              SqliteStore, sources, log rotation

Started by the launcher, never by hand:  python -m reconciler.daemon --state DIR [--prune] [--once] [SOURCE...]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import reconciler.unplugged  # noqa: F401  before the first model
from reconciler import __version__
from reconciler.api.base import LogFile
from reconciler.backends.journal import PATH as JOURNAL_PATH
from reconciler.backends.journal import JournalSocket
from reconciler.backends.launch import worker_log
from reconciler.backends.local import LocalHost, SocketLink
from reconciler.clock import SystemClock
from reconciler.controllers.base import Mode
from reconciler.controllers.convergence import in_trouble, nothing_runs, planned, settled
from reconciler.controllers.health import Ground, asked_for, left_behind, problems
from reconciler.coordination.ends import ProcessEnds
from reconciler.coordination.tokens import TokenFile
from reconciler.errors import Conflict, NotFound, ReconcilerError, StoreBroken
from reconciler.launcher import protocol
from reconciler.loading.apply import BY_HAND
from reconciler.loading.variant import Wanted
from reconciler.monitoring.sampler import EVERY_S, Sampler
from reconciler.monitoring.usage import Root
from reconciler.resources.event import event
from reconciler.resources.kinds import WRITABLE, build
from reconciler.resources.meta import Key, Status
from reconciler.resources.overrides import stands
from reconciler.resources.pool import Destination, Pool
from reconciler.resources.task import Plain, Submission
from reconciler.resources.units import format_moment, from_ms
from reconciler.resources.words import override_notes
from reconciler.resources.worker import Worker
from reconciler.runtime.commands import BesideWorkers
from reconciler.runtime.configured import Configured
from reconciler.runtime.console import Console, standard_output
from reconciler.runtime.loop import Loop
from reconciler.runtime.notifications import Listener
from reconciler.runtime.operations import Operations
from reconciler.runtime.outputs import Outputs
from reconciler.runtime.probes import Prober
from reconciler.runtime.pulse import next_second
from reconciler.runtime.rotation import Rotation
from reconciler.runtime.sources import DirectorySource, forget_others
from reconciler.runtime.submissions import Submissions
from reconciler.runtime.turns import Turns
from reconciler.runtime.waiting import Waiting
from reconciler.runtime.watched import WatchedFiles
from reconciler.store.base import Store, StoreFull, TaskRecord
from reconciler.store.sqlite import SqliteStore

log = logging.getLogger("reconciler")

EXIT_STATE_UNUSABLE = 78
"""The launcher does not start another controller then."""
EXIT_START_ANOTHER = 75

STALL_S = 2.0
"""A heartbeat that comes this much late is worth an event."""

PING_AFTER_S = 2.0
"""The launcher is asked whether it lives when nothing has been heard of it for so long."""

FIRST_LOOKS_S = 5.0
"""So long planning waits at most for the sources to be looked at once: what was stored may be declared no longer."""

COLLECT_AFTER = (20_000, 20, 20)
"""Rarely: what the daemon makes it keeps (tasks, by the million) or drops at once, and looking for rings costs a tenth."""

LAST_ANSWERS_S = 0.03
"""So long what has been answered may take to leave this process before it ends."""


class Controller:
    """The running daemon, as the API sees it."""

    def __init__(
        self,
        state: Path,
        sources: Sequence[str],
        prune: bool,
        once: bool,
        wanted: Wanted,
        sample_every_s: float = EVERY_S,
        config: str = "",
        pruned: Sequence[str] = (),
    ) -> None:
        self.clock = SystemClock()
        self._database = SqliteStore(state, self.clock)
        self.store: Store = self._database
        self._state = state
        self._once = once
        self._asyncio = asyncio.get_running_loop()
        self._started_at = self.clock.now()
        self._finish_code: int | None = None
        self._converged = False
        self._ended_overrides: set[tuple[str, str, str]] = set()
        self._waited_for = ""
        self._consoles: list[Console] = []
        self._first_list = asyncio.Event()
        self._served = asyncio.Event()
        self._heard_at = self.clock.monotonic()
        self._pinged_at: float | None = None
        api_fd = int(os.environ["RECONCILER_API_FD"])
        self._api = socket.socket(fileno=api_fd)
        launcher = socket.socket(fileno=int(os.environ["RECONCILER_LAUNCHER_FD"]))
        self._link = SocketLink(launcher, self._from_launcher, self._launcher_gone)
        self._turns = Turns(self.clock)
        self._host = LocalHost(str(state / "logs"), temporary=str(state / "tmp"))
        self._host.keep_temporary({worker.status.instance for worker in self.store.all(Worker)})
        tokens = TokenFile(state / "lock-tokens")
        self.loop = Loop(self.store, self._link, self._host, self.clock, self._turns.wake, tokens)
        gc.freeze()  # waiting tasks, by the million: looking through them for rings would take a second
        self.sessions = self.loop.sessions
        self._configured = Configured(config, self.loop.budgets, self.store, self.clock)
        self._submissions = Submissions(self.store, self.loop, self.clock)
        self._turns.drive(self.loop, self._after_turn, before=self._link.listen)
        self.loop.held = bool(sources)
        self._waiting = Waiting(self.live_task, self.clock)
        self.sources = [
            DirectorySource(
                source,
                prune or source in pruned,
                self.store,
                self.clock,
                self._committed_future,
                [*sources, BY_HAND],
                wanted=wanted,
            )
            for source in sources
        ]
        beside = BesideWorkers(self._link.send, self._beside, self.clock)
        self.loop.observer.beside = beside.heard
        self._operations = Operations(self._link, beside)
        self._watched_files = WatchedFiles(self.store, self.clock, self._operations.reload, self._turns.wake)
        self._rotation = Rotation(self.store, self.loop.queues, state / "logs", self.clock)
        self._outputs = Outputs(state / "logs", self.store, self.loop.queues, self._rotation.index)
        self._prober = Prober(self.store, self.clock, beside, self.loop.wake, self._outputs.said_ready)
        self.usage = Sampler(self._running, self.clock, sample_every_s)
        self.loop.world.gauges = self.usage
        self.loop.warm.memory = self._memory_bytes
        notified = socket.socket(fileno=int(os.environ["RECONCILER_NOTIFY_FD"]))
        self._listener = Listener(notified, self.store, self.clock, self._prober.notified)

    def _memory_bytes(self, worker: str, pid: int) -> int:
        sample = self.usage.of(f"worker/{worker}", pid)
        return 0 if sample is None else sample.memory_bytes

    async def run(self) -> None:
        """Serves until this process ends: `leave`, a defect, or the launcher is gone."""
        self._link.send([["hello", protocol.VERSION], ["list"]])
        await self._first_list.wait()
        self._prober.look_at_all()
        self.sessions.watch_with(ProcessEnds(lambda id: self.sessions.ended(id, self.clock.now())))
        journal = JournalSocket(os.environ.get("RECONCILER_JOURNAL_SOCKET", JOURNAL_PATH))
        self._consoles = [
            Console(self.store, self._outputs.of, Destination.STDOUT, standard_output),
            Console(self.store, self._outputs.of, Destination.JOURNAL, journal.write),
        ]
        self._listener.begin()
        forget_others(self.store, [source.root for source in self.sources])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            group.create_task(self._rotation.run())
            group.create_task(self._watched_files.run())
            group.create_task(self.usage.run())
            group.create_task(self._heartbeat())
            group.create_task(self._first_looks())
            for source in self.sources:
                group.create_task(self._keep(source))

    async def _serve(self) -> None:
        """Loads the API beside the first turns, which need none of it: the launcher is starting processes meanwhile."""
        app, server = await asyncio.to_thread(_api)
        await server.serve(app.create_app(self, self.clock), self._api, self._serving)

    async def _keep(self, source: DirectorySource) -> None:
        if self._restarted:
            await self._served.wait()  # the controller before has looked: who waits for an answer comes first
        await source.run()

    # turns

    def _after_turn(self) -> None:
        self._link.rest(self.loop.rest_s)
        if self.loop.observer.settled:
            self._first_list.set()
            if self._restarted:
                self.loop.release()  # the one before had looked
        self._waiting.turned()
        if self.loop.wants_rescan:
            self.loop.wants_rescan = False
            self.rescan()
        terminations = self.loop.observer.terminations
        if terminations == 1:
            self.loop.set_mode(Mode.STOPPING)
        elif terminations > 1:
            self.loop.set_mode(Mode.HURRYING)
        if self.loop.world.mode is not Mode.RUNNING:
            if self.loop.idle and self._nothing_runs():
                self._finish(0)
        elif not self._converged and self.loop.idle and all(source.first.is_set() for source in self.sources):
            self._look_whether_converged()

    def _from_launcher(self, messages: list[list[Any]]) -> None:
        self._heard_at, self._pinged_at = self.clock.monotonic(), None
        for message in messages:
            if message[0] == "hello" and message[1] < protocol.OLDEST:
                print(
                    f"reconciler: the launcher speaks version {message[1]} of the protocol, the oldest understood here is"
                    f" {protocol.OLDEST}\n  help: what runs keeps running; start the daemon again with `reconciler up`",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(EXIT_STATE_UNUSABLE)
        self.loop.receive(messages)

    def _launcher_gone(self, why: str) -> None:
        if self._finish_code is None:
            print(f"reconciler: {why}: the controller ends, what runs keeps running", file=sys.stderr, flush=True)
            os._exit(1)
        self.leave()

    def _nothing_runs(self) -> bool:
        return nothing_runs(self.store.all(Worker), sum(queue.claimed for queue in self.loop.queues))

    def _finish(self, code: int) -> None:
        """Tells the launcher to end, once; it ends this process."""
        if self._finish_code is None:
            self._finish_code = code
            self._host.finish()
            self._link.send([["finish", code]])
            self._asyncio.call_later(LAST_ANSWERS_S, self.leave)

    def leave(self) -> None:
        """Ends this process at once: threads that wait for a file to change would hold an orderly end up."""
        with suppress(StoreFull):
            self.store.commit()
        self.store.close()
        os._exit(0)

    # convergence

    def _serving(self) -> None:
        self._served.set()
        self._link.send([["serving"]])
        if not self._restarted:
            print(f"ready: socket {self._state / 'run' / 'api.sock'}", file=sys.stderr, flush=True)
        self._turns.wake()

    async def _first_looks(self) -> None:
        """Plans what is stored once the sources have had their say, and has convergence seen: that is in a turn only."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOKS_S):
                await self._looked()
        self.loop.release()
        await self._looked()
        self._turns.wake()

    async def _looked(self) -> None:
        for source in self.sources:
            await source.first.wait()

    @property
    def _restarted(self) -> bool:
        """Whether this launcher has had a controller before."""
        return bool(self.loop.observer.launcher.get("controllerRestarts"))

    def _look_whether_converged(self) -> None:
        now = self.clock.now()
        last = self.store.get(Worker, self._waited_for)
        if last is not None and not settled(last, self.store.get(Pool, last.spec.pool), now):
            return  # looked at in every turn of a start: one worker that is not there yet says enough
        workers = self.store.all(Worker)
        for worker in workers:
            if not settled(worker, self.store.get(Pool, worker.spec.pool), now):
                self._waited_for = worker.name
                return
        if not planned(self.store.all(Pool)):
            return
        self._converged = True
        observer = self.loop.observer
        if not self._restarted:
            for note in self._left_behind():
                print(f"note: {note}", file=sys.stderr)
            line = f"adopted {observer.adopted}, started {self.loop.executor.started}, unknown {observer.unknown}"
            print(line, file=sys.stderr, flush=True)
        if self._once:
            bad = in_trouble(workers)
            for worker in bad:
                why = f": {worker.status.message}" if worker.status.message else ""
                print(f"{worker.key} is {worker.status.state}{why}", file=sys.stderr, flush=True)
            self._finish(1 if bad or any(source.error for source in self.sources) else 0)

    async def _heartbeat(self) -> None:
        """Looks once a second whether the ground is still there."""
        path = str(self._state / "run" / "api.sock")
        inode = os.stat(path).st_ino
        while True:
            self._note_stall(await next_second())
            self._ping()
            self._database.heartbeat()
            self._end_overrides()
            if self.loop.idle:
                self._database.idle()
            if self._served.is_set() and not gc.isenabled():
                gc.enable()
                gc.collect()
                gc.freeze()  # what has been loaded stays, and need not be looked at again
                if not self._converged:
                    self._turns.wake()  # some have only so much time to get ready
            try:
                if os.stat(path).st_ino == inode:
                    continue
            except FileNotFoundError:
                pass
            log.warning("%s is gone: the controller starts again to serve on a new one", path)
            self.store.commit()
            os._exit(EXIT_START_ANOTHER)

    def _note_stall(self, late_s: float) -> None:
        """Says that nothing was decided for a while: a slow disk, a machine asleep, somebody's SIGSTOP."""
        if late_s < STALL_S:
            return
        message = f"the controller stood still for {late_s:.1f} s; workers were not touched, their ends are known"
        log.warning("%s", message)
        self.store.add_event(event(Key("Daemon", "reconciler"), "Stalled", message, self.clock.now(), warning=True))
        self._turns.wake()

    def _ping(self) -> None:
        now = self.clock.monotonic()
        if self._pinged_at is None and now - self._heard_at >= PING_AFTER_S:
            self._pinged_at = now
            self._link.send([["ping"]])

    def _end_overrides(self) -> None:
        """Has the sources looked at when an operator's override has run out: what is declared holds again."""
        now = self.clock.now()
        for pool in self.store.all(Pool):
            for path, until in pool.metadata.overrides.items():
                if not stands(until, now) and (pool.name, path, until) not in self._ended_overrides:
                    self._ended_overrides.add((pool.name, path, until))
                    self.rescan()

    def _beside(
        self, worker: Worker, key: str, instance: str, command: Sequence[str], logged: bool
    ) -> list[protocol.Message]:
        log = worker_log(worker.status.instance) if logged else None
        return self.loop.executor.beside(worker, self.loop.world, key, instance, command, log)

    # what the API asks for

    def _committed_future(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._asyncio.create_future()

        def done() -> None:
            if not future.done():
                future.set_result(None)

        def failed(error: StoreFull) -> None:
            if not future.done():
                future.set_exception(error)

        self.loop.when_durable(done, failed)
        return future

    async def committed(self) -> None:
        """Returns when all that was staged before the call is durable. Raises StoreFull; nothing was acknowledged then."""
        await self._committed_future()

    async def changed(self, tasks: Collection[int] = ()) -> None:
        """Returns soon after the next turn; with `tasks`, only after one in which one of them has changed its state."""
        await self._waiting.changed(tasks)

    def submit(self, pool: str, submissions: Sequence[Submission | Plain]) -> list[TaskRecord]:
        """Stages the tasks, all or none; the caller answers after `committed`."""
        return self._submissions.submit(pool, submissions)

    def retry(self, task_id: int) -> TaskRecord:
        """A new task like one that has ended; asked twice, made once."""
        return self._submissions.retry(task_id)

    def cancel(self, task_id: int) -> TaskRecord:
        """Cancels what waits, ends what runs; an ended task stays as it is."""
        record = self.loop.cancel(task_id)
        if record is None:
            record = self.store.tasks.get(task_id)
        if record is None:
            raise NotFound(f"there is no task/{task_id}")
        return record

    def live_task(self, task_id: int) -> TaskRecord | None:
        """The record of a task that has not ended, as it stands in memory."""
        found = self.loop.queues.find(task_id)
        return None if found is None else found[1]

    def signal(self, workers: Sequence[Worker], name: str, group: bool) -> list[str]:
        """Sends a signal to the main process, or the group, of each; returns their names."""
        return self._operations.signal(workers, name, group)

    async def reload(self, pool: Pool, workers: Sequence[Worker]) -> dict[str, str]:
        """Has each read its configuration anew, as the pool declares; by name what went wrong, or nothing."""
        return await self._operations.reload(pool, workers)

    def restart(self, pool: Pool) -> None:
        """Has all workers of a pool started anew, one after another."""
        self.store.set_status(pool.key, pool.status.changed(restarts_asked=pool.status.restarts_asked + 1))

    def rescan(self) -> None:
        """Looks at the sources now."""
        self._configured.read()
        for source in self.sources:
            source.rescan()

    def shutdown(self, keep_workers: bool, hurry: bool = False) -> None:
        """Begins to end the daemon: with all workers, gracefully; or leaving them running."""
        if keep_workers:
            self._asyncio.call_later(LAST_ANSWERS_S, self._finish, 0)
        else:
            # by way of the launcher: should this controller die meanwhile, it goes on with the stop from its records
            self._link.send([["terminate"]] * (2 if hurry and self.loop.world.mode is Mode.RUNNING else 1))

    def report(self) -> dict[str, Any]:
        """`reconciler status`."""
        launcher = self.loop.observer.launcher
        pools = {}
        for pool in self.store.all(Pool):
            ready = next((c for c in pool.status.conditions if c.type == "Ready"), None)
            pools[pool.name] = {
                "replicas": pool.replicas,
                "readyReplicas": pool.status.ready_replicas,
                "ready": ready is not None and ready.status is Status.TRUE,
                "askedFor": asked_for(pool),
                "overrides": list(override_notes(pool.metadata.overrides)),
            }
        return {
            "version": __version__,
            "launcher": {
                "pid": launcher.get("pid"),
                "startedAt": format_moment(from_ms(launcher.get("startedAt", 0))),
                "containment": launcher.get("containment"),
                "limits": launcher.get("limits", {}),
            },
            "controller": {
                "pid": os.getpid(),
                "startedAt": format_moment(self._started_at),
                "restarts": launcher.get("controllerRestarts", 0),
            },
            "state": str(self._state),
            "mode": self.loop.world.mode.value,
            "sources": [source.report() for source in self.sources],
            "pools": pools,
            "configuration": self._configured.report(),
            "problems": self._problems(),
        }

    def _problems(self) -> list[str]:
        ground = Ground(
            degraded=self.loop.degraded,
            launcher=self.loop.observer.launcher,
            silent_s=0.0 if self._pinged_at is None else self.clock.monotonic() - self._pinged_at,
            up_s=(self.clock.now() - self._started_at).total_seconds(),
            sources=[(source.root, source.error) for source in self.sources],
            sockets=self.loop.observer.socket_failures,
            said=[
                *([self._configured.problem] if self._configured.problem else []),
                *(console.problem for console in self._consoles if console.problem),
                *self._rotation.problems,
                *self.usage.problems,
                *self.sessions.deadlocks(),
                *self._left_behind(),
            ],
        )
        return problems(ground, self.store.all(Pool))

    def _left_behind(self) -> list[str]:
        declared = (obj for model in WRITABLE.values() for obj in self.store.all(model))
        return left_behind(declared, [BY_HAND, *(source.root for source in self.sources)])

    def _running(self) -> list[Root]:
        """The processes whose use is sampled."""
        roots = [
            Root(str(worker.key), worker.status.instance, worker.status.pid, worker.spec.pool)
            for worker in self.store.all(Worker)
            if worker.status.pid is not None
        ]
        for queue in self.loop.queues:
            for record in queue.running:
                if record.pid:
                    roots.append(Root(f"task/{record.id}", queue.instance(record), record.pid, queue.pool))
        return roots

    def logs(self, key: Key, previous: bool = False) -> list[LogFile]:
        """Where a worker's or a task's output stands."""
        return self._outputs.of(key, previous)

    def written_before(self, files: Sequence[LogFile], since_s: float) -> dict[str, int]:
        """How many bytes of each were written before that moment, as far as is known."""
        return self._outputs.written_before(files, since_s)


def _api() -> tuple[ModuleType, ModuleType]:
    from reconciler.api import app, server

    return app, server


def main() -> None:
    """Runs the controller until it is told to end."""
    parser = argparse.ArgumentParser(prog="reconciler.daemon")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--prune", action="store_true")
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--sample-every-s", type=float, default=EVERY_S)
    parser.add_argument("--config", default="")
    parser.add_argument("--pruned", action="append", default=[])
    parser.add_argument("--overlay", default="")
    parser.add_argument("--values", action="append", default=[])
    parser.add_argument("--set", action="append", default=[], dest="sets")
    parser.add_argument("sources", nargs="*")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="reconciler: %(message)s", stream=sys.stderr)
    gc.disable()  # until it serves
    gc.set_threshold(*COLLECT_AFTER)
    build()
    try:
        asyncio.run(_run(options))
    except ReconcilerError as error:
        print(f"reconciler: {error.message}" + (f"\n  help: {error.help}" if error.help else ""), file=sys.stderr)
        os._exit(EXIT_STATE_UNUSABLE if isinstance(error, StoreBroken | Conflict) else 1)


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_crash)
    wanted = Wanted(options.overlay, tuple(options.values), tuple(options.sets))
    controller = Controller(
        options.state,
        options.sources,
        options.prune,
        options.once,
        wanted,
        options.sample_every_s,
        options.config,
        options.pruned,
    )
    loop.add_signal_handler(signal.SIGTERM, controller.leave)
    try:
        await controller.run()
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A defect in a callback ends the controller: workers live on, the launcher starts the next one."""
    error = context.get("exception")
    if isinstance(error, OSError) and context["message"].startswith("socket.accept()"):
        log.warning("no client can be let in for a second: %s", error)  # asyncio waits, then tries again
        return
    print(f"reconciler: {context['message']}", file=sys.stderr)
    if error is not None:
        traceback.print_exception(error)
    if isinstance(error, StoreBroken):
        os._exit(EXIT_STATE_UNUSABLE if "closed" not in error.message else 1)
    os._exit(1)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the others."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    main()

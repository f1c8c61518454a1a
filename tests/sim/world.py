"""Everything together: machine, launcher, controller, disk, a source of manifests, clients, and what goes wrong.

    World(seed, faults)   ->   declare, submit, run, kill, ...   ->   converge: what is wanted is so, or a Violation

A seed decides all that happens in it. `chaos` lets the faults loose; a named test does one thing after another instead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.controllers.base import Mode
from reconciler.errors import Conflict, ReconcilerError
from reconciler.launcher.protocol import Message
from reconciler.launcher.table import S
from reconciler.loading.apply import apply
from reconciler.resources.kinds import STORED
from reconciler.resources.meta import Metadata, Origin
from reconciler.resources.pool import Pool, PoolSpec, template_hash
from reconciler.resources.probe import Kind
from reconciler.resources.task import Submission, TaskState
from reconciler.resources.worker import Process as Said
from reconciler.resources.worker import State, Worker
from reconciler.store.base import TaskRecord
from tests.sim.checks import Checks
from tests.sim.controller import Controller
from tests.sim.disk import Disk, DurableStore
from tests.sim.launcher import Launcher
from tests.sim.machine import PIDS, Host, Nature, Process
from tests.sim.timeline import ControllerClock, Timeline, Violation
from tests.sim.wire import Wire

CONVERGES_WITHIN_S = 180.0
STAYS_S = 35.0
"""Longer than a resync: what has converged does nothing more by itself."""

LOOK_EVERY_S = 3.0
CLIENT_PATIENCE_S = 2.0


@dataclass(eq=False)
class Order:
    """One task as a client wants it, until it has been told that it is durable."""

    pool: str
    submission: Submission
    task_id: int = 0
    given_up: bool = False


class World:
    """One machine with the product on it."""

    def __init__(
        self,
        seed: int | str,
        faults: Sequence[str] = (),
        new_launcher: type[Launcher] = Launcher,
        new_controller: type[Controller] = Controller,
        new_store: type[DurableStore] = DurableStore,
        pids: int = PIDS,
    ) -> None:
        self.timeline = Timeline(seed)
        self.faults = frozenset(faults)
        self.disk = Disk()
        self.checks = Checks(self.timeline, self.disk)
        self.disk.rows_written = self.checks.rows_written
        self.host = Host(self.timeline, self.checks, pids)
        self.launcher: Launcher | None = None
        self.controller: Controller | None = None
        self.desired: dict[str, PoolSpec] = {}
        """The manifests."""
        self.orders: list[Order] = []
        self.natures: dict[str, deque[Nature]] = {}
        """What the next processes of a key are like, where a test says so."""
        self.answers: dict[tuple[str, Kind], deque[str]] = {}
        """What the next probes of a worker are answered, where a test says so."""
        self.healed = True
        self.meant_down = False
        self.passed: Counter[str] = Counter()
        """How often each instant has been passed."""
        self.containment = "no-cgroup" not in self.faults
        self.exits_readable = "exits-unreadable" not in self.faults
        self._armed: dict[str, int] = {}
        self._strikes_left = 12
        self._launchers = self._controllers = 0
        self._new_launcher, self._new_controller, self._new_store = new_launcher, new_controller, new_store
        self.timeline.after(LOOK_EVERY_S, self._look_again)

    # doing one thing after another

    def up(self) -> None:
        """`reconciler up`."""
        if self.launcher is None or not self.launcher.alive:
            self._launchers += 1
            self.meant_down = False
            self.timeline.say(f"up: launcher {self._launchers}")
            self.launcher = self._new_launcher(self.timeline, self.host, self.disk, self, self._launchers)
            self.launcher.begin()

    def run(self, seconds: float) -> None:
        """Lets so much time pass."""
        end_us = self.timeline.now_us + round(seconds * 1e6)
        while (next_us := self.timeline.next_us) is not None and next_us <= end_us:
            self.timeline.step()
        self.timeline.now_us = end_us

    def run_until(self, condition: Callable[[], object], within_s: float = 60.0) -> None:
        """Lets time pass until it is so. Raises Violation when it takes too long."""
        end_us = self.timeline.now_us + round(within_s * 1e6)
        while not condition():
            if not self.timeline.step() or self.timeline.now_us > end_us:
                raise Violation(f"it is not so after {within_s} s")

    def declare(self, name: str, spec: PoolSpec) -> None:
        """Writes a manifest."""
        self.timeline.say(f"declare {name}: {spec.replicas} x {' '.join(spec.template.command)}")
        self.desired[name] = spec
        self.timeline.after(0.3, self._look)

    def withdraw(self, name: str) -> None:
        """Removes a manifest, where removing it removes the pool."""
        self.timeline.say(f"withdraw {name}")
        self.desired.pop(name, None)
        self.timeline.after(0.3, self._look)

    def submit(self, pool: str, command: Sequence[str], **fields: Any) -> Order:
        """A client submits a task; with an idempotency key it asks again until it gets an answer."""
        order = Order(pool, Submission(command=list(command), **fields))
        self.orders.append(order)
        self._try(order)
        return order

    def cancel(self, task_id: int) -> None:
        """A client cancels a task."""
        controller = self._serving
        if controller is None:
            return
        self.timeline.say(f"client cancels {task_id}")

        def answer(record: TaskRecord | None) -> None:
            if record is not None and (record.cancelling or record.state is TaskState.CANCELLED):
                self.checks.cancelled.add(record.id)

        try:
            controller.client_calls(lambda: controller.cancel(task_id), answer)
        except ReconcilerError as error:
            self.timeline.say(f"client is refused: {error}")

    def kill_controller(self) -> None:
        """SIGKILL."""
        if self.controller is not None:
            self.controller.kill("SIGKILL")

    def kill_launcher(self, again_after_s: float = 1.0) -> None:
        """SIGKILL; somebody starts the daemon again."""
        if self.launcher is not None and self.launcher.alive:
            self.launcher.kill()
            self.timeline.after(again_after_s, self.up)

    def reboot(self, keeps_journal: bool = True, again_after_s: float = 5.0) -> None:
        """The host goes down and comes back; what was never synced may be lost with it."""
        self.timeline.say("reboot" if keeps_journal else "power cut")
        if self.launcher is not None and self.launcher.alive:
            self.launcher.kill()
        if self.controller is not None:
            self.controller.kill("reboot")
        self.checks.host_goes_down()
        self.host.reboot()
        if not keeps_journal:
            lost = self.timeline.chance("power").randrange(1 + min(20, len(self.disk.journal)))
            del self.disk.journal[len(self.disk.journal) - lost :]
        self.timeline.after(again_after_s, self.up)

    def step_clock(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.timeline.say(f"the wall clock is moved by {seconds} s")
        self.timeline.wall_offset_us += round(seconds * 1e6)
        self.checks.clock_stepped_at_us = self.timeline.now_us

    def arm(self, instant: str, nth: int = 1) -> None:
        """Kills whoever passes that instant for the n-th time from now."""
        self._armed[instant] = self.passed[instant] + nth

    def crash(self, process: Process, code: int = 1) -> None:
        """A process ends by itself."""
        self.host.end(process, {"code": code})

    def living(self, prefix: str = "") -> list[Process]:
        """Main processes that live, by key."""
        found = [p for p in self.host.living if p.alive and p.key.startswith(prefix)]
        return sorted(found, key=lambda process: process.key)

    def worker(self, name: str) -> Worker:
        """As it stands on the disk."""
        found = self.disk.objects["Worker", name]
        assert isinstance(found, Worker)
        return found

    def pool(self, name: str) -> Pool:
        """As it stands on the disk."""
        found = self.disk.objects["Pool", name]
        assert isinstance(found, Pool)
        return found

    def task(self, order: Order) -> TaskRecord:
        """As it stands on the disk."""
        return self.disk.tasks[order.task_id]

    # what the launcher and the controller ask the world

    def instant(self, name: str) -> bool:
        """Somebody passes that instant; True: it is the last."""
        self.passed[name] += 1
        struck = self._armed.get(name) == self.passed[name] or self._struck(name)
        if struck:
            self._armed.pop(name, None)
            self.timeline.say(f"struck at {name}")
            if name.startswith("launcher."):
                self.kill_launcher(self.timeline.chance("up").choice((0.1, 1.0, 6.0)))
        return struck

    def _struck(self, name: str) -> bool:
        fault = "kill-launcher" if name.startswith("launcher.") else "kill-controller"
        if self.healed or fault not in self.faults or not self._strikes_left:
            return False
        if self.timeline.chance(fault).random() >= 0.012:
            return False
        self._strikes_left -= 1
        return True

    def nature(self, key: str, argv: Sequence[str]) -> Nature:
        scripted = self.natures.get(key)
        return scripted.popleft() if scripted else self._nature(key, argv)

    def start_fails(self, key: str, instance: str, template: str) -> None:
        self.checks.start_failed(key, instance, template)

    def _nature(self, key: str, argv: Sequence[str]) -> Nature:
        chance = self.timeline.chance("nature")
        nature = Nature()
        match argv[0]:
            case "crash":
                nature.runs_s, nature.code = chance.uniform(0, 0.3), 1
            case "work":
                nature.runs_s = chance.choice((0.0, 0.02, 0.3, 2.0))
            case "poison":
                nature.runs_s, nature.code = chance.uniform(0, 0.5), 3
            case "long":
                nature.runs_s = 100_000.0
            case "missing":
                nature.fails = ("exec", 2, "No such file or directory")
        if self.healed:
            return nature

        def hits(fault: str, share: float) -> bool:
            return fault in self.faults and chance.random() < share

        if hits("failing-starts", 0.1):
            nature.fails = chance.choice((("exec", 2, "missing"), ("fork", 11, "again"), ("chdir", 2, "missing")))
        if hits("slow-starts", 0.2):
            nature.latency_s = chance.uniform(0, 3)
        if hits("instant-exits", 0.15):
            nature.runs_s, nature.code = chance.choice((0.0, 0.0001, 0.001)), chance.choice((0, 1))
        if hits("ignores-term", 0.3):
            nature.obeys_after_s = None
        elif chance.random() < 0.2:
            nature.obeys_after_s = chance.uniform(0.05, 4)
        if hits("stuck", 0.2):
            nature.stuck_s = chance.uniform(1, 15)
        if hits("escapees", 0.3):
            nature.escapees = chance.choice((1, 2))
            nature.escapees_stuck_s = chance.choice((0.0, 0.0, 6.0))
        if hits("unreadable", 0.3):
            nature.readable = False
        return nature

    def health(self, worker: Worker, kind: Kind) -> tuple[str, float]:
        """How that worker answers that probe now, and after how long."""
        scripted = self.answers.get((worker.name, kind))
        if scripted:
            return scripted.popleft(), 0.01
        chance = self.timeline.chance("health")
        drawn, takes_s = chance.random(), chance.choice((0.0, 0.01, 0.2))
        if not self.healed:
            for fault, word in (("unwell", "no"), ("slow-answers", "late"), ("probe-errors", "error")):
                if fault in self.faults and drawn < 0.3:
                    return word, takes_s
                drawn = drawn - 0.3 if fault in self.faults else drawn
        return "yes", takes_s

    def new_wire(self) -> Wire:
        return Wire(self.timeline, self._latency_s, self._loses, self._doubles)

    def _latency_s(self) -> float:
        if self.healed or "slow-wire" not in self.faults:
            return 0.0002
        return self.timeline.chance("wire").choice((0.0001, 0.001, 0.02, 0.5))

    def _loses(self) -> bool:
        return not self.healed and "lost-frames" in self.faults and self.timeline.chance("wire").random() < 0.5

    def _doubles(self) -> bool:
        return "doubled-frames" in self.faults and self.timeline.chance("wire").random() < 0.2

    def new_controller(self, wire: Wire) -> Controller:
        self._controllers += 1
        self.controller = self._new_controller(self.timeline, self.disk, wire, self, self._controllers)
        self.timeline.say(f"controller {self._controllers} begins")
        self.timeline.after(self.timeline.chance("begin").uniform(0.07, 0.3), self.controller.begin)
        return self.controller

    def new_store(self, clock: ControllerClock, before: Callable[[str], None]) -> DurableStore:
        if clock.offset_us != self.checks.clock_offset_us:
            self.checks.clock_offset_us = clock.offset_us
            self.checks.clock_moved_at_us = self.timeline.now_us
        store = self._new_store(self.disk, clock.now, self.host.boot_id, before)
        self.checks.opened(store)
        return store

    def turned(self, controller: Controller) -> None:
        """Nothing to do: what has to be looked at in every step is looked at where it happens."""

    def asked(self, controller: Controller, messages: Sequence[Message]) -> None:
        for message in messages:
            if message[0] == "signal":
                self.checks.asked_to_end.add(message[2])

    def controller_ended(self, controller: Controller) -> None:
        """Its clients get no answers any more."""

    def launcher_ended(self, code: int | None) -> None:
        self.timeline.say(f"launcher ended with {code}")
        if not self.meant_down:
            self.timeline.after(self.timeline.chance("up").uniform(0.5, 4), self.up)

    # manifests and clients

    @property
    def _serving(self) -> Controller | None:
        """The controller, if it answers."""
        controller = self.controller
        if controller is None or not controller.alive or not controller.serving:
            return None
        return controller if controller.frozen_until_us <= self.timeline.now_us else None

    def _look_again(self) -> None:
        self._look()
        self.timeline.after(LOOK_EVERY_S, self._look_again)

    def _look(self) -> None:
        """The source is applied, as far as it can be."""
        controller = self._serving
        if controller is not None and controller.loop.world.mode is Mode.RUNNING:
            controller.does(lambda: self._apply(controller))

    def _apply(self, controller: Controller) -> None:
        store, now = controller.store, controller.clock.now()
        for pool in store.all(Pool):
            if pool.name not in self.desired and pool.metadata.deleted_at is None:
                store.update(pool.changed(metadata=pool.metadata.changed(deleted_at=now)))
        for name, spec in sorted(self.desired.items()):
            origin = Origin(path=f"{name}.yaml", line=1, source="manifests")
            declared = Pool(metadata=Metadata(name=name, source=origin), spec=spec)
            before = store.revision
            try:
                apply(store, [declared], "manifests", False, "source", now)
            except Conflict:
                if store.revision != before:
                    raise Violation(f"I12: {name} was refused, and something has changed") from None

    def _try(self, order: Order) -> None:
        if order.task_id:
            return
        controller = self._serving
        keyed = order.submission.idempotency_key is not None
        if controller is None:
            self.timeline.after(1.0, self._try, order)
            return

        def answer(records: Sequence[TaskRecord] | None) -> None:
            if records is None:
                self.timeline.after(1.0, self._try, order)
                return
            (record,) = records
            if order.task_id and order.task_id != record.id:
                raise Violation(f"T3: the same key gave task {order.task_id} and then {record.id}")
            order.task_id = record.id
            self.checks.acknowledge(record, " ".join(order.submission.command))

        try:
            controller.submits(order.pool, [order.submission], answer)
        except ReconcilerError as error:
            self.timeline.say(f"client is refused: {error}")
            self.timeline.after(1.0, self._try, order)
            return
        if keyed:
            self.timeline.after(CLIENT_PATIENCE_S, self._try, order)
        else:
            self.timeline.after(CLIENT_PATIENCE_S, self._give_up, order)

    def _give_up(self, order: Order) -> None:
        """Without a key it cannot ask again: whether the task is there it will never know."""
        order.given_up = not order.task_id

    # what has to be so in the end

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.timeline.say("healed")
        self.healed = True
        self.host.calm = True
        self.disk.full = False
        self.meant_down = False
        for frozen in (self.launcher, self.controller):
            if frozen is not None:
                frozen.frozen_until_us = 0
        if self.launcher is None or not self.launcher.alive:
            self.timeline.after(0.5, self.up)

    def converge(self, within_s: float = CONVERGES_WITHIN_S) -> float:
        """Runs until what is wanted is so, and stays so; returns the seconds it took. Raises Violation."""
        began_us = self.timeline.now_us
        while True:
            self.run(1.0)
            self._help_blocked()
            wrong = self.wrong()
            took_s = (self.timeline.now_us - began_us) / 1e6
            if not wrong:
                break
            if took_s > within_s:
                raise Violation(f"I4: after {took_s:.0f} s in peace: {wrong}")
        starts = self.checks.starts
        self.run(STAYS_S)
        if wrong := self.wrong():
            raise Violation(f"I4: it had converged, and does not stay so: {wrong}")
        if self.checks.starts != starts:
            raise Violation(f"I4: {self.checks.starts - starts} starts after everything had converged")
        return took_s

    def _help_blocked(self) -> None:
        """What a person does about a blocked slot: looks for the process, and ends it."""
        if self.launcher is not None and self.launcher.alive:
            for child in self.launcher.machine.children(S.BLOCKED):
                for process in self.living(child.key):
                    if process.instance == child.instance:
                        self.host.end(process, {"signal": 9})

    def wrong(self) -> str:
        """What is not as it is wanted; empty when all is."""
        launcher, controller = self.launcher, self._serving
        if launcher is None or not launcher.alive or controller is None:
            return "the daemon is not up"
        if not controller.loop.idle:
            return f"the controller is not idle ({controller.loop.degraded or 'work left'})"
        store = controller.store
        if sorted(self.desired) != [pool.name for pool in store.all(Pool)]:
            return f"pools {[pool.name for pool in store.all(Pool)]}, declared {sorted(self.desired)}"
        wanted: dict[str, str] = {}
        for pool in store.all(Pool):
            if found := self._wrong_pool(pool, store.owned_by(pool.key, Worker), wanted):
                return found
        if len(store.all(Worker)) != sum(len(store.owned_by(pool.key, Worker)) for pool in store.all(Pool)):
            return "workers without a pool"
        lives = {process.key: process.instance for process in self.host.living}
        if lives != wanted or len(lives) != len(self.host.living):
            return f"{lives} live, wanted are {wanted}"
        known = {child.key: child.instance for child in launcher.machine.children(*(s for s in S if s is not S.ABSENT))}
        if known != wanted:
            return f"the launcher knows {known}, wanted are {wanted}"
        live = {obj.key: obj for model in STORED.values() for obj in store.all(model)}
        if live != self.checks.mirror:
            return f"I9: the watcher knows something else: {sorted(map(str, live.keys() ^ self.checks.mirror.keys()))}"
        return self._wrong_tasks(controller)

    def _wrong_pool(self, pool: Pool, workers: Sequence[Worker], wanted: dict[str, str]) -> str:
        status = pool.status
        if pool.spec != self.desired[pool.name]:
            return f"{pool.key} has another spec than declared"
        if status.observed_generation != pool.metadata.generation:
            return f"{pool.key} has not observed generation {pool.metadata.generation}"
        if pool.spec.tasks is not None:
            return f"{pool.key} has workers" if workers else ""
        if [worker.spec.ordinal for worker in workers] != list(range(pool.spec.replicas)):
            return f"{pool.key} wants {pool.spec.replicas}, there are {[worker.name for worker in workers]}"
        target = template_hash(pool.spec.template)
        failed = status.rollout is not None and status.rollout.failed
        ready = 0
        for worker in workers:
            said = worker.status
            if said.state in (State.COMPLETED, State.FAILED):
                continue
            if said.state is not State.READY or said.process is not Said.UP:
                return f"{worker.key} is {said.state}, process {said.process} ({said.message})"
            if said.template_hash != target and not failed:
                return f"{worker.key} runs template {said.template_hash}, not {target}"
            process = self.host.processes.get(said.pid or 0)
            if process is None or process.instance != said.instance:
                return f"I14: {worker.key} is said to run as pid {said.pid}"
            wanted[f"worker/{worker.name}"] = said.instance
            ready += 1
        if status.ready_replicas != ready:
            return f"I14: {pool.key} says {status.ready_replicas} ready, {ready} are"
        return ""

    def _wrong_tasks(self, controller: Controller) -> str:
        for order in self.orders:
            if not order.task_id and not order.given_up:
                return f"a client still waits for {order.submission.command}"
        for number, record in sorted(self.disk.tasks.items()):
            if not record.state.ended:
                return f"task {number} is {record.state} (claim {record.claim}, due {record.due_ms})"
            if number in self.checks.cancelled and record.state is not TaskState.CANCELLED:
                return f"T13: task {number} was cancelled, which was acknowledged, and is {record.state}"
        for queue in controller.loop.queues:
            if queue.live or queue.claimed or queue.waiting:
                return f"queue {queue.pool} counts {queue.claimed} claimed, {queue.waiting} waiting, {len(queue.live)} live"
        keys = Counter(r.idempotency_key for r in self.disk.tasks.values() if r.idempotency_key is not None)
        if keys and max(keys.values()) > 1:
            return f"T1: a key with several tasks: {keys}"
        for name, spec in self.desired.items():
            if spec.tasks is not None:
                ever = (*self.disk.tasks.values(), *self.disk.retired.values())
                states = Counter(record.state.value for record in ever if record.pool == name)
                counts = self.pool(name).status.tasks
                if counts is None or (counts.succeeded, counts.cancelled, counts.pending, counts.running) != (
                    states["Succeeded"], states["Cancelled"], 0, 0,
                ):  # fmt: skip
                    return f"I14: pool/{name} counts {counts}, there are {dict(states)}"
        return ""

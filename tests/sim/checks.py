"""What must hold, checked against what really happened on the simulated machine. Ids as in the house's list of invariants.

I1   never two live instances of one slot          I6   starts respect the backoff
I2   an acknowledged task is never lost            I9   revisions rise; observedGeneration <= generation; a watch has
I3   a completed task never runs again;                 neither gaps nor duplicates
     one start for each (task, attempt)            I0   nothing runs that was not durable before
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.errors import Gone
from reconciler.policies.backoff import delay_s
from reconciler.resources.kinds import STORED
from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Pool
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker
from reconciler.store.base import Change, TaskRecord
from tests.sim.disk import Disk, DurableStore
from tests.sim.machine import Process
from tests.sim.timeline import Timeline, Violation

TOLERANCE_S = 0.003
UNDER_WAY_S = 10.0
"""So long a word of the launcher can be under way here to a controller that is stopped."""


class Checks:
    """Remembers what happened, and raises Violation at the first step that breaks a promise."""

    def __init__(self, timeline: Timeline, disk: Disk) -> None:
        self.starts = 0
        self.acknowledged: dict[int, str] = {}
        """Tasks a client has been told are durable, and what they were to do."""
        self.cancelled: set[int] = set()
        """Tasks of which a client was told that they are, or will be, cancelled."""
        self.asked_to_end: set[str] = set()
        """Instances a controller has signalled."""
        self.clock_moved_at_us = -1
        """When a controller began whose clock differs from that of the one before."""
        self.mirror: dict[Key, Object] = {}
        """What a watcher knows."""
        self.watched = 0
        self.clock_stepped_at_us = -1
        """When the wall clock was last set."""
        self.clock_offset_us = 0
        """Of the newest controller's clock."""
        self._timeline = timeline
        self._disk = disk
        self._live: dict[str, Process] = {}
        self._tries: dict[tuple[int, int], Process] = {}
        self._ends: dict[int, TaskState] = {}
        self._last: dict[str, Process] = {}
        self._failures: dict[str, int] = {}
        self._templates: dict[str, str] = {}

    # the machine

    def started(self, process: Process) -> None:
        """A process has come to life."""
        self.starts += 1
        self._timeline.say(f"start {process.key} {process.instance} pid {process.pid} slot {process.slot_name}")
        for name in filter(None, (process.key, process.slot_name)):
            other = self._live.get(name)
            if other is not None and (other.alive or (other.escaped and name == process.key and other.contained)):
                self._fails("I1", f"{name}: {process.instance} starts while {other.instance} lives")
            self._live[name] = process
        kind, _, name = process.key.partition("/")
        if kind == "task":
            self._try_started(int(name), process)
        else:
            self._worker_started(name, process)

    def ended(self, process: Process) -> None:
        """A main process has ended."""
        how = "reboot" if process.voided else str(process.status)
        self._timeline.say(f"end   {process.key} {process.instance} pid {process.pid} {how}")

    def start_failed(self, key: str, instance: str, template: str) -> None:
        """A start of that template has failed, as the launcher was told."""
        self._timeline.say(f"no start of {key} {instance}")
        self._another_template(instance.partition(".")[0], template)

    def _another_template(self, uid: str, template: str) -> bool:
        """Whether the slot's start before was of another template (or there was none): then its failures are forgotten."""
        before = self._templates.get(uid)
        self._templates[uid] = template
        if before != template:
            self._failures[uid] = 0
        return before != template

    def _try_started(self, number: int, process: Process) -> None:
        attempt = int(process.instance.rpartition(".")[2])
        row = self._disk.tasks.get(number)
        if row is None:
            self._fails("I0", f"task {number} runs and is not durable")
            return
        if row.state.ended:
            self._fails("I3", f"task {number} has ended as {row.state} and runs again ({process.instance})")
        if row.claim != attempt:
            self._fails("I0", f"task {number} runs as try {attempt}; durable is claim {row.claim}")
        if (number, attempt) in self._tries:
            self._fails("I3", f"try {attempt} of task {number} is started a second time")
        if attempt > row.max_attempts:
            self._fails("I3", f"task {number} has {row.max_attempts} tries; this is number {attempt}")
        self._tries[number, attempt] = process
        before = self._tries.get((number, attempt - 1))
        if before is not None and self._comparable(before):
            pool = self._disk.objects.get(("Pool", row.pool))
            if isinstance(pool, Pool) and pool.spec.tasks is not None:
                rules = pool.spec.tasks.retry.backoff
                wait_s = delay_s(attempt, rules, "") * (1 - 2 * rules.jitter)
                self._waited(f"try {attempt} of task {number}", before, wait_s)

    def _worker_started(self, name: str, process: Process) -> None:
        worker = self._disk.objects.get(("Worker", name))
        if not isinstance(worker, Worker) or worker.status.instance != process.instance:
            self._fails("I0", f"worker {name} runs as {process.instance}, which is not durable")
            return
        uid = process.instance.partition(".")[0]
        before = self._last.get(uid)
        self._last[uid] = process
        if self._another_template(uid, process.template) or before is None:
            return
        pool = self._disk.objects.get(("Pool", worker.spec.pool))
        if not isinstance(pool, Pool):
            return
        rules = pool.spec.restart.backoff
        unseen = before.voided or before.parent is None  # how long it ran nobody knows: until it was found to be gone
        ran_s = ((self._timeline.now_us if unseen else before.noted_us) - before.started_us) / 1e6
        if ran_s >= rules.reset_after_s - 1 or self.clock_moved_at_us >= before.started_us:
            self._failures[uid] = 0  # how long it ran was measured on two clocks
        if before.voided or before.instance in self.asked_to_end:
            return
        skipped = int(process.instance.rpartition(".")[2]) - int(before.instance.rpartition(".")[2]) - 1
        self._failures[uid] += 1
        if skipped == 0 and self._comparable(before):  # with a start in between that failed, its wait began later
            wait_s = delay_s(self._failures[uid], rules, "") * (1 - 2 * rules.jitter)
            self._waited(f"{process.key} {process.instance}", before, wait_s)

    def _comparable(self, before: Process) -> bool:
        """Whether the wait since that end was measured on one clock."""
        stepped_s = (self.clock_stepped_at_us - before.ended_us) / 1e6
        under_way = 0 <= stepped_s <= UNDER_WAY_S
        return not (before.alive or before.voided or under_way) and self.clock_moved_at_us < before.started_us

    def host_goes_down(self) -> None:
        """An end that had not been written down is, afterwards, one by the reboot."""
        for process in self._last.values():
            worker = self._disk.objects.get(("Worker", process.key.partition("/")[2]))
            if not isinstance(worker, Worker) or process.instance != worker.status.counted:
                process.voided = True

    def _waited(self, what: str, before: Process, wait_s: float) -> None:
        waited_s = (self._timeline.now_us - before.ended_us) / 1e6
        if waited_s < wait_s - TOLERANCE_S:
            self._fails("I6", f"{what} starts {waited_s:.3f} s after the end of {before.instance}, not {wait_s:.3f} s")

    # the store

    def opened(self, store: DurableStore) -> None:
        """A controller begins from what is on the disk; the watcher comes back."""
        self.nothing_lost()
        try:
            self._watch(store.changes_since(self.watched))
        except Gone:
            self.mirror = {obj.key: obj for model in STORED.values() for obj in store.all(model)}
            self.watched = store.revision
        store.on_commit(self._committed)

    def _committed(self, changes: Sequence[Change]) -> None:
        if changes:
            said = " ".join(f"{c.type[0]}:{c.object.key}@{c.revision}" for c in changes)
            self._timeline.say(f"commit {said}")
        self._watch(changes)

    def _watch(self, changes: Sequence[Change]) -> None:
        for revision, word, obj in changes:
            key = obj.key
            if revision <= self.watched:
                self._fails("I9", f"revision {revision} of {key} comes after {self.watched}")
            self.watched = revision
            if (word == "ADDED") == (key in self.mirror):
                self._fails(
                    "I9", f"the watch says {word} of {key}, which it {'has' if key in self.mirror else 'lacks'}"
                )
            if word == "DELETED":
                del self.mirror[key]
            else:
                self.mirror[key] = obj
            if isinstance(obj, Pool) and obj.status.observed_generation > obj.metadata.generation:
                self._fails("I9", f"{key} has observed generation {obj.status.observed_generation}, of {obj.metadata}")

    def rows_written(self, numbers: Sequence[int]) -> None:
        """These task rows are new on the disk."""
        for number in numbers:
            state = self._disk.tasks[number].state
            was = self._ends.get(number)
            if was is not None and state is not was:
                self._fails("I3", f"task {number} had ended as {was} and is {state} now")
            if state.ended:
                self._ends[number] = state
                self._timeline.say(f"task {number} is {state}")

    def acknowledge(self, record: TaskRecord, command: str) -> None:
        """A client hears that this task is durable."""
        self._timeline.say(f"client hears of task {record.id}")
        self.acknowledged[record.id] = command
        self.nothing_lost()

    def nothing_lost(self) -> None:
        """I2, at this instant."""
        for number in self.acknowledged:
            if number not in self._disk.tasks and number not in self._disk.retired:
                self._fails("I2", f"task {number} was acknowledged and is not on the disk")

    def _fails(self, id: str, text: str) -> None:
        raise Violation(f"{id}: {text}")

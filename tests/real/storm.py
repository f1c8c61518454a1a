"""Thousands of tasks while controller and launcher are killed over and over, and what the tasks themselves say of it.

    submit --> acknowledged ids        kill -9 the controller, kill -9 the launcher, up again, ...
    each run of a task --> PATH/runs   begin ID TRY KIND | end ID TRY CODE | double ID TRY       one append a line

A run holds a flock of its task's own from its first line to its last: who does not get it has met another run, and says
`double`. Nobody ends a run, so one that does not end has been ended by the product.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from tests.real.house import ENDS, House, eventually

POOL = "batch"
BATCH = 100
AHEAD = 1500
"""So many acknowledged tasks at most have not ended: submissions, too, meet every kill."""

KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("well", {"maxAttempts": 50}),
    ("second", {"maxAttempts": 50}),  # its first try fails
    ("never", {"maxAttempts": 2}),  # each try fails
    ("once", {"maxAttempts": 1, "onUnknown": "Fail"}),  # at most once
    ("well", {"maxAttempts": 50, "priority": 150}),
)
RETRY = {"backoff": {"initial": "10ms", "max": "10ms", "jitter": 0}}

EXEC = """
exec 9>>"$LEDGER/locks/$RECONCILER_TASK"
flock -n 9 || echo "double $RECONCILER_TASK $RECONCILER_ATTEMPT" >>"$LEDGER/runs"
echo "begin $RECONCILER_TASK $RECONCILER_ATTEMPT $0" >>"$LEDGER/runs"
case $0.$RECONCILER_ATTEMPT in second.1 | never.*) code=7 ;; *) code=0 ;; esac
echo "end $RECONCILER_TASK $RECONCILER_ATTEMPT $code" >>"$LEDGER/runs"
exit $code
"""

WARM = """
import fcntl, os
from reconciler.worker import serve
runs = os.open(os.environ["LEDGER"] + "/runs", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def note(*words): os.write(runs, (" ".join(map(str, words)) + "\\n").encode())
def handle(task):
    lock = os.open(f"{os.environ['LEDGER']}/locks/{task.id}", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("double", task.id, task.attempt)
    note("begin", task.id, task.attempt, task.payload)
    fails = task.payload == "never" or (task.payload == "second" and task.attempt == 1)
    note("end", task.id, task.attempt, 7 if fails else 0)
    os.close(lock)
    if fails:
        raise OSError("this time it fails")
serve(handle, whole=True)
"""


class Run(NamedTuple):
    """One run of a task, as it says itself; `code` None: it did not come to its end."""

    attempt: int
    began: int
    """The place of its first line among all."""
    code: int | None


class Weather(NamedTuple):
    """How often who is killed."""

    controller_s: float
    """On average so long after it serves; every fourth time so long after its start instead."""
    launcher_s: float


class Storm:
    """One pool, its tasks, and the kills."""

    def __init__(self, house: House, mode: str, slots: int, count: int, seed: int) -> None:
        self.house, self.mode, self.slots, self.count = house, mode, slots, count
        self.kind_of: dict[str, str] = {}
        """What has been acknowledged."""
        self.controllers_killed = self.launchers_killed = 0
        self.seen: dict[str, int] = {}
        """Task whose success the API has told -> the lines there were then, at least."""
        self._rng = random.Random(seed)
        self._ended = 0
        self._over = threading.Event()

    @property
    def lost_at_most(self) -> int:
        """So many runs can have been under way, or given to a worker, when a launcher died: of those nobody saw the end."""
        return self.launchers_killed * self.slots * (1 if self.mode == "PerTask" else DEPTH)

    def rage(self, weather: Weather, within_s: float) -> None:
        """Until every task has ended, and each has been killed at least once."""
        house = self.house
        (house.path / "locks").mkdir()
        (house.path / "runs").touch()
        tasks: dict[str, Any] = {"mode": self.mode, "retry": RETRY}
        if self.mode == "Warm":
            tasks["depth"] = DEPTH
            house.manifest(POOL, [sys.executable, "-c", WARM], replicas=self.slots, tasks=tasks)
        else:
            house.manifest(POOL, replicas=self.slots, tasks=tasks)
        house.up()
        deadline, launcher_at = time.monotonic() + within_s, time.monotonic() + weather.launcher_s
        with ThreadPoolExecutor(1) as threads:
            submitting = threads.submit(self._submit)
            try:
                while not (submitting.done() and self._ended == self.count and self.launchers_killed):
                    assert time.monotonic() < deadline, f"{self._ended} of {self.count} ended within {within_s:g} s"
                    if submitting.done():
                        submitting.result()
                    if time.monotonic() > launcher_at:
                        house.kill_launcher()
                        self.launchers_killed += 1
                        house.up()
                        launcher_at = time.monotonic() + weather.launcher_s
                    if self.controllers_killed % 4:
                        eventually(house.serving, 60.0)
                        self._look()
                    self._over.wait(self._rng.uniform(0, 2 * weather.controller_s))
                    before = house.kill_controller()
                    self.controllers_killed += 1
                    eventually(lambda old=before: house.controller() != old, 30.0)
            finally:
                self._over.set()
            submitting.result()

    def _submit(self) -> None:
        for first in range(0, self.count, BATCH):
            while len(self.kind_of) - self._ended > AHEAD and not self._over.is_set():
                self._over.wait(0.02)
            kinds = [KINDS[number % len(KINDS)] for number in range(first, min(self.count, first + BATCH))]
            body = [
                {"idempotencyKey": f"task {first + number}", **fields, **self._work(kind)}
                for number, (kind, fields) in enumerate(kinds)
            ]
            while (ids := self._acknowledged(body)) is None:
                if self._over.wait(0.02):
                    return
            assert not self.kind_of.keys() & set(ids), "an id was given twice"
            self.kind_of.update(zip(ids, (kind for kind, _ in kinds), strict=True))

    def _work(self, kind: str) -> dict[str, Any]:
        return {"payload": kind} if self.mode == "Warm" else {"command": ["/bin/sh", "-c", EXEC, kind]}

    def _acknowledged(self, body: Sequence[dict[str, Any]]) -> list[str] | None:
        """The ids; None when nobody took them, or nobody said so: then they are given again."""
        try:
            status, answer = self.house.api("POST", f"/api/v1/pools/{POOL}/tasks", body, timeout_s=30.0)
        except OSError:
            return None
        if status in (404, 503):  # its manifest has not been read yet; it is on its way down
            return None
        assert status == 201, (status, answer)
        return [task["metadata"]["name"] for task in answer]

    def _look(self) -> None:
        """How far it is; and some of the successes that are recorded by now."""
        try:
            counts = self.house.ask("pools", POOL)["status"]["tasks"]
            self._ended = sum(counts[name[0].lower() + name[1:]] for name in ENDS)
            anywhere = self._rng.randrange(1 + len(self.kind_of))
            found = self.house.ask("tasks", query=f"?pool={POOL}&state=Succeeded&limit=200&continue={anywhere}")
        except OSError:
            return
        lines = len(self._lines())
        for task in found:
            self.seen.setdefault(task["metadata"]["name"], lines)

    def _lines(self) -> list[str]:
        return (self.house.path / "runs").read_text().splitlines()

    # --- what came of it ---

    def ends(self) -> dict[str, dict[str, Any]]:
        """The status of every task."""
        found: dict[str, dict[str, Any]] = {}
        while page := self.house.get(
            "tasks", query=f"?pool={POOL}&limit=5000&continue={max(map(int, found), default=0)}"
        ):
            found.update((task["metadata"]["name"], task["status"]) for task in page)
        return found

    def runs(self) -> dict[str, list[Run]]:
        """The runs of every task, in their order; asserts that no two of one task met."""
        found: defaultdict[str, list[Run]] = defaultdict(list)
        for place, line in enumerate(self._lines()):
            what, id_, attempt, *more = line.split()
            assert what != "double", f"two runs of task {id_} at once"
            if what == "begin":
                found[id_].append(Run(int(attempt), place, None))
            else:
                last = found[id_][-1]
                assert last.attempt == int(attempt) and last.code is None, (id_, found[id_], line)
                found[id_][-1] = last._replace(code=int(more[0]))
        return found

    def judge(self) -> str:
        """Holds what the product says against what the tasks say; returns the figures."""
        ends, runs = self.ends(), self.runs()
        assert ends.keys() == self.kind_of.keys() and len(ends) == self.count, "a task was lost, or none asked for it"
        unseen = 0
        for id_, status in ends.items():
            kind, mine = self.kind_of[id_], runs.get(id_, [])
            tries = [run.attempt for run in mine]
            told = (id_, kind, status, mine)
            assert tries == sorted(set(tries)) and len(tries) <= status["attempts"], f"a try ran twice: {told}"
            unseen += status["attempts"] - (2 if kind in ("second", "never") else 1)
            succeeded = [run for run in mine if run.code == 0]
            match status["state"]:
                case "Succeeded":
                    assert kind != "never" and succeeded and succeeded[-1].attempt == tries[-1], told
                    assert tries[-1] == status["attempts"], told
                case "DeadLettered":
                    assert kind == "never" and status["attempts"] == 2, told
                case "Unknown":
                    assert kind == "once" and status["reason"] == "ExitUnknown" and len(tries) <= 1, told
                    unseen += 1
                case state:
                    raise AssertionError(f"{state}: {told}")
            if id_ in self.seen:
                assert mine[-1].began < self.seen[id_], f"it ran again after its success was recorded: {told}"
        assert unseen <= self.lost_at_most, f"{unseen} ends unseen, {self.lost_at_most} can have been"
        cut = sum(run.code is None for mine in runs.values() for run in mine)
        assert cut <= (0 if self.mode == "PerTask" else self.launchers_killed * self.slots), f"{cut} runs had no end"
        states = Counter(status["state"] for status in ends.values())
        figures = {
            "controllers killed": self.controllers_killed,
            "launchers killed": self.launchers_killed,
            "runs": sum(map(len, runs.values())),
            **states,
            "tries whose end nobody saw": unseen,
            "successes looked at meanwhile": len(self.seen),
        }
        return json.dumps(figures)

    def assert_settled(self) -> None:
        """Another death of everybody changes no end and starts nothing."""
        ends, lines = self.ends(), len(self._lines())
        self.house.kill_launcher()
        self.house.up()
        assert self.ends() == ends and len(self._lines()) == lines


DEPTH = 64
"""So many tasks at most are given to one warm worker ahead."""

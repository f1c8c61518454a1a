"""Behaviour as text: each story in this folder says what is done to a small house, and under `----` what it plans.

    apply web replicas=3            the pool, as it is wanted; `template=` `policy=` `maxRestarts=` `grace=` `minReady=` ...
    answer web-1 readiness=no       its probe is answered, a second later; `startup=3` and the like in `apply` declare one
    crash web-1 code=3              its process ends by itself: code= or signal= or start=ERRNO (for starts to come)
    ----
    start worker/web-1 i2 (restart after exit code 3)

The house has a clock that only `advance` moves, a store in memory, and a machine that starts everything at once and on
which every stop signal works, unless the story says otherwise. Instances are written i1, i2, ..., templates by their word.
`STORIES=write pytest tests/stories` writes what is planned now into the stories: read the difference before it is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reconciler.controllers import pool as pool_controller
from reconciler.controllers import worker as worker_controller
from reconciler.controllers.base import (
    Action,
    Charge,
    Cleanup,
    Create,
    Delete,
    Mode,
    Plan,
    Queue,
    Record,
    Remove,
    SetSpec,
    SetStatus,
    Signal,
    Spawn,
)
from reconciler.controllers.tally import Tally
from reconciler.policies import probe
from reconciler.policies.budget import Grant
from reconciler.policies.start_failure import explain
from reconciler.resources.meta import Key, Metadata, Object
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus, Template, template_hash
from reconciler.resources.probe import Kind
from reconciler.resources.restart import RestartPolicy, RestartPolicySpec
from reconciler.resources.revision import Revision, revision_name
from reconciler.resources.units import moment
from reconciler.resources.worker import LastExit, Process, Reason, Worker
from reconciler.runtime.budgets import Budgets
from reconciler.store.memory import MemoryStore

T = TypeVar("T", bound=Object)
HERE = Path(__file__).parent
START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STORIES = sorted(HERE.glob("*.txt"))
LONGEST_QUIET = 200
"""So many rounds without rest are a house that never comes to rest."""


@dataclass
class House:
    """A store, the controllers, and a machine made of values."""

    now: datetime = START
    mode: Mode = Mode.RUNNING
    lines: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    stubborn: set[str] = field(default_factory=set)
    """Workers that only SIGKILL ends."""
    deaf: set[str] = field(default_factory=set)
    """Workers that no signal ends, or reaches."""
    start_errors: dict[str, str] = field(default_factory=dict)
    exits_at_once: dict[str, int] = field(default_factory=dict)
    due: dict[Key, datetime] = field(default_factory=dict)
    tallies: dict[tuple[str, str], probe.Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryStore(lambda: self.now)
        self.budgets = Budgets(self.store, self.now)

    # the World

    def get(self, model: type[T], name: str) -> T | None:
        return self.store.get(model, name)

    def owned_by(self, owner: Key, model: type[T]) -> Sequence[T]:
        return self.store.owned_by(owner, model)

    def tally(self, pool: str) -> Tally:
        return Tally(self.owned_by(Key("Pool", pool), Worker))

    def dependents(self, pool: str) -> Sequence[Pool]:
        return [one for one in self.store.all(Pool) if any(needed.name == pool for needed in one.spec.depends_on)]

    def template(self, pool: str, template_hash: str) -> Template | None:
        revision = self.store.get(Revision, revision_name(pool, template_hash))
        return revision.spec.template if revision is not None else None

    def queue(self, pool: str) -> Queue:
        raise AssertionError("no story is about tasks yet asks for a queue")

    def grant(self, pool: Pool, seed: str, now: datetime) -> Grant:
        return self.budgets.grant(pool, seed, now)

    # the loop

    def settle(self) -> None:
        """Plans everything until a whole round changes nothing; a plan made twice must not act twice."""
        for _ in range(LONGEST_QUIET):
            before = self.store.revision
            acted = [self._plan(key) for key in self._keys()]
            if self.store.revision == before and not any(acted):
                return
        raise AssertionError("the house never comes to rest")

    def _keys(self) -> list[Key]:
        return [obj.key for model in (Pool, Worker) for obj in self.store.all(model)]

    def _plan(self, key: Key) -> bool:
        plan: Plan = _PLANS[key.kind](key, self, self.now)
        self.due.pop(key, None)
        if plan.requeue_at is not None:
            assert plan.requeue_at > self.now, f"{key} wants to be planned at a moment that has passed"
            self.due[key] = plan.requeue_at
        for action in plan.actions:
            self._act(action)
        return bool(plan.actions)

    def _act(self, action: Action) -> None:
        match action:
            case Create(object=obj):
                self.store.create(obj)
                if isinstance(obj, Worker):
                    self.lines.append(f"create {obj.key} ({self._word(obj.spec.template_hash)})")
            case Delete(key=key, reason=reason):
                obj = self.store.get(_KINDS[key.kind], key.name)
                assert obj is not None
                self.store.update(obj.changed(metadata=obj.metadata.changed(deleted_at=self.now)))
                self.lines.append(f"delete {key} ({reason})")
            case Remove(key=key):
                self.store.remove(key)
                if key.kind != "Revision":
                    self.lines.append(f"remove {key}")
            case SetSpec(key=key, spec=spec, reason=reason):
                obj = self.store.get(_KINDS[key.kind], key.name)
                assert obj is not None
                self.store.update(obj.changed(spec=spec))
                self.lines.append(f"change {key} ({self._words(reason)})")
            case SetStatus(key=key, status=status):
                self._conditions(key, status)
                self.store.set_status(key, status)
            case Spawn(key=key, instance=instance, status=status, reason=reason):
                worker = self.worker(key.name)
                assert worker.status.process is Process.NONE, f"{key} is started while its last process may live"
                self.store.set_status(key, status)
                self.lines.append(f"start {key} {_short(instance)} ({self._words(reason)})")
                self._begin(key)
            case Signal(key=key, instance=instance, signal=name, tree=tree, reason=reason):
                what = f"kill {key}" if tree else f"send {name} to {key}"
                self.lines.append(f"{what} {_short(instance)} ({self._words(reason)})")
                if key.name not in self.deaf and (tree or key.name not in self.stubborn):
                    self.end(key.name, signal=name)
            case Cleanup(key=key, files=files):
                self.lines.append(f"clean up {key}: {', '.join(files)}")
            case Charge(pool=pool, at=at):
                self.budgets.charge(pool, at)
            case Record(event=said):
                if said.type == "Warning" or said.object.startswith("pool/"):
                    self.lines.append(f"  {said.object} {said.reason}: {self._words(said.message)}")
            case _:
                raise AssertionError(f"no story expects {action}")

    def _conditions(self, key: Key, status: object) -> None:
        if not isinstance(status, PoolStatus):
            return
        pool = self.store.get(Pool, key.name)
        before = {c.type: (c.status, c.reason) for c in pool.status.conditions} if pool is not None else {}
        for c in status.conditions:
            if before.get(c.type) != (c.status, c.reason):
                text = f"  {key} {c.type}={c.status} {c.reason}: {c.message}".rstrip(": ")
                self.lines.append(self._words(text))

    # the machine

    def _begin(self, key: Key) -> None:
        status = self.worker(key.name).status
        error = self.start_errors.get(key.name)
        if error is not None:
            step, number, text = _ERRORS[error]
            end = LastExit(
                reason=Reason.START_FAILED,
                message=explain(step, number, text, "./serve", "/srv/web"),
                at=self.now,
                instance=status.instance,
            )
            self.store.set_status(key, status.changed(process=Process.NONE, last_exit=end))
            return
        self.store.set_status(key, status.changed(process=Process.UP, pid=100 + status.starts, started_at=self.now))
        if key.name in self.exits_at_once:
            self.end(key.name, code=self.exits_at_once[key.name])

    def end(self, name: str, code: int | None = None, signal: str | None = None, reason: Reason | None = None) -> None:
        """The process of a worker is over."""
        worker = self.worker(name)
        if worker.status.process not in (Process.UP, Process.BLOCKED):
            return
        why = reason or (Reason.SIGNALLED if signal else Reason.EXITED)
        end = LastExit(code=code, signal=signal, reason=why, at=self.now, instance=worker.status.instance)
        status = worker.status.changed(process=Process.NONE, pid=None, ready=False, last_exit=end)
        self.store.set_status(worker.key, status)

    def worker(self, name: str) -> Worker:
        worker = self.store.get(Worker, name)
        assert worker is not None, f"there is no worker/{name}"
        return worker

    # the words of a story

    def do(self, line: str) -> None:
        """One command."""
        word, *rest = line.split()
        names = [part for part in rest if "=" not in part]
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        _COMMANDS[word](self, names, options)

    def _word(self, hash_: str) -> str:
        return self.hashes.get(hash_, hash_)

    def _words(self, text: str) -> str:
        for hash_, word in self.hashes.items():
            text = text.replace(hash_, word)
        return text


def _short(instance: str) -> str:
    return f"i{instance.rpartition('.')[2]}"


def _apply(house: House, names: list[str], options: dict[str, str]) -> None:
    word = options.get("template", "A")
    template: dict[str, object] = {
        "command": ["./serve", word],
        "stop": {"gracePeriod": options.get("grace", "30s")},
        "cleanup": {"files": [options["cleanup"]] if "cleanup" in options else []},
    }
    # readiness=3: three failures in a row count; once a second, so that a story is short
    template["probes"] = {
        kind: {"tcpSocket": {"port": 80}, "period": "1s", "failureThreshold": int(options[kind])}
        for kind in Kind
        if kind in options
    }
    restart: dict[str, object] = {"policy": options.get("policy", "Always"), "backoff": {"jitter": 0}}
    if "maxRestarts" in options:
        restart |= {"maxRestarts": int(options["maxRestarts"]), "window": options.get("window", "10m")}
    if "ref" in options:
        restart = {"ref": options["ref"]}
    budget = {"maxRestarts": int(options.get("restartBudget", "0")), "window": options.get("budgetWindow", "1m")}
    strategy = {
        "maxUnavailable": int(options.get("maxUnavailable", "1")),
        "minReady": options.get("minReady", "0s"),
        "progressDeadline": options.get("progressDeadline", "10m"),
    }
    spec = PoolSpec.model_validate(
        {
            "replicas": int(options.get("replicas", "1")),
            "template": template,
            "restart": restart,
            **({"restartBudget": budget} if budget["maxRestarts"] else {}),
            "strategy": strategy,
            "dependsOn": [
                {"name": name, "condition": condition}
                for name, _, condition in (
                    word.partition(":") for word in options.get("dependsOn", "").split(",") if word
                )
            ],
        }
    )
    house.hashes[template_hash(spec.template)] = word
    _declare(house, Pool, names, spec)


def _declare(house: House, model: Any, names: list[str], spec: Any) -> None:
    """Each as it is declared now, whether it was there or not."""
    for name in names:
        there = house.store.get(model, name)
        if there is None:
            house.store.create(model(metadata=Metadata(name=name), spec=spec))
        else:
            house.store.update(there.changed(spec=spec))
    house.settle()


def _policy(house: House, names: list[str], options: dict[str, str]) -> None:
    rules: list[dict[str, object]] = []
    for what, action in options.items():
        if what.startswith("exit"):
            rules.append({"exitCodes": {"in": [int(what.removeprefix("exit"))]}, "action": action})
        elif what.startswith("SIG"):
            rules.append({"signals": [what], "action": action})
        elif what != "policy":
            rules.append({"reason": what, "action": action})
    spec = RestartPolicySpec.model_validate(
        {"policy": options["policy"], "backoff": {"jitter": 0}, "rules": rules},
    )
    _declare(house, RestartPolicy, names, spec)


def _delete(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        pool = house.store.get(Pool, name)
        assert pool is not None
        house.store.update(pool.changed(metadata=pool.metadata.changed(deleted_at=house.now)))
    house.settle()


def _advance(house: House, names: list[str], options: dict[str, str]) -> None:
    """The clock moves on, and stops wherever a plan wanted to be made again."""
    end = house.now + timedelta(seconds=float(names[0].removesuffix("s")))
    while True:
        due = min((at for at in house.due.values()), default=end)
        if due > end:
            break
        house.now = max(house.now, due)
        before = len(house.lines)
        for key in [key for key, at in house.due.items() if at <= house.now]:
            del house.due[key]
        house.settle()
        if len(house.lines) > before:
            house.lines.insert(before, f"at {(house.now - START).total_seconds():g}s")
        if due == end:
            break
    house.now = end
    house.settle()


def _crash(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        code = int(options["code"]) if "code" in options else None
        reason = Reason(options["reason"]) if "reason" in options else None
        house.end(name, code=code, signal=options.get("signal"), reason=reason)
    house.settle()


def _answer(house: House, names: list[str], options: dict[str, str]) -> None:
    """A second later each time, a worker's probes are answered: readiness=ok, liveness=no, times=3."""
    for _ in range(int(options.pop("times", "1"))):
        _advance(house, ["1s"], {})
        for name in names:
            for word, said in options.items():
                _answered(house, name, Kind(word), said == "ok")
        house.settle()


def _answered(house: House, name: str, kind: Kind, ok: bool) -> None:
    worker = house.worker(name)
    pool, health = house.store.get(Pool, worker.spec.pool), worker.status.probed
    assert pool is not None and health is not None, f"{name} is not asked anything"
    assert kind in probe.asked(pool.spec.template.probes, health), f"{name} is not asked for its {kind}"
    asked = pool.spec.template.probes.of(kind)
    assert asked is not None
    key = worker.status.instance, kind.value
    tally = probe.count(house.tallies.get(key, probe.Tally()), asked, kind, ok, house.now)
    house.tallies[key] = tally
    health = probe.after(health, asked, kind, tally, ok, "connection refused", house.now)
    house.store.set_status(worker.key, worker.status.changed(health=health))


def _block(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        worker = house.worker(name)
        house.store.set_status(worker.key, worker.status.changed(process=Process.BLOCKED))
    house.settle()


def _stuck(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        worker = house.worker(name)
        house.store.set_status(worker.key, worker.status.changed(stuck=True))
    house.settle()


def _mend(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        house.start_errors.pop(name, None)
        house.exits_at_once.pop(name, None)
        house.stubborn.discard(name)
        house.deaf.discard(name)


def _mode(house: House, names: list[str], options: dict[str, str]) -> None:
    house.mode = Mode(names[0])
    house.settle()


def _show(house: House, names: list[str], options: dict[str, str]) -> None:
    for name in names:
        status = house.worker(name).status
        text = f"{name} {status.state} restarts={status.restarts} failures={status.failures} {status.message}"
        house.lines.append(house._words(text.rstrip()))


_COMMANDS: dict[str, Callable[[House, list[str], dict[str, str]], None]] = {
    "apply": _apply,
    "policy": _policy,
    "delete": _delete,
    "advance": _advance,
    "crash": _crash,
    "answer": _answer,
    "block": _block,
    "stuck": _stuck,
    "mend": _mend,
    "mode": _mode,
    "show": _show,
    "tick": lambda house, names, options: house.settle(),
    "deaf": lambda house, names, options: house.deaf.update(names),
    "stubborn": lambda house, names, options: house.stubborn.update(names),
    "unstartable": lambda house, names, options: house.start_errors.update(dict.fromkeys(names, options["error"])),
    "exits-at-once": lambda house, names, options: house.exits_at_once.update(
        dict.fromkeys(names, int(options["code"]))
    ),
}
_ERRORS = {
    "ENOENT": ("exec", 2, "No such file or directory"),
    "EACCES": ("exec", 13, "Permission denied"),
    "BadWorkdir": ("chdir", 2, "No such file or directory"),
}
_PLANS = {"Pool": pool_controller.plan, "Worker": worker_controller.plan}
_KINDS: dict[str, type[Object]] = {"Pool": Pool, "Worker": Worker, "Revision": Revision}


def _tell(text: str) -> str:
    """The story again, with what is planned now under each `----`."""
    house = House()
    told: list[str] = []
    expecting = False
    for line in text.splitlines():
        if expecting and line.strip():
            continue
        if not line.strip() or line.startswith("#"):
            told.append(line)
            expecting = False
        elif line == "----":
            told += [line, *(house.lines or ["nothing"])]
            house.lines = []
            expecting = True
        else:
            told.append(line)
            house.do(line)
    assert not house.lines, f"the story ends without `----` after its last command: {house.lines}"
    return "\n".join(told) + "\n"


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_the_story_goes_as_it_is_written(path: Path) -> None:
    written = path.read_text()
    told = _tell(written)
    if os.environ.get("STORIES") == "write":
        path.write_text(told)
    else:
        assert told == written


def test_there_are_stories() -> None:
    assert len(STORIES) >= 12


def test_a_story_told_twice_is_the_same() -> None:
    text = "apply web replicas=3\n----\n\ncrash web-1 code=3\n----\n\nadvance 100s\n----\n"
    assert _tell(text) == _tell(text)
    assert moment("2026-11-23T12:00:00Z") == START

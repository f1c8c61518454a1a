"""What goes wrong in one seed: which kinds of fault, when, and to whom. Swarm: each seed has some of them.

seed -> faults -> two pools of workers, one of tasks, clients -> a time of trouble -> peace -> converge
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from reconciler.resources.pool import PoolSpec
from reconciler.resources.probe import Probes
from reconciler.resources.scheduling import SchedulingType
from tests.sim.world import World

FAULTS = (
    "cancels", "clock-steps", "crashes", "deletes", "disk-full", "doubled-frames", "edits", "escapees", "exits-unreadable",
    "failing-starts", "freezes", "ignores-term", "instant-exits", "kill-controller", "kill-launcher", "lost-frames",
    "no-cgroup", "poison", "power-cut", "reboot", "shutdowns", "slow-starts", "slow-wire", "stuck", "unreadable",
    "policies",
    "probes", "probe-errors", "slow-answers", "unwell",
)  # fmt: skip

SHARE = 0.4
TROUBLE_S = 60.0


def faults_of(seed: int) -> tuple[str, ...]:
    """The kinds of fault of a seed."""
    chance = random.Random(f"{seed}/faults")
    return tuple(fault for fault in FAULTS if chance.random() < SHARE)


def workers(replicas: int, version: int, command: str = "serve", grace: str = "3s", **fields: Any) -> PoolSpec:
    """A pool of workers as a manifest says it."""
    return PoolSpec.model_validate(
        {
            "replicas": replicas,
            "template": {"command": [command, str(version)], "stop": {"gracePeriod": grace}},
            "restart": {"backoff": {"initial": "1s", "max": "8s", "resetAfter": "20s"}},
            "strategy": {"progressDeadline": "40s"},
            **fields,
        }
    )


def slots(replicas: int, **fields: Any) -> PoolSpec:
    """A pool of slots as a manifest says it."""
    return PoolSpec.model_validate(
        {
            "replicas": replicas,
            "template": {"stop": {"gracePeriod": "2s"}},
            "tasks": {"retry": {"maxAttempts": 3, "backoff": {"initial": "1s", "max": "4s"}}, **fields},
        }
    )


def probed(spec: PoolSpec) -> PoolSpec:
    """The same with all probes."""
    asks = {"exec": {"command": ["ask"]}, "timeout": "500ms"}
    probes = {
        "startup": {**asks, "period": "1s", "failureThreshold": 6},
        "readiness": {**asks, "period": "2s", "failureThreshold": 2},
        "liveness": {**asks, "period": "3s", "failureThreshold": 3},
    }
    return spec.changed(template=spec.template.changed(probes=Probes.model_validate(probes)))


class Chaos:
    """The trouble of one seed."""

    def __init__(
        self, seed: int, faults: Sequence[str] | None = None, trouble_s: float = TROUBLE_S, **parts: Any
    ) -> None:
        self.world = World(seed, faults_of(seed) if faults is None else faults, **parts)
        self._trouble_s = trouble_s
        self._chance = self.world.timeline.chance("chaos")
        self._version = 1
        self._keys = 0

    def run(self) -> World:
        """Trouble, then peace. Raises Violation."""
        world, chance = self.world, self._chance
        world.timeline.say(f"faults: {', '.join(sorted(world.faults))}")
        self._declare("web", workers(chance.randint(1, 3), 1))
        self._declare("api", workers(chance.randint(1, 2), 1, strategy={"maxUnavailable": 2}))
        self._declare("batch", self._slots(chance.randint(1, 3)))
        world.healed = False
        world.up()
        self._often(2.0, self._submit)
        for fault, mean_s, act in (
            ("edits", 6.0, self._edit),
            ("deletes", 25.0, self._delete),
            ("cancels", 3.0, self._cancel),
            ("crashes", 4.0, self._crash),
            ("kill-controller", 25.0, world.kill_controller),
            ("kill-launcher", 30.0, self._kill_launcher),
            ("freezes", 12.0, self._freeze),
            ("disk-full", 20.0, self._fill_disk),
            ("clock-steps", 15.0, self._step_clock),
            ("shutdowns", 30.0, self._shut_down),
            ("reboot", 40.0, world.reboot),
            ("power-cut", 40.0, self._cut_power),
        ):
            if fault in world.faults:
                self._often(mean_s, act)
        world.run(self._trouble_s)
        self._peace()
        world.converge()
        return world

    def _often(self, mean_s: float, act: Any) -> None:
        chance = self.world.timeline.chance(f"when {getattr(act, '__name__', act)}")
        at_s = chance.expovariate(1 / mean_s)
        while at_s < self._trouble_s:
            self.world.timeline.after(at_s, self._while_troubled, act)
            at_s += chance.expovariate(1 / mean_s)

    def _while_troubled(self, act: Any) -> None:
        if not self.world.healed:
            act()

    def _peace(self) -> None:
        world = self.world
        world.heal()
        self._version += 1
        for name, spec in (("web", workers(2, self._version)), ("api", workers(1, self._version)), ("batch", slots(2))):
            self._declare(name, spec)

    # what is done

    def _declare(self, name: str, spec: PoolSpec) -> None:
        asked = name == "web" and "probes" in self.world.faults
        self.world.declare(name, probed(spec) if asked else spec)

    def _submit(self) -> None:
        chance, world = self._chance, self.world
        command = chance.choice(
            ("work", "work", "work", "poison", "long") if "poison" in world.faults else ("work", "long")
        )
        fields: dict[str, Any] = {}
        if chance.random() < 0.6:
            self._keys += 1
            fields["idempotency_key"] = f"k{self._keys}"
        if chance.random() < 0.3:
            fields |= {"max_attempts": 1, "on_unknown": "Fail"}
        if command == "long" or chance.random() < 0.2:
            fields["timeout_s"] = chance.choice(("1s", "3s"))
        if "policies" in world.faults:
            policies = world.timeline.chance("policies")
            fields |= {
                "priority": policies.choice((10, 100, 100, 250)),
                "tenant": policies.choice(("ads", "ops", None)),
            }
            if policies.random() < 0.2:
                fields["deadline"] = policies.choice((0.5, 3.0, 20.0))
        world.submit("batch", [command, str(len(world.orders))], **fields)

    def _slots(self, replicas: int) -> PoolSpec:
        if "policies" not in self.world.faults:
            return slots(replicas)
        return slots(replicas, scheduling={"type": self.world.timeline.chance("policies").choice(list(SchedulingType))})

    def _edit(self) -> None:
        chance, world = self._chance, self.world
        name = chance.choice(("web", "api", "batch"))
        if name == "batch":
            self._declare(name, self._slots(chance.randint(0, 3)))
            return
        was = world.desired.get(name)
        match chance.choice(("scale", "template", "template", "back", "bad")):
            case "scale" if was is not None:
                self._declare(name, was.changed(replicas=chance.randint(0, 4)))
            case "back" if was is not None:
                self._version += 1
                self._declare(name, workers(was.replicas, self._version))
                world.timeline.after(chance.choice((0.1, 1.0, 3.0)), self._put_back, name, was)
            case "bad":
                self._version += 1
                self._declare(name, workers(chance.randint(1, 3), self._version, chance.choice(("crash", "missing"))))
            case _:
                self._version += 1
                self._declare(name, workers(chance.randint(1, 3), self._version, grace=chance.choice(("1s", "5s"))))

    def _put_back(self, name: str, spec: PoolSpec) -> None:
        if not self.world.healed:
            self._declare(name, spec)

    def _delete(self) -> None:
        name = self._chance.choice(("web", "api", "batch"))
        self.world.withdraw(name)
        spec = slots(2) if name == "batch" else workers(2, self._version)
        self.world.timeline.after(self._chance.choice((0.1, 1.0, 8.0)), self._put_back, name, spec)

    def _cancel(self) -> None:
        known = [order.task_id for order in self.world.orders[-6:] if order.task_id]
        if known:
            self.world.cancel(self._chance.choice(known))

    def _crash(self) -> None:
        living = self.world.living()
        if living:
            status = self._chance.choice(({"code": 1}, {"code": 0}, {"signal": 9}, {"signal": 11}))
            self.world.host.end(self._chance.choice(living), status)

    def _kill_launcher(self) -> None:
        self.world.kill_launcher(self._chance.choice((0.05, 1.0, 8.0)))

    def _freeze(self) -> None:
        who = self._chance.choice((self.world.launcher, self.world.controller))
        if who is not None:
            self.world.timeline.say(f"{type(who).__name__.lower()} is stopped")
            who.frozen_until_us = self.world.timeline.now_us + round(self._chance.uniform(0.2, 8) * 1e6)

    def _fill_disk(self) -> None:
        self.world.timeline.say("the disk is full")
        self.world.disk.full = True
        self.world.timeline.after(self._chance.uniform(0.5, 10), self._free_disk)

    def _free_disk(self) -> None:
        self.world.timeline.say("the disk has room")
        self.world.disk.full = False

    def _step_clock(self) -> None:
        self.world.step_clock(self._chance.choice((-3600.0, -30.0, -1.0, 1.0, 30.0, 3600.0, 315_360_000.0)))

    def _shut_down(self) -> None:
        launcher = self.world.launcher
        if launcher is not None and launcher.alive:
            launcher.terminate()
            if self._chance.random() < 0.3:
                self.world.timeline.after(self._chance.uniform(0, 3), launcher.terminate)

    def _cut_power(self) -> None:
        self.world.reboot(keeps_journal=False)

"""The commands before the stop signals, when no controller is there and the launcher stops everything from its records.

    begin -> command -> over, or the grace period is -> stop signal -> (the rest of the grace, 2 s at least) -> SIGKILL

Contract: each is run once, also when a controller that died had begun with it; whatever comes of it, the signal follows.
"""

from __future__ import annotations

from collections.abc import Callable

from . import system
from .children import Children
from .machine import Child, Machine, Stop
from .protocol import PRE_STOP_KIND, PRE_STOP_MARK, Template
from .starter import Prepared
from .table import S
from .timers import Timers, now

AFTER_S = 2.0
"""What a process has from its stop signal on when its command has used the grace period up."""

_UNDER_WAY = frozenset((S.WAITING, S.INTENDED, S.UP))


class PreStops:
    """Those under way. `kill` ends what lives of a child."""

    def __init__(self, machine: Machine, children: Children, timers: Timers, kill: Callable[[Child], None]) -> None:
        self._machine = machine
        self._children = children
        self._timers = timers
        self._kill = kill
        self._before: dict[str, Stop] = {}
        """By instance of the child whose stop waits."""

    def begin(self, stop: Stop) -> bool:
        """Has the child's command run, or waits for the one that runs; False: it has none, or has had it."""
        child = stop.child
        if child.pre_stop is None:
            return False
        env = child.pre_stop.env
        if env is None:  # it was started by an earlier launcher, and stands in no record
            env = _environment(child.pid)
        template = Template(**{**child.pre_stop.template, "id": _instance(child), "argv": [], "env": env})
        self._children.prepared[template.id] = Prepared(template)
        self._machine.register(template)
        own = {"RECONCILER_INSTANCE": _instance(child)}
        self._machine.spawn(_key(child), _instance(child), template.id, child.pre_stop.argv, own, child.log)
        self._before[child.instance] = stop
        self._timers.at(stop.kill_at, self._too_late, stop)
        return True

    def look(self) -> None:
        """Once a turn: what has nothing before it any longer gets its stop signal."""
        for stop in list(self._before.values()):
            command = self._machine.alive(_key(stop.child), _instance(stop.child))
            if command is None or command.state not in _UNDER_WAY:
                self._go_on(stop)

    def _too_late(self, stop: Stop) -> None:
        if stop.child.instance in self._before:
            command = self._machine.alive(_key(stop.child), _instance(stop.child))
            if command is not None:
                self._kill(command)
            self._go_on(stop)

    def _go_on(self, stop: Stop) -> None:
        del self._before[stop.child.instance]
        self._children.signal(stop.child, stop.signo, "group")
        self._timers.at(max(stop.kill_at, now() + AFTER_S), self._kill, stop.child)


def _key(child: Child) -> str:
    return f"{PRE_STOP_KIND}/{child.key.partition('/')[2]}"


def _instance(child: Child) -> str:
    return child.instance + PRE_STOP_MARK


def _environment(pid: int) -> dict[str, str]:
    """What it was started with, as far as it has not written something else there."""
    pairs = [pair.partition(b"=") for pair in (system.environ_of(pid) or b"").split(b"\0") if b"=" in pair]
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape") for name, _, value in pairs
    }

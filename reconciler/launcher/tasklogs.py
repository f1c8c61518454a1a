"""When the spare file that a task writes to gets the name of the task's log, and when the log goes because it is empty.

lent --- has run for a while --> named          over, written --> named          over, empty --> lent to the next one
"""

from __future__ import annotations

from .logs import Logs
from .machine import Child
from .table import S
from .timers import Timers
from .wires import complain

NAME_LOGS_S = 0.1
"""A task's output stands under its own name when it is over, or has been running for so long or twice as long."""


class TaskLogs:
    """The logs of the tasks that run, and of those that are just over."""

    def __init__(self, logs: Logs, timers: Timers) -> None:
        self._logs = logs
        self._timers = timers
        self._young: list[Child] = []
        """Tasks that write to a spare, begun since the last look for such."""
        self._unnamed: list[Child] = []
        """Those of the look before that."""
        self._unnameable = False

    def name(self, child: Child) -> None:
        """From now on the log of a task stands under its own name."""
        if child.spare is None or child.log is None:
            return
        try:
            self._logs.name(child.spare, child.log)
        except OSError as error:
            if not self._unnameable:
                complain(f"logs/{child.log} cannot be made, its text stays in logs/.spare/{child.spare}: {error}")
            self._unnameable = True
            self.name_later(child)
        else:
            child.spare = None
            self._unnameable = False

    def name_later(self, child: Child) -> None:
        if not (self._young or self._unnamed):
            self._timers.later(NAME_LOGS_S, self._name_logs)
        self._young.append(child)

    def _name_logs(self) -> None:
        """What was running already at the last look is shown while it runs."""
        children, self._unnamed, self._young = self._unnamed, self._young, []
        if self._unnamed:
            self._timers.later(NAME_LOGS_S, self._name_logs)
        for child in children:
            if child.state is S.UP or child.exit.get("log_bytes"):
                self.name(child)

    def settle(self, child: Child, reuse: bool) -> None:
        """Of a task that is over and its tree gone: an empty log goes."""
        if child.lane is None or child.log is None or child.exit.get("log_bytes"):
            return
        if child.spare is None:
            self._logs.remove(child.log)
        elif self._logs.take_back(child.spare, reuse):
            child.spare = None
        else:
            self.name(child)  # somebody of its group has written after its end

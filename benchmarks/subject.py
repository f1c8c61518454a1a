"""What can keep processes up, as the figures see it: ours, a peer, the floor.

    subject.start(directory, count, command)  ->  Running      returns when it has been executed, not when it is ready
    running.workers()                             who works now, as /proc says
    running.stop()                                ends it and all it runs; the seconds that took

Every command ends up as a `sleep` (by exec), so a worker is a process of that name at its place in the tree.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import machine

PROGRAM = "sleep"
SLEEP = [machine.which(PROGRAM), "100000"]
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 60.0


class Part(NamedTuple):
    """The processes of one kind that a subject itself consists of: its launcher, or 1,000 times runsv."""

    name: str
    pids: list[int]


class Tree:
    """A subject at work: one process was started; workers are its children, or those of the helpers `between`."""

    def __init__(
        self,
        argv: Sequence[str],
        directory: Path,
        part: str,
        helper: str = "helper",
        between: bool = False,
        environment: Mapping[str, str] | None = None,
        status_command: Sequence[str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.status_command = status_command
        """What a person types to see all workers."""
        self.up_after_s = 0.0
        """Seconds from its execution until all workers ran."""
        self.environment = {**os.environ, **(environment or {})}
        self._part, self._helper, self._between, self._stop_signal = part, helper, between, stop_signal
        with (directory / "output").open("ab") as output:
            self.began_at = time.monotonic()
            self.process = subprocess.Popen(
                argv,
                cwd=directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def workers(self) -> list[int]:
        """The processes that have passed exec and run the command now."""
        level = machine.children(self.process.pid)
        if self._between:
            level = [child for pid in level for child in machine.children(pid)]
        return [pid for pid in level if machine.command_name(pid) == PROGRAM]

    def wait_all_up(self, count: int) -> None:
        """Waits until `count` workers run; sets `up_after_s`. Raises TimeoutError, RuntimeError.

        Looks only at the number of children at first, which costs the machine little; then at each child.
        """
        machine.wait_for(
            lambda: len(machine.children(self._living())) >= count and len(self.workers()) >= count,
            f"{count} workers up",
            START_DEADLINE_S,
        )
        self.up_after_s = time.monotonic() - self.began_at

    def parts(self) -> list[Part]:
        """The processes of the subject itself."""
        found = [Part(self._part, [self.process.pid])]
        below = [pid for pid in machine.children(self.process.pid) if machine.command_name(pid) != PROGRAM]
        if below:
            found.append(Part(self._helper, below))
        return found

    def stop(self) -> float:
        """Ends the subject and all it runs; the seconds from the signal to the last end. Raises TimeoutError."""
        everyone = [self.process.pid, *machine.descendants(self.process.pid)]
        began = time.monotonic()
        self.process.send_signal(self._stop_signal)
        machine.wait_exits(everyone, STOP_DEADLINE_S)
        took = time.monotonic() - began
        self.process.wait()
        return took

    def _living(self) -> int:
        if (code := self.process.poll()) is not None:
            raise RuntimeError(f"{self._part} ended with {code}")
        return self.process.pid


class Subject(Protocol):
    """Something that keeps processes up."""

    name: str

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Tree: ...


@contextmanager
def started(subject: Subject, count: int, command: Sequence[str] = SLEEP) -> Iterator[Tree]:
    """A subject with all its workers up, in a directory of its own; ended afterwards unless the block did that."""
    with machine.work_directory(subject.name) as directory:
        tree = subject.start(directory, count, command)
        try:
            tree.wait_all_up(count)
            yield tree
        except BaseException:
            machine.show_tail(directory / "output")
            machine.end_what_is_left()  # before its directory goes: it may still write there
            raise
        if tree.process.poll() is None:
            tree.stop()

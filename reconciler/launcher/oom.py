"""Which processes the kernel has killed because memory ran out, by its own log.

    6,1234,17897486231,-;Memory cgroup out of memory: Killed process 28330 (python3) total-vm:...

For processes without a memory limit of their own: the host, or the container around us, ran out. Where /dev/kmsg may not be
read, or counts pids of another namespace, such an end is a kill from outside.
"""

from __future__ import annotations

import os
import re
import time

_KILLED = re.compile(rb"^\d+,\d+,(\d+),[^;]*;.*Killed process (\d+) \(")
_RECORD_BYTES = 8192
RECENT_S = 30.0
"""Longer ago, and the pid may be another's by now."""


class KernelLog:
    """The kernel's log from now on."""

    def __init__(self, path: str = "/dev/kmsg") -> None:
        self._killed: dict[int, float] = {}
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self._fd = -1  # it takes root, and a /dev that has it

    def killed(self, pid: int) -> bool:
        """Whether the kernel has just killed this process for memory."""
        while self._fd >= 0:
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                break
            except BrokenPipeError:
                continue  # records were overwritten before they were read: the next one is there
            if not record:
                break  # no log that goes on
            found = _KILLED.match(record)
            if found is not None:
                self._killed[int(found[2])] = int(found[1]) / 1e6
        earliest = time.clock_gettime(time.CLOCK_MONOTONIC) - RECENT_S
        self._killed = {number: at for number, at in self._killed.items() if at >= earliest}
        return pid in self._killed

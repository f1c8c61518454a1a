"""The least a Python supervisor can be: fork_exec, pidfd, epoll and nothing else. What the figures are held against.

    floor.py up COUNT COMMAND...         keeps COUNT processes up: a new one at once for each that ends; SIGTERM ends all
    floor.py tasks --slots N --count N [--ahead K] [--rate PER_S] JOURNAL
                                         runs /bin/true COUNT times, each claim and end in a journal that is synced
                                         (fdatasync, one a turn) before the next start; prints its figures as JSON

No configuration, no logs, no containment, nothing survives its death. With --rate, tasks arrive in batches of 10 at
intended moments, whatever became of the ones before; else all are there at the beginning.
"""

from __future__ import annotations

import _posixsubprocess
import argparse
import json
import os
import select
import signal
import sys
import time
from collections import deque
from subprocess import _USE_VFORK
from typing import Any

BATCH = 10
PEEK = os.WEXITED | os.WNOHANG
fork_exec: Any = _posixsubprocess.fork_exec
"""As `subprocess` calls it; private, but the same from Python 3.11 on."""
ENVIRONMENT = [b"PATH=/usr/local/bin:/usr/bin:/bin"]


class Children:
    """Processes in sessions of their own, each with a pidfd in one epoll."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.pids: dict[int, int] = {}
        """pidfd -> pid"""
        self._null = os.open("/dev/null", os.O_RDWR)
        self._errors, self._report = os.pipe()
        os.set_blocking(self._errors, False)

    def start(self, argv: list[bytes], program: bytes) -> int:
        """Starts one; its pidfd. Raises OSError when it could not be executed."""
        standard = (self._null, -1, -1, self._null, -1, self._null)
        identity = (None, None, None)
        pid: int = fork_exec(
            *(argv, [program], False, (), None, ENVIRONMENT, *standard, self._errors, self._report),
            *(True, True, -1, *identity, -1, None, _USE_VFORK),
        )
        pidfd = os.pidfd_open(pid)
        self.pids[pidfd] = pid
        self.epoll.register(pidfd, select.EPOLLIN)
        try:
            failed = os.read(self._errors, 1024)
        except BlockingIOError:
            return pidfd
        raise OSError(f"cannot execute {program!r}: {failed!r}")

    def reap(self, pidfd: int) -> None:
        os.waitid(os.P_PIDFD, pidfd, PEEK)
        self.epoll.unregister(pidfd)
        os.close(pidfd)
        del self.pids[pidfd]


def keep_up(count: int, command: list[str]) -> None:
    """Runs until SIGTERM or SIGINT, then ends all and returns."""
    argv = [os.fsencode(word) for word in command]
    program = _resolve(command[0])
    children = Children()
    wake, awake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(awake)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    children.epoll.register(wake, select.EPOLLIN)

    for _ in range(count):
        children.start(argv, program)
    stopping = False
    while not stopping or children.pids:
        for fd, _ in children.epoll.poll():
            if fd == wake:
                os.read(wake, 64)
                stopping = True
                for pid in children.pids.values():
                    os.killpg(pid, signal.SIGTERM)
                continue
            children.reap(fd)
            if not stopping:
                children.start(argv, program)


def run_tasks(slots: int, count: int, ahead: int, rate_per_s: float, journal: str) -> dict[str, object]:
    """Runs `count` tasks; a turn is: see ends, note ends and next claims, sync, start what is claimed.

    `ahead` tasks are claimed beyond the free slots, so that a slot that becomes free while the disk syncs can be
    filled without waiting for the next sync.
    """
    argv, program = [b"true"], _resolve("true")
    children = Children()
    log = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    task_of: dict[int, int] = {}
    waiting: deque[int] = deque()
    claimed: deque[int] = deque()
    began, spent_s = time.monotonic(), time.process_time()
    intended_at: list[float] = []
    done_at: list[float] = []
    latencies: list[float] = []
    arrived = 0

    while len(done_at) < count:
        now = time.monotonic()
        while arrived < count and (not rate_per_s or began + arrived / rate_per_s <= now):
            batch = min(BATCH, count - arrived)
            at = began + arrived / rate_per_s if rate_per_s else began
            intended_at += [at] * batch
            waiting.extend(range(arrived, arrived + batch))
            arrived += batch

        ended = children.epoll.poll(
            0 if waiting and len(claimed) < ahead + slots - len(task_of) else _until(began, arrived, count, rate_per_s)
        )
        notes = []
        finished = []
        for pidfd, _ in ended:
            children.reap(pidfd)
            finished.append(task_of.pop(pidfd))
            notes.append(f"end {finished[-1]} 0\n")
        while claimed and len(task_of) < slots:  # their claims are on the disk already
            task = claimed.popleft()
            task_of[children.start(argv, program)] = task
        while waiting and len(claimed) < slots - len(task_of) + ahead:
            task = waiting.popleft()
            claimed.append(task)
            notes.append(f"claim {task}\n")
        if notes:
            os.write(log, "".join(notes).encode())
            os.fdatasync(log)
        now = time.monotonic()
        for task in finished:
            done_at.append(now)
            latencies.append(now - intended_at[task])
        while claimed and len(task_of) < slots:
            task = claimed.popleft()
            task_of[children.start(argv, program)] = task

    spent_us = (time.process_time() - spent_s) / count * 1e6
    return {"perS": count / (done_at[-1] - began), "cpuUs": spent_us, "latencies": latencies if rate_per_s else []}


def _until(began: float, arrived: int, count: int, rate_per_s: float) -> float | None:
    """How long to sleep at most: until the next batch is due; None when none comes any more."""
    if arrived >= count or not rate_per_s:
        return None
    return max(0.0, began + arrived / rate_per_s - time.monotonic())


def _resolve(command: str) -> bytes:
    for directory in os.get_exec_path({"PATH": "/usr/local/bin:/usr/bin:/bin"}):
        path = os.path.join(directory, command)
        if os.access(path, os.X_OK):
            return os.fsencode(path)
    raise FileNotFoundError(command)


def main() -> None:
    parser = argparse.ArgumentParser(description="The least a Python supervisor can be.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up")
    up.add_argument("count", type=int)
    up.add_argument("command", nargs=argparse.REMAINDER)
    tasks = verbs.add_parser("tasks")
    tasks.add_argument("--slots", type=int, required=True)
    tasks.add_argument("--count", type=int, required=True)
    tasks.add_argument("--ahead", type=int, default=0)
    tasks.add_argument("--rate", type=float, default=0.0)
    tasks.add_argument("journal")
    chosen = parser.parse_args()
    if chosen.verb == "up":
        keep_up(chosen.count, chosen.command)
    else:
        json.dump(run_tasks(chosen.slots, chosen.count, chosen.ahead, chosen.rate, chosen.journal), sys.stdout)


if __name__ == "__main__":
    main()

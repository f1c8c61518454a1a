"""A real launcher, and the test itself as its controller.

    launcher  ->  stub (child 0)  -- SCM_RIGHTS -->  the test

The stub hands the launcher's socket and the API socket over to the test and then lives until it is told to exit or killed;
so a test says what a controller would say, and kills the "controller" as it likes.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.launcher import __file__ as _launcher_package
from reconciler.launcher import cgroups, containment
from reconciler.launcher.protocol import Decoder, frame

ENTRY = os.path.join(os.path.dirname(_launcher_package), "__main__.py")
DEADLINE_S = 30.0

STUB = """
import array, os, socket, sys
fds = [int(os.environ["RECONCILER_LAUNCHER_FD"]), int(os.environ["RECONCILER_API_FD"])]
desk = socket.socket(socket.AF_UNIX)
desk.connect(sys.argv[1])
names = [n for n in os.environ if n.startswith("RECONCILER_")]
desk.sendmsg([(str(os.getpid()) + " " + ",".join(names)).encode()],
             [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
for fd in fds:
    os.close(fd)
code = desk.recv(1)
os._exit(code[0] if code else 0)
"""


class Controller:
    """What the test is while one stub lives."""

    def __init__(self, desk: socket.socket, mark: str) -> None:
        self._desk = desk
        self._desk.settimeout(DEADLINE_S)
        self._mark = mark
        fds = array.array("i")
        text, extra, _, _ = desk.recvmsg(4096, socket.CMSG_SPACE(2 * fds.itemsize))
        fds.frombytes(extra[0][2])
        pid, names = text.decode().split(" ")
        self.pid = int(pid)
        self._pidfd = os.pidfd_open(self.pid)
        self.variables = names.split(",")
        self.sock = socket.socket(fileno=fds[0])
        self.api = socket.socket(fileno=fds[1])
        self.sock.settimeout(DEADLINE_S)
        self._decoder = Decoder()
        self.heard: list[list[Any]] = []
        self.about: dict[str, Any] = {}
        self._acked = 0

    def greet(self, serving: bool = True) -> None:
        self.say(["hello", 1])
        self.about = self.wait(lambda: self.of("hello"))[0][2]
        if serving:
            self.say(["serving"])

    def say(self, *messages: list[Any]) -> None:
        self.sock.sendall(frame(messages))

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def template(self, name: str, argv: list[str], **fields: Any) -> None:
        env = {"PATH": "/usr/bin:/bin", "TEST_MARK": self._mark, **fields.pop("env", {})}
        self.say(["register", name, {"argv": argv, "env": env, **fields}])

    def spawn(self, key: str, instance: str, template: str, argv: Any = None, env: Any = None, log: Any = None) -> None:
        env = {"RECONCILER_INSTANCE": instance, **(env or {})}
        self.say(["spawn", [[key, instance, template, argv, env, log]]])

    def run(self, key: str, argv: list[str], log: str | None = None, **fields: Any) -> str:
        """A template of its own and one start; returns the instance."""
        instance = f"{key}-{time.monotonic_ns()}"
        self.template(instance, argv, **fields)
        self.spawn(key, instance, instance, log=log)
        return instance

    def read(self, timeout_s: float) -> bool:
        """Takes in what has come; false when nothing came, EOFError when the launcher is gone."""
        if not select.select([self.sock], [], [], max(0.001, timeout_s))[0]:
            return False
        data = self.sock.recv(1 << 18)
        if not data:
            raise EOFError
        self.heard.extend(self._decoder.feed(data))
        return True

    def wait(self, found: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
        until = time.monotonic() + deadline_s
        while not (value := found()):
            left = until - time.monotonic()
            assert left > 0, f"not within {deadline_s} s; heard {self.heard[-20:]}"
            self.read(min(left, 0.05))  # what is waited for need not be a message
        return value

    def of(self, word: str) -> list[list[Any]]:
        return [message for message in self.heard if message[0] == word]

    def rows(self, word: str) -> list[list[Any]]:
        return [row for message in self.of(word) for row in message[1]]

    def started(self, instance: str) -> list[Any]:
        """[key, instance, pid, started_ms, slot]"""
        return self.wait(lambda: [row for row in self.rows("started") if row[1] == instance])[0]  # type: ignore[no-any-return]

    def pid_of(self, instance: str) -> int:
        return int(self.started(instance)[2])

    def exit(self, instance: str, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        rows = self.wait(lambda: [row for row in self.rows("exited") if row[2] == instance], deadline_s)
        return rows[0][3]  # type: ignore[no-any-return]

    def emptied(self, instance: str, deadline_s: float = DEADLINE_S) -> int:
        """How many of its processes had escaped."""
        return int(self.wait(lambda: [row for row in self.rows("emptied") if row[1] == instance], deadline_s)[0][2])

    def listing(self) -> tuple[list[list[Any]], list[list[Any]]]:
        """The children, and the exits that are not acknowledged."""
        before = len(self.heard)
        self.say(["list"])
        self.wait(lambda: [m for m in self.heard[before:] if m[0] == "children"])
        self.round_trip()
        said = self.heard[before:]
        return (
            [row for message in said if message[0] == "children" for row in message[1]],
            [row for message in said if message[0] == "exited" for row in message[1]],
        )

    def round_trip(self) -> None:
        """Everything said before has been done when this returns."""
        before = len(self.of("recalled"))
        self.say(["recall", []])
        self.wait(lambda: len(self.of("recalled")) > before)

    def leave(self, code: int) -> None:
        """The stub exits."""
        self.sock.close()
        self._desk.send(bytes([code]))

    def kill(self) -> None:
        self.end()
        self.close()

    def end(self) -> None:
        """kill -9 of the stub, and of nobody who has its pid after it."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self.sock.close()
        self.api.close()
        self._desk.close()


class House:
    """One state directory, and the launchers that hold it one after another."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self._desk_path = str(directory / "desk")
        self._desk = socket.socket(socket.AF_UNIX)
        self._desk.bind(self._desk_path)
        self._desk.listen(16)
        self._desk.settimeout(DEADLINE_S)
        self.process: subprocess.Popen[bytes] | None = None
        self.controllers: list[Controller] = []
        self.pids: set[int] = set()
        self._directory = directory
        self.stderr_path = directory / "stderr"
        self.entry = ENTRY

    def start(
        self,
        *options: str,
        env: dict[str, str] | None = None,
        python: str = sys.executable,
        wrapper: Sequence[str] = (),
        **popen: Any,
    ) -> None:
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                [*wrapper, python, "-I", "-S", self.entry, "--state", str(self.state), *options, "--", *self.stub(python)],
                env={**os.environ, **(env or {})}, stderr=stderr, stdin=subprocess.DEVNULL, **popen,
            )  # fmt: skip

    def stub(self, python: str) -> list[str]:
        return [python, "-I", "-S", "-c", STUB, self._desk_path]

    def controller(self, greet: bool = True, serving: bool = True) -> Controller:
        """The next stub that comes to the desk."""
        desk, _ = self._desk.accept()
        controller = Controller(desk, str(self._directory))
        self.controllers.append(controller)
        if greet:
            controller.greet(serving)
        return controller

    def up(self, *options: str, **start: Any) -> Controller:
        self.start(*options, **start)
        return self.controller()

    def kill(self) -> None:
        """kill -9 of the launcher; its controller is killed too, as it would exit by itself."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for controller in self.controllers:
            controller.kill()
        self.controllers.clear()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, deadline_s: float = DEADLINE_S) -> int:
        assert self.process is not None
        return self.process.wait(deadline_s)

    def own(self, name: str) -> str:
        """An instance of that name that no other test has: processes are told by it on the whole machine."""
        return f"{name}-{hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:12]}"

    @property
    def stderr(self) -> str:
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def journal(self) -> list[list[Any]]:
        lines = (self.state / "launcher.journal").read_text().splitlines()
        return [record for line in lines for record in json.loads(line)]

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        for controller in self.controllers:
            controller.close()
        self._desk.close()
        for pid in tree_of(str(self._directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _remove_cgroup(str(self.state))


def _remove_cgroup(state: str) -> None:
    """What a launcher that was killed has left of its cgroups."""
    limited = cgroups.Cgroups(state, print)
    parents = [place.parent for place in limited._places.values()]

    def gone() -> bool:
        limited.close()
        return not any(map(os.path.isdir, parents))

    until(gone)
    parent = containment._parent_cgroup(state)
    if parent is not None:
        leaves = [entry.path for entry in os.scandir(parent) if entry.is_dir()]
        until(lambda: not any(containment._populated(leaf) for leaf in leaves))
        for path in (*leaves, parent):
            containment._remove(path)


def tree_of(mark: str) -> list[int]:
    """Processes that carry the mark in their environment: what a test has left behind."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                environ = Path(f"/proc/{name}/environ").read_bytes()
            except OSError:
                continue
            if f"TEST_MARK={mark}".encode() in environ.split(b"\0"):
                found.append(int(name))
    return found


def alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    end = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline_s} s"
        time.sleep(0.005)
    return value


@pytest.fixture
def process_is_alive() -> Callable[[int], bool]:
    return alive


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    short = Path(os.path.realpath(tmp_path))
    made = House(short)
    try:
        yield made
    finally:
        made.close()

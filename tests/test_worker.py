"""A warm worker in Python: what it says on its channel, whatever its handler does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HANDLER = """
import os, sys, time
from reconciler.worker import Failed, serve
def handle(payload):
    if payload == "print":
        print("a stray word"); os.system("echo and another")
        return "quiet"
    if payload == "raise": raise ValueError("no good")
    if payload == "fail": raise Failed("never")
    if payload == "odd": return {1, 2}
    if payload == "large": return "x" * 600_000
    if payload == "sleep":
        print("asleep", flush=True)
        while not os.path.exists(sys.argv[1]): time.sleep(0.01)
    return payload
serve(handle)
"""


class Worker:
    """One, and the other end of its channel."""

    def __init__(self, code: str, log: Path) -> None:
        ours, theirs = socket.socketpair()
        fd = theirs.fileno()
        with open(log, "wb") as stderr:
            words = [sys.executable, "-c", code, str(log.with_name("wake"))]
            self.process = subprocess.Popen(words, stdin=fd, stdout=fd, stderr=stderr)
        theirs.close()
        ours.settimeout(60)
        self.sock = ours
        self._lines = ours.makefile("rb")
        self._frames: list[Any] = []

    def send(self, *payloads: Any) -> None:
        frames = [{"id": str(number), "attempt": 1, "payload": p} for number, p in enumerate(payloads, 1)]
        self.sock.sendall(json.dumps(frames).encode() + b"\n")

    def frame(self) -> Any:
        while not self._frames:
            line = self._lines.readline()
            if not line:
                return None
            found = json.loads(line)
            self._frames = found if isinstance(found, list) else [found]
        return self._frames.pop(0)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(HANDLER, tmp_path / "log")
    assert made.frame() == {"ready": True}
    yield made
    made.process.kill()
    made.process.wait()
    made.sock.close()


def test_tasks_are_answered_in_the_order_in_which_they_came(worker: Worker) -> None:
    worker.send("a", {"b": [1]}, None)

    assert [worker.frame() for _ in range(3)] == [
        {"id": "1", "ok": True, "result": "a"},
        {"id": "2", "ok": True, "result": {"b": [1]}},
        {"id": "3", "ok": True, "result": None},
    ]


def test_what_a_handler_prints_is_log_and_no_answer(worker: Worker, tmp_path: Path) -> None:
    worker.send("print")

    assert worker.frame() == {"id": "1", "ok": True, "result": "quiet"}
    worker.sock.shutdown(socket.SHUT_WR)
    assert worker.process.wait(60) == 0
    assert sorted((tmp_path / "log").read_text().split("\n")) == ["", "a stray word", "and another"]


def test_an_exception_asks_for_another_try_and_Failed_does_not(worker: Worker) -> None:
    worker.send("raise", "fail", "odd", "large")

    assert worker.frame() == {"id": "1", "ok": False, "error": "ValueError: no good", "retry": True}
    assert worker.frame() == {"id": "2", "ok": False, "error": "never", "retry": False}
    assert worker.frame()["error"].startswith("TypeError: Object of type set is not JSON")
    assert "put it into a file" in worker.frame()["error"]


def test_SIGTERM_lets_the_task_at_hand_be_finished_and_begins_no_other(worker: Worker, tmp_path: Path) -> None:
    worker.send("first", "sleep", "never begun")
    assert worker.frame()["id"] == "1"  # given at once, for the next one takes long
    end = time.monotonic() + 30
    while (tmp_path / "log").read_text() != "asleep\n":
        assert time.monotonic() < end

    os.kill(worker.process.pid, signal.SIGTERM)
    (tmp_path / "wake").touch()

    assert worker.frame() == {"id": "2", "ok": True, "result": "sleep"}
    assert worker.frame() is None and worker.process.wait(60) == 0


def test_SIGTERM_ends_a_worker_that_waits(worker: Worker) -> None:
    os.kill(worker.process.pid, signal.SIGTERM)

    assert worker.process.wait(60) == 0


def test_only_the_standard_library_is_loaded(tmp_path: Path) -> None:
    code = "import sys, reconciler.worker; print([m for m in sys.modules if m.startswith('reconciler')])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert found.stdout == "['reconciler', 'reconciler.worker']\n"

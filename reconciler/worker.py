"""What a warm worker in Python needs: `serve` takes tasks from the daemon and gives answers back.

    from reconciler.worker import serve

    model = load()                       # once, before the first task
    serve(lambda payload: model.score(payload["text"]))

    stdin    {"id": "17", "attempt": 1, "payload": ..., "key": ..., "deadline": ...}      or an array of such, a line each
    stdout   {"ready": true}, then for each  {"id": "17", "ok": true, "result": ...}
                                         or  {"id": "17", "ok": false, "error": "...", "retry": true}

Only the standard library, and no other file of this package. Tasks are done one after another, in the order they come.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple, NoReturn

MAX_RESULT_BYTES = 512 << 10
"""A larger result belongs into a file, whose name is the result."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Failed(Exception):
    """Raised by a handler: the task has failed, and another try would fail too. Any other exception asks for one."""


class Task(NamedTuple):
    """One task as it came."""

    id: str
    attempt: int
    payload: Any
    key: str | None
    deadline: str | None
    """RFC 3339, UTC."""


def serve(handle: Callable[[Any], Any], *, whole: bool = False) -> None:
    """Answers tasks with what `handle(payload)` returns, which must be JSON; returns when the daemon closes the channel.

    `whole`: the handler is called with the Task instead of its payload. An exception is a failed try: it is tried again as
    the pool's `retry` says, unless it is `Failed`. SIGTERM lets the task at hand be finished, then the process ends.
    From here on file descriptor 1 is stderr: what the handler prints is log, never an answer.
    """
    channel = _Channel()
    channel.send('{"ready":true}')
    for frame in channel.frames():
        channel.send(_answer(handle, frame, whole))  # at once: the next task may take long


class _Channel:
    """The two ends, moved out of the way of whoever reads stdin or prints."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._in, self._out = os.dup(0), os.dup(1)  # not inherited by what a handler starts
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._waiting = self._stopping = False
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._stop)

    def frames(self) -> Iterator[dict[str, Any]]:
        """One after another; ends with the channel, and after SIGTERM."""
        rest = b""
        while True:
            self._waiting = True
            if self._stopping:
                self._end()
            data = os.read(self._in, 1 << 18)
            self._waiting = False
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                found = json.loads(line)
                for frame in found if isinstance(found, list) else [found]:
                    yield frame
                    if self._stopping:
                        self._end()

    def send(self, text: str) -> None:
        """One line."""
        data = (text + "\n").encode()
        while data:
            data = data[os.write(self._out, data) :]

    def _stop(self, signo: int, frame: FrameType | None) -> None:
        self._stopping = True
        if self._waiting:
            self._end()

    def _end(self) -> NoReturn:
        raise SystemExit(0)


def _answer(handle: Callable[[Any], Any], frame: dict[str, Any], whole: bool) -> str:
    """The answer to one task, whatever its handler does."""
    task = Task(frame["id"], frame["attempt"], frame.get("payload"), frame.get("key"), frame.get("deadline"))
    try:
        result = _encode(handle(task if whole else task.payload))
    except Failed as error:
        return _encode({"id": task.id, "ok": False, "error": str(error) or "Failed", "retry": False})
    except Exception as error:
        traceback.print_exc()
        return _encode({"id": task.id, "ok": False, "error": f"{type(error).__name__}: {error}", "retry": True})
    if len(result) > MAX_RESULT_BYTES:
        message = (
            f"a result of {len(result)} bytes, more than {MAX_RESULT_BYTES}: put it into a file and return its name"
        )
        return _encode({"id": task.id, "ok": False, "error": message, "retry": False})
    return f'{{"id":{_encode(task.id)},"ok":true,"result":{result}}}'

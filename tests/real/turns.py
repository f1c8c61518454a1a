"""A holder for the tests: takes turns with others at a lock, and writes to what it protects.

python turns.py SOCKET LOCK FENCED HISTORY     until its standard input ends; each operation is a line of HISTORY
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from reconciler.client import Client
from reconciler.errors import ReconcilerError, Unreachable
from tests.coordination.fenced import FencedFile, Stale


def main() -> None:
    """Takes turns until nobody wants it to."""
    socket, name, fenced, history = sys.argv[1:]
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    file, log = FencedFile(Path(fenced)), os.open(history, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(called_s: float, kind: str, token: int, ok: bool) -> None:
        os.write(log, f"{called_s!r} {time.monotonic()!r} {kind} {token} {int(ok)}\n".encode())

    while not over.is_set():
        called_s = time.monotonic()
        try:
            lock = Client(socket).lock(name, timeout_s=60)
        except Unreachable:
            continue
        note(called_s, "acquire", lock.token, True)
        try:
            for _ in range(3):
                file.write(lock.token, lock.session)
        except Stale:
            note(time.monotonic(), "stale", lock.token, True)
        called_s = time.monotonic()
        try:
            ok = lock.release()
        except ReconcilerError:
            ok = False
        note(called_s, "release", lock.token, ok)


if __name__ == "__main__":
    main()

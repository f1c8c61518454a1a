"""Named instants at which the tests end this process as `kill -9` would; standard library only, free when unused.

    RECONCILER_CRASH_AT=controller.after-commit:3    ends the process at the third passing of that point
    RECONCILER_CRASH_TRACE=FILE                      appends each name passed, so that a dry run enumerates them all

Both variables are read once, and neither is handed on to a worker. A point stands before and after every durable step.
"""

from __future__ import annotations

import os
from collections.abc import Callable

VARIABLES = ("RECONCILER_CRASH_AT", "RECONCILER_CRASH_TRACE")

EXIT_CODE = 137


def _nothing(name: str) -> None:
    """No crash was asked for."""


def _armed(at: str, trace: str) -> Callable[[str], None]:
    wanted, _, nth = at.partition(":")
    left = int(nth or 1)
    fd = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600) if trace else -1

    def crash_point(name: str) -> None:
        nonlocal left
        if fd >= 0:
            os.write(fd, f"{name}\n".encode())
        if name == wanted:
            left -= 1
            if left == 0:
                os._exit(EXIT_CODE)

    return crash_point


_at, _trace = (os.environ.get(name, "") for name in VARIABLES)

ARMED = bool(_at or _trace)

crash_point: Callable[[str], None] = _armed(_at, _trace) if ARMED else _nothing
"""Call it with the name of the instant, `part.before-what` or `part.after-what`."""

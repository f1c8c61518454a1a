"""How much CPU a running task has used, and giving it less of it from then on.

Only of children of the launcher that lead a group of their own, as every task does: a number that another process has got in
the meantime is not touched. With autogroups a session competes as one, so its weight is the one that counts.
"""

from __future__ import annotations

import os
from contextlib import suppress

_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
MOST_NICE = 19


def cpu_ms(pid: int) -> int | None:
    """With the children that it has waited for; None: it is not there, or not a task of ours."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            # after the name, which may hold anything: state ppid pgrp ... utime stime cutime cstime
            fields = file.read(4096).rpartition(b")")[2].split()
    except OSError:
        return None
    if len(fields) < 15 or int(fields[1]) != os.getppid() or int(fields[2]) != pid:
        return None
    return round(sum(map(int, fields[11:15])) * _TICK_MS)


def renice(pid: int, nice: int) -> None:
    """Its whole group yields to others that much. Raises OSError; one that has ended is none."""
    with suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PGRP, pid, nice)
    with suppress(OSError), open(f"/proc/{pid}/autogroup", "wb", buffering=0) as file:
        file.write(str(nice).encode())  # where there are none, or changes come too fast, the group's weight has to do


def nice_of(level: int, levels: int) -> int:
    """How much a task of that level yields: 0 at the first, all of it at the last."""
    return round(MOST_NICE * level / (levels - 1)) if levels > 1 else 0

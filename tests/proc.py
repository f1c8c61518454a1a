"""What a test reads of another process."""

from __future__ import annotations

import time
from pathlib import Path


def environ_of(pid: int, deadline_s: float = 30.0) -> dict[str, str]:
    """The environment a program was started with.

    Who has vforked goes on while the kernel is still building the new program's memory: for some microseconds after a
    start is reported there is nothing to read, so this waits.
    """
    end = time.monotonic() + deadline_s
    while not (found := Path(f"/proc/{pid}/environ").read_bytes()):
        assert time.monotonic() < end, f"{pid} has no environment"
        time.sleep(0.001)
    pairs = (pair.partition(b"=") for pair in found.split(b"\0") if pair)
    return {name.decode(): value.decode() for name, _, value in pairs}

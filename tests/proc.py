"""What a test reads of another process, one that it starts with a pid of its choice, and a port for it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import random
import signal
import socket
import struct
import time
from pathlib import Path

import pytest


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


_CLONE3 = {"x86_64": 435, "aarch64": 435}


def sleeper_with_pid(pid: int, deadline_s: float = 30.0) -> int:
    """Starts `sleep` as a process with this pid, which has just become free; the caller ends it.

    By clone3's set_tid and not by ns_last_pid: that would let every other process of the machine begin with a pid that
    somebody has just stopped to use.
    """
    libc = ctypes.PyDLL(None, use_errno=True)  # the child goes on in Python and needs the lock
    wanted = ctypes.c_int(pid)
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    end = time.monotonic() + deadline_s
    while True:
        found = libc.syscall(_CLONE3[platform.machine()], arguments, ctypes.c_size_t(len(arguments)))
        if found == 0:
            try:
                os.setsid()
                os.execv("/bin/sleep", ["sleep", "1000"])
            finally:
                os._exit(127)
        if found > 0:
            return int(found)
        if ctypes.get_errno() == errno.EPERM:
            pytest.skip("missing right: clone3 with set_tid, to choose a pid")
        # gone from /proc, and its number not yet given back
        assert ctypes.get_errno() == errno.EEXIST and time.monotonic() < end, os.strerror(ctypes.get_errno())
        time.sleep(0.001)


def free_port() -> int:
    """A TCP port that nobody has, and that the kernel gives to nobody who asks for any or connects to somewhere."""
    while True:
        with socket.socket() as probe:
            port = random.SystemRandom().randrange(16_000, 32_000)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                assert error.errno == errno.EADDRINUSE
            else:
                return port

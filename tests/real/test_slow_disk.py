"""A disk that takes seconds for each sync: what is acknowledged comes late and is durable, what runs is not touched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.real.house import House, eventually, worker

SLOW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
static void wait_as_told(void) {
    char text[32] = {0};
    const char *path = getenv("SLOW_SYNC_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    if (read(fd, text, sizeof text - 1) < 0) text[0] = 0;
    close(fd);
    usleep(1000 * atol(text));
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    wait_as_told();
    return real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    wait_as_told();
    return real(fd);
}
"""


def test_fault_C11_while_the_disk_is_slow_no_worker_is_touched_and_what_is_acknowledged_stays(house: House) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc to slow the syncs of one process")
    source, library, delay = house.path / "slow.c", house.path / "slow.so", house.path / "slow"
    source.write_text(SLOW)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, capture_output=True)
    delay.write_text("0")
    alive = {"exec": {"command": ["true"]}, "period": "2s", "timeout": "2s", "failureThreshold": 1}
    house.manifest("web", worker("ledger"), replicas=2, template={"probes": {"liveness": alive}})
    house.manifest("batch", replicas=1)
    house.up(env={"LD_PRELOAD": str(library), "SLOW_SYNC_FILE": str(delay)})
    pids = house.living("web", 2)
    controller = house.controller()

    delay.write_text("2500")  # milliseconds, of each sync
    began = time.monotonic()
    status, body = house.api("POST", "/api/v1/pools/batch/tasks", {"command": worker("task", 0)}, timeout_s=30.0)
    assert (status, time.monotonic() - began >= 2.4) == (201, True), "it is acknowledged when it is durable"
    os.kill(house.controller(), signal.SIGKILL)  # what was acknowledged is not lost with it
    delay.write_text("0")

    assert house.task_ended(body["metadata"]["name"])["state"] == "Succeeded"
    assert house.controller() != controller
    assert house.pids("web") == pids, "no probe has blamed a worker for the disk"
    said = eventually(lambda: house.serving() and house.workers("web"))
    assert {one["restarts"] for one in said.values()} == {0}

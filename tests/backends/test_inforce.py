"""What limits a process, as it is shown."""

from __future__ import annotations

import os
import resource
import subprocess

import pytest

from reconciler.backends.inforce import _number, in_force
from reconciler.resources.pool import Template


def test_a_process_is_shown_with_its_own_limits() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = in_force(os.getpid())
    assert (shown["uid"], shown["gid"]) == (os.geteuid(), os.getegid())
    assert shown["rlimits"]["nofile"] == limits[0]
    assert "notEnforced" not in shown


def test_what_was_asked_for_and_is_not_so_is_named() -> None:
    # an enormous limit that no machine sets by itself would still be shown as the smaller one; so ask where there is none
    shown = in_force(os.getpid())
    free = [name for name in ("memory", "cpu", "pids") if name not in shown["limits"]]
    if not free:
        pytest.skip("every limit is set on this very process")
    asked = {"memory": "1Gi", "cpu": "500m", "pids": 20}
    template = Template.model_validate({"resources": {"limits": asked}, "sandbox": {"readWritePaths": ["/srv"]}})
    shown = in_force(os.getpid(), template)
    assert shown["notEnforced"] == free
    assert shown["readWritePaths"] == ["/srv"]


def test_of_a_process_that_has_ended_nothing_is_shown() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert in_force(process.pid) == {}
    process.wait()
    assert in_force(process.pid) == {}


def test_a_cgroup_that_is_removed_while_it_is_read_limits_nothing() -> None:
    point = next((p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{p}/cgroup.procs")), "")
    cgroup = f"{point}/test-in-force-{os.getpid()}"
    try:
        os.mkdir(cgroup)
    except OSError:
        pytest.skip("needs a cgroup v2 below which it may make one")
    opened = os.open(f"{cgroup}/cgroup.max.depth", os.O_RDONLY)
    os.rmdir(cgroup)
    try:
        with pytest.raises(OSError, match="No such device"):
            os.read(opened, 10)
        assert _number(f"/proc/self/fd/{opened}") is None
    finally:
        os.close(opened)

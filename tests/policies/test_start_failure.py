"""What a failed start says to a person."""

from __future__ import annotations

import os
from errno import E2BIG, EACCES, EAGAIN, ENOENT, ENOEXEC, ENOSPC, EPERM

import pytest

from reconciler.policies.start_failure import explain


@pytest.mark.parametrize(
    ("step", "errno", "words"),
    [
        pytest.param("exec", ENOENT, ["/srv/run.sh", "ENOENT", "interpreter", "CRLF"], id="fault_P1_missing"),
        pytest.param("resolve", ENOENT, ["/srv/run.sh", "ENOENT", "PATH"], id="fault_P1_not_in_path"),
        pytest.param("chdir", ENOENT, ["BadWorkdir", "/srv/app", "workingDir"], id="fault_P2_working_dir"),
        pytest.param("chdir", EACCES, ["BadWorkdir", "/srv/app", "enter"], id="fault_P2_working_dir_closed"),
        pytest.param("exec", EACCES, ["EACCES", "chmod +x", "noexec"], id="fault_P3_no_x_bit"),
        pytest.param("exec", ENOEXEC, ["ENOEXEC", "#!", "another machine"], id="fault_P4_no_shebang"),
        pytest.param("exec", E2BIG, ["E2BIG", "too long"], id="too_long"),
        pytest.param("fork", EAGAIN, ["EAGAIN", "no more processes"], id="fault_P9_no_more_processes"),
        pytest.param("log", ENOSPC, ["ENOSPC", "disk is full"], id="disk_full"),
        pytest.param("identity", EPERM, ["EPERM", "only root"], id="not_root"),
    ],
)
def test_it_names_the_step_the_file_the_errno_and_the_mend(step: str, errno: int, words: list[str]) -> None:
    message = explain(step, errno, os.strerror(errno), "/srv/run.sh", "/srv/app")
    assert message.startswith(f"{step}: ")
    assert os.strerror(errno) in message
    assert all(word in message for word in words), message


def test_an_errno_nobody_knows_is_still_said() -> None:
    assert explain("exec", 9999, "", "x", "/") == "exec: x: failed (9999)"

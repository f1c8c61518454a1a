"""exec: a command beside a running worker, as that worker."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.proc import environ_of
from tests.real.house import House, worker


def test_a_command_runs_with_the_workers_environment_directory_and_limits(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"), template={"workingDir": "/usr", "ports": [{"name": "http", "base": 9100}]})
    pid = shared.living(name, 1)[f"{name}-0"]
    found = shared.cli("exec", f"worker/{name}-0", "--", "sh", "-c", "pwd; umask; ulimit -n; env -0; exit 7")
    assert found.returncode == 7, found.stderr
    directory, umask, descriptors, environment = found.stdout.split("\n", 3)
    assert (directory, umask) == ("/usr", "0022")
    theirs = environ_of(pid)
    ours = dict(pair.split("=", 1) for pair in environment.split("\0") if pair)
    assert {key: ours[key] for key in theirs} == theirs
    assert ours["PORT"] == "9100"
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            assert line.split()[3] == descriptors


def test_input_output_and_codes_are_the_commands_own(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"))
    shared.living(name, 1)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return shared.cli("exec", f"worker/{name}-0", "--", *command, input="from here")

    assert run("cat").stdout == "from here"
    assert run("sh", "-c", "echo wrong >&2").stderr == "wrong\n"
    assert run("sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert run("no-such-command").returncode == 127
    assert run("/etc/passwd").returncode == 126
    assert shared.cli("exec", "worker/nobody-0", "--", "true").returncode == 4
    assert shared.cli("exec", f"pool/{name}", "--", "true").returncode == 2
    assert shared.cli("exec", f"worker/{name}-0").returncode == 2


def test_a_command_runs_as_the_workers_user_and_in_its_control_groups(root: None, shared: House, name: str) -> None:
    shared.apply(name, ["sleep", "1000"], template={"user": "nobody"})
    pid = shared.ready(name, 1)[f"{name}-0"]
    found = shared.cli("exec", f"worker/{name}-0", "--", "sh", "-c", "id -u; cat /proc/self/cgroup")
    assert found.returncode == 0, found.stderr
    user, groups = found.stdout.split("\n", 1)
    assert int(user) == os.stat(f"/proc/{pid}").st_uid != 0
    assert groups == Path(f"/proc/{pid}/cgroup").read_text()


def test_what_does_not_run_is_refused(shared: House, name: str) -> None:
    shared.apply(name, ["/no/such/program"])
    shared.failed_start(f"{name}-0")
    found = shared.cli("exec", f"worker/{name}-0", "--", "true")
    assert found.returncode == 5 and "does not run now" in found.stderr

"""Limits and identity end to end: declared, enforced, shown, and told apart when they end a process."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from reconciler.launcher.cgroups import Cgroups
from tests.real.house import House, eventually, worker

EAT = ["python3", "-c", "bytearray(200 << 20)"]
SMALL = {"resources": {"limits": {"memory": "48Mi"}}}


def needs(controller: str) -> pytest.MarkDecorator:
    why = Cgroups("/nowhere", print).about()[controller]
    return pytest.mark.skipif(why.startswith("no: "), reason=f"{controller} cannot be limited here: {why}")


def in_force(house: House, name: str) -> dict[str, Any]:
    status = eventually(lambda: (s := house.worker(name)).get("inForce") and s, what="what is in force")
    return dict(status["inForce"])


def test_what_is_in_force_is_shown_as_the_kernel_has_it(shared: House, name: str) -> None:
    template = {
        "nice": 3,
        "umask": "027",
        "rlimits": {"nofile": 777, "as": "8Gi"},
        "sandbox": {"noNewPrivileges": True},
    }
    shared.apply(name, worker("ledger"), template=template)
    shared.living(name, 1)
    shown = in_force(shared, f"{name}-0")
    assert (shown["nice"], shown["umask"], shown["noNewPrivileges"]) == (3, "0027", True)
    assert (shown["rlimits"]["nofile"], shown["rlimits"]["as"], shown["rlimits"]["core"]) == (777, "8Gi", "0")
    assert "notEnforced" not in shown
    page = shared.cli("describe", f"worker/{name}-0").stdout
    assert "inForce:" in page and "nofile: 777" in page


@needs("memory")
@needs("cpu")
@needs("pids")
def test_limits_of_the_tree_are_in_force_and_shown(shared: House, name: str) -> None:
    limits = {"memory": "64Mi", "cpu": "500m", "pids": 30}
    shared.apply(
        name, worker("ledger"), template={"resources": {"limits": limits, "cpuWeight": 33, "enforcement": "Required"}}
    )
    shared.living(name, 1)
    assert in_force(shared, f"{name}-0")["limits"] == {**limits, "cpuWeight": 33}


def test_another_user_group_and_groups_are_taken(shared: House, name: str, root: None) -> None:
    shared.apply(name, ["sleep", "1000"], template={"user": "nobody", "group": "daemon", "groups": ["games", "adm"]})
    shown = in_force(shared, f"{name}-0")
    assert (shown["user"], shown["gid"]) == ("nobody", 1)
    assert len(shown["groups"]) == 2


def test_fault_P39_nothing_of_the_daemon_leaks_into_what_it_starts(house: House) -> None:
    house.up(wrapper=["sh", "-c", 'umask 077; exec "$@"', "sh"])
    house.apply("web", worker("ledger"))
    pid = house.living("web", 1)["web-0"]
    assert in_force(house, "web-0")["umask"] == "0022"
    assert os.getsid(pid) == pid
    with open(f"/proc/{pid}/stat") as file:
        assert file.read().rpartition(")")[2].split()[4] == "0", "it has a terminal"
    with open(f"/proc/{pid}/oom_score_adj") as mine, open("/proc/self/oom_score_adj") as ours:
        assert mine.read() == ours.read()


@needs("memory")
def test_fault_P32_an_oom_kill_is_a_reason_of_its_own(shared: House, name: str) -> None:
    shared.apply(name, EAT, template=SMALL, restart={"policy": "Never"})
    last = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"), what="an exit")
    assert (last["reason"], last["signal"]) == ("OOMKilled", "SIGKILL")
    words = [e["message"] for e in shared.events(f"worker/{name}-0") if e["reason"] == "OOMKilled"]
    assert words == ["SIGKILL (OOMKilled)"]


@needs("memory")
def test_fault_P33_a_kill_from_outside_is_not_taken_for_an_oom_kill(shared: House, name: str) -> None:
    shared.apply(name, ["sleep", "1000"], template=SMALL, restart={"policy": "Never"})
    pid = eventually(lambda: shared.pids(name).get(f"{name}-0"))
    os.kill(pid, signal.SIGKILL)
    last = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"), what="an exit")
    assert last["reason"] == "KilledExternally"


@needs("memory")
def test_fault_P32_a_task_that_ran_out_of_memory_says_so(shared: House, name: str) -> None:
    shared.apply(name, template=SMALL)
    done = shared.cli("run", "--pool", name, "--", *EAT)
    assert done.returncode == 128 + 9
    (task,) = shared.get("tasks", query=f"?pool={name}")
    assert task["status"]["reason"] == "OOMKilled"
    assert shared.cli("run", "--pool", name, "--", "true").returncode == 0


def test_fault_P42_a_file_beyond_its_limit_ends_the_worker_with_its_reason(shared: House, name: str) -> None:
    line = f"exec head -c 100000 /dev/zero >{shared.path}/{name}"
    shared.apply(name, ["sh", "-c", line], template={"rlimits": {"fsize": "4Ki"}}, restart={"policy": "Never"})
    last = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"), what="an exit")
    assert (last["reason"], last["signal"]) == ("Signalled", "SIGXFSZ")
    assert "rlimits.fsize" in last["message"]


@needs("pids")
def test_fault_P43_a_fork_bomb_stays_within_its_pool_and_is_ended(shared: House, name: str) -> None:
    bomb = "import os\nwhile True:\n try:\n  os.fork()\n except OSError: pass"
    shared.apply(name, ["python3", "-c", bomb], template={"resources": {"limits": {"pids": 25, "cpu": "500m"}}})
    pid = eventually(lambda: shared.pids(name).get(f"{name}-0"))

    def members() -> int:
        with open(f"/proc/{pid}/cgroup") as file:
            path = next(line.rstrip("\n") for line in file if "pids" in line or line.startswith("0::/"))
        point = "/sys/fs/cgroup/pids" if "pids" in path else "/sys/fs/cgroup"
        with open(f"{point}{path.split(':', 2)[2]}/pids.current") as file:
            return int(file.read())

    eventually(lambda: members() == 25, what="the bomb at its limit")
    shared.delete(name)


def test_a_start_that_a_limit_refuses_says_which_and_why(shared: House, name: str) -> None:
    template = {"sandbox": {"readWritePaths": ["/no/such/place"]}}
    shared.apply(name, ["sleep", "1000"], template=template, restart={"policy": "Never"})
    last = eventually(lambda: shared.worker(f"{name}-0").get("lastExit"), what="a failed start")
    assert last["reason"] == "StartFailed"
    assert last["message"].startswith("sandbox: ")


def test_a_limit_that_this_machine_cannot_enforce_is_said(house: House, as_nobody: list[str]) -> None:
    house.up(wrapper=as_nobody)
    house.apply("web", ["sleep", "1000"], template=SMALL)
    assert in_force(house, "web-0")["notEnforced"] == ["memory"]
    event = eventually(lambda: [e for e in house.events("pool/web") if e["reason"] == "LimitNotEnforced"])[0]
    assert "memory" in event["message"]
    required = {"resources": {**SMALL["resources"], "enforcement": "Required"}}
    house.apply("strict", ["sleep", "1000"], template=required, restart={"policy": "Never"})
    last = eventually(lambda: house.worker("strict-0").get("lastExit"), what="a failed start")
    assert last["reason"] == "StartFailed" and last["message"].startswith("cgroup: memory cannot be limited")
    house.apply("other", ["sleep", "1000"], template={"user": "daemon"}, restart={"policy": "Never"})
    last = eventually(lambda: house.worker("other-0").get("lastExit"), what="a failed start")
    assert last["message"].startswith("identity: ") and "only root" in last["message"]


def test_nobody_needs_no_right_to_confine_what_it_runs(house: House, as_nobody: list[str]) -> None:
    house.up(wrapper=as_nobody)
    inside, outside = house.path / "inside", house.path / "outside"
    for directory in (inside, outside):
        directory.mkdir()
        os.chown(directory, 65534, 65534)
    line = f"touch {inside}/a; touch {outside}/a; exec sleep 1000"
    sandbox = {"sandbox": {"readWritePaths": [str(inside)]}, "nice": 4, "rlimits": {"nofile": 64}}
    house.apply("web", ["sh", "-c", line], template=sandbox)
    eventually((inside / "a").exists)
    shown = in_force(house, "web-0")
    assert (shown["user"], shown["nice"], shown["rlimits"]["nofile"]) == ("nobody", 4, 64)
    assert shown["noNewPrivileges"] and shown["readWritePaths"] == [str(inside)]
    eventually(lambda: "Permission denied" in house.cli("logs", "worker/web-0").stdout)
    assert not (outside / "a").exists()


def test_doctor_says_what_can_be_limited(shared: House) -> None:
    words = shared.cli("doctor").stdout
    for what in ("landlock", "memory limits", "cpu limits", "pids limits"):
        assert what in words


def test_fault_P40_a_worker_of_another_user_cannot_harm_the_daemon(shared: House, name: str, root: None) -> None:
    controller = shared.controller()
    program = f"""
import os, signal, socket
def attempt(what, call):
    try:
        call()
        print(what, "worked", flush=True)
    except OSError as error:
        print(what, error.strerror, flush=True)
for pid in ({shared.launcher}, {controller}):
    attempt("kill", lambda: os.kill(pid, signal.SIGKILL))
    attempt("environ", lambda: open(f"/proc/{{pid}}/environ").read())
    attempt("memory", lambda: open(f"/proc/{{pid}}/mem", "rb"))
attempt("state", lambda: os.listdir("{shared.state}"))
attempt("socket", lambda: socket.socket(socket.AF_UNIX).connect("{shared.state}/run/api.sock"))
signal.pause()
"""
    python = "/usr/bin/python3"  # that of the tests may be root's alone
    if not os.access(python, os.X_OK):
        pytest.skip(f"there is no {python}")
    shared.apply(name, [python, "-c", program], template={"user": "nobody"})
    lines = eventually(lambda: (t := shared.cli("logs", f"worker/{name}-0").stdout.splitlines())[7:] and t)
    assert len(lines) == 8 and not [line for line in lines if line.endswith("worked")], lines
    assert shared.controller() == controller


def test_fault_P44_a_restart_waits_until_the_old_tree_has_let_go_of_its_port(shared: House, name: str) -> None:
    program = """
import os, signal, socket, sys, time
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("127.0.0.1", int(os.environ["PORT"])))
listening.listen()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)
print("bound", flush=True)
signal.pause()
"""
    shared.apply(name, ["python3", "-c", program], template={"ports": [{"name": "http"}]})
    worker = f"{name}-0"
    for round in range(3):
        eventually(lambda: "bound" in shared.cli("logs", f"worker/{worker}").stdout)
        status = shared.worker(worker)
        assert status["restarts"] == round, "a start has failed to bind"
        os.kill(status["pid"], signal.SIGKILL)
        eventually(lambda: shared.worker(worker)["restarts"] > round)  # noqa: B023

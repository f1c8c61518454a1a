"""The newcomer's path: up, look, kill everything, up again, down."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.real.house import House, alive, controller_of, eventually, worker

HELLO = """\
# two workers, written as a person would
apiVersion: reconciler/v1
kind: Pool
metadata: {name: hello}
spec:
  replicas: 2
  template:
    command: [%s, -I, -S, %s, ledger]
    env: [{name: LEDGER, value: %s}]
    stop: {gracePeriod: 1s}
"""


@pytest.fixture
def hello(house: House) -> House:
    """Two workers of one YAML file, up and ready."""
    house.write("hello.yaml", HELLO % (worker("")[0], worker("")[3], house.path))
    house.up()
    house.living("hello", 2)
    return house


def test_the_shipped_manifests_serve_run_commands_and_outlive_everything_but_down(house: House) -> None:
    for file in (Path(__file__).parents[2] / "manifests").iterdir():
        shutil.copy(file, house.manifests)
    house.up()
    before = house.ready("hello", 2)
    for name in before:
        port = house.get("workers", name)["spec"]["ports"]["http"]
        eventually(lambda port=port: _status(port) == 200, what=f"an answer on port {port}")
    ran = house.cli("run", "--", "echo", "hello")
    assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran
    os.kill(house.controller(), signal.SIGKILL)
    house.kill_launcher()
    assert house.up()[:2] == (2, 0)
    assert house.ready("hello", 2) == before
    assert house.cli("down").returncode == 0
    assert house.ended() == 0 and house.processes() == {}


def _status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    except OSError:  # it does not listen yet, or is too busy
        return 0
    finally:
        connection.close()


def test_killed_launcher_and_controller_then_up_again_adopts_every_worker_and_starts_none(hello: House) -> None:
    before = hello.pids()
    controller = hello.controller()
    os.kill(controller, signal.SIGKILL)
    hello.kill_launcher()
    assert all(alive(pid) for pid in before.values())

    again = hello.up()

    assert (again.adopted, again.started) == (2, 0)
    assert hello.living("hello", 2) == before
    assert [line.pid for line in hello.ledger("start")] == list(before.values()) or len(hello.ledger("start")) == 2
    hello.assert_single()


def test_the_first_look_shows_a_ready_pool_in_tables_and_json(hello: House) -> None:
    eventually(lambda: hello.pool("hello")["readyReplicas"] == 2)  # it is counted a moment after its workers are
    table = hello.cli("get", "pools")
    assert table.returncode == 0, table.stderr
    header, row = table.stdout.splitlines()
    assert header.split()[0] == "NAME" and row.split()[0] == "hello"
    assert "2/2" in row

    listed = json.loads(hello.cli("get", "workers", "-o", "json").stdout)
    assert listed["kind"] == "List" and listed["metadata"]["resourceVersion"]
    assert [item["metadata"]["name"] for item in listed["items"]] == ["hello-0", "hello-1"]
    assert {item["status"]["state"] for item in listed["items"]} == {"Ready"}

    pool = json.loads(hello.cli("get", "pools", "hello", "-o", "json").stdout)
    assert pool["status"]["readyReplicas"] == 2
    assert pool["metadata"]["source"]["path"].endswith("hello.yaml") and pool["metadata"]["source"]["line"] == 2

    status = json.loads(hello.cli("status", "-o", "json").stdout)
    assert status["launcher"]["pid"] == hello.launcher
    assert status["controller"]["pid"] == controller_of(hello.launcher)
    assert status["controller"]["restarts"] == 0
    assert status["state"] and status["problems"] == []

    assert hello.cli("wait", "pool/hello", "--for", "ready", "--timeout", "30s").returncode == 0
    assert hello.cli("get", "pools", "nothere").returncode == 4
    assert hello.cli("describe", "pool/hello").returncode == 0

    down = hello.cli("down")
    assert down.returncode == 0, down.stderr
    assert hello.ended() == 0
    assert hello.processes() == {}


def test_a_client_says_how_to_start_the_daemon_when_there_is_none(house: House) -> None:
    for verb in (["status"], ["get", "pools"], ["down"], ["submit", "--pool", "x", "--", "true"]):
        answer = house.cli(*verb)
        assert answer.returncode == 3, (verb, answer)
        assert "reconciler up" in answer.stderr and "Traceback" not in answer.stderr
    assert house.cli("up", str(house.path / "missing"), "--state", str(house.state)).returncode == 2
    assert house.cli("frobnicate").returncode == 2


def test_sigquit_and_keep_workers_leave_workers_running_for_the_next_up(hello: House) -> None:
    before = hello.pids()
    hello.signal(signal.SIGQUIT)
    assert hello.ended() == 0
    assert all(alive(pid) for pid in before.values())
    assert hello.up()[:2] == (2, 0)

    kept = hello.cli("down", "--keep-workers")
    assert kept.returncode == 0, kept.stderr
    assert hello.ended() == 0
    assert all(alive(pid) for pid in before.values())
    assert hello.up()[:2] == (2, 0)
    assert hello.living("hello", 2) == before


def test_once_converges_prints_and_leaves_the_workers(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    house.start("--once")
    assert house.ended() == 0, house.output()
    assert "adopted 0, started 2" in house.output()
    started = [line.pid for line in eventually(lambda: house.ledger("start"))]
    assert all(alive(pid) for pid in started)
    assert house.up()[:2] == (2, 0)


def test_detached_it_is_up_when_the_command_returns(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=1)
    answer = house.cli("up", str(house.manifests), "--state", str(house.state), "--detach")
    assert answer.returncode == 0, answer
    assert "ready: socket" in answer.stdout + answer.stderr
    house.living("web", 1)
    assert house.cli("down").returncode == 0
    eventually(lambda: not house.processes())


def test_up_with_other_manifests_starts_what_they_declare_and_nothing_of_the_last_time(house: House) -> None:
    house.manifest("old", worker("ledger"), replicas=2)
    house.manifest("web", worker("ledger"), env={"AGE": "old"})
    assert house.up().started == 3
    assert house.cli("down").returncode == 0
    house.ended()
    before = len(house.ledger("start"))

    (house.manifests / "old.yaml").unlink()
    house.manifest("web", worker("ledger"), env={"AGE": "new"}, replicas=2)
    assert house.up("--prune")[:2] == (0, 2)
    house.living("web", 2)
    assert len(house.ledger("start")) == before + 2


def test_up_has_converged_when_workers_are_ready_not_as_soon_as_they_run(house: House) -> None:
    flag = house.path / "ready"
    probe = {"exec": {"command": ["/usr/bin/test", "-e", str(flag)]}, "period": "1s"}
    house.manifest("web", worker("ledger"), template={"probes": {"readiness": probe}})
    house.start()
    eventually(lambda: house.worker("web-0").get("message"), 30, "a first answer of the probe")
    assert "started 1" not in house.output()
    flag.touch()
    assert house.converged().started == 1
    assert house.worker("web-0")["ready"]


def test_once_gives_up_on_a_worker_that_is_not_ready_within_its_progress_deadline(house: House) -> None:
    probe = {"exec": {"command": ["/usr/bin/test", "-e", "/nowhere"]}, "period": "1s"}
    strategy = {"progressDeadline": "1s"}
    house.manifest("web", worker("ledger"), template={"probes": {"readiness": probe}}, strategy=strategy)
    house.start("--once")
    assert house.ended(30) == 1, house.output()
    assert "worker/web-0 is Running: " in house.output()
    assert house.up()[:2] == (1, 0)  # it has had its time: nobody waits for it again

"""What operators do to what runs, on real processes: stop, start, signal, reload."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from tests.real.house import House, alive, eventually, made_at_s, worker

COUNTS_SIGNALS = """
import os, signal, sys, time
def note(number, frame):
    with open(os.environ["LEDGER"] + "/" + os.environ["RECONCILER_POOL"] + ".signals", "a") as file:
        file.write(f"{os.environ.get('WHO', 'main')} {signal.Signals(number).name}\\n")
for number in (signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, note)
if os.fork() == 0:
    os.environ["WHO"] = "child"
open(os.environ["LEDGER"] + "/" + os.environ["RECONCILER_POOL"] + ".up." + os.environ.get("WHO", "main"), "w").close()
while True:
    time.sleep(0.05)
"""


def signals(house: House, pool: str) -> list[str]:
    path = house.path / f"{pool}.signals"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def listening(house: House, pool: str) -> None:
    eventually(lambda: all((house.path / f"{pool}.up.{who}").exists() for who in ("main", "child")))


def condition(house: House, pool: str, type_: str) -> str:
    return str(house.condition(pool, type_).get("status"))


def test_a_stopped_pool_stays_stopped_over_a_restart_of_the_daemon_until_it_is_started(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    house.up()
    pids = house.living("web", 2)
    refused = house.cli("stop", "pool/web", "--reason", "the disk is swapped")
    assert refused.returncode == 5
    assert "reconciler stop pool/web --override --reason 'the disk is swapped'" in refused.stderr

    done = house.cli("stop", "pool/web", "--override", "--reason", "the disk is swapped", "--wait")
    assert (done.returncode, done.stdout) == (0, "pool/web stopped\n"), done.stderr
    assert not any(alive(pid) for pid in pids.values())
    eventually(lambda: "the disk is swapped" in house.condition("web", "Ready")["message"])
    house.down()
    house.up()
    assert condition(house, "web", "Stopped") == "True"
    assert [status["state"] for status in house.workers("web").values()] == ["Pending", "Pending"]
    house.manifest("web", worker("ledger"), replicas=2, env={"NEW": "1"})
    eventually(lambda: house.pool("web")["observedGeneration"] == 2)
    assert house.pids("web") == {}

    assert house.cli("start", "pool/web").returncode == 0
    house.living("web", 2)
    eventually(lambda: house.pool("web")["updatedReplicas"] == 2, what="what starts anew to have the template of today")
    assert [line.what for line in house.ledger() if line.what != "stop"] == ["start"] * 4
    reasons = [event["reason"] for event in house.events("pool/web")]
    assert "StopRequested" in reasons and "StartRequested" in reasons


def test_a_stop_for_a_time_ends_by_itself(house: House) -> None:
    house.manifest("web", worker("ledger"))
    house.up()
    before = house.living("web", 1)
    asked = time.time()
    assert house.cli("stop", "pool/web", "--override=2s").returncode == 0
    eventually(lambda: not alive(before["web-0"]))
    after = house.living("web", 1)
    assert after != before
    assert house.ledger("start")[1].at - asked >= 2


def test_a_start_by_hand_does_not_wait_for_the_backoff(shared: House, name: str) -> None:
    fails = house_file(shared, f"{name}.fails")
    script = f"import os, sys, time\nif os.path.exists({fails!r}): sys.exit(1)\ntime.sleep(1000)"
    restart = {"policy": "Always", "backoff": {"initial": "5m", "max": "10m"}}
    shared.apply(name, [sys.executable, "-c", script], restart=restart)
    eventually(lambda: shared.worker(f"{name}-0").get("nextStartAt"), what="a wait")
    (shared.path / f"{name}.fails").unlink()
    assert shared.cli("start", f"pool/{name}").returncode == 0
    shared.ready(name, 1)


def house_file(house: House, name: str) -> str:
    (house.path / name).touch()
    return str(house.path / name)


def test_a_signal_goes_to_the_main_process_or_to_its_group(shared: House, name: str) -> None:
    shared.apply(name, [sys.executable, "-c", COUNTS_SIGNALS])
    shared.ready(name, 1)
    listening(shared, name)
    done = shared.cli("signal", "usr1", f"worker/{name}-0")
    assert (done.returncode, done.stdout) == (0, f"worker/{name}-0 signalled\n"), done.stderr
    eventually(lambda: signals(shared, name) == ["main SIGUSR1"])
    assert shared.cli("signal", "SIGUSR1", f"pool/{name}", "--group").returncode == 0
    eventually(lambda: signals(shared, name) == ["child SIGUSR1", "main SIGUSR1", "main SIGUSR1"])
    assert shared.cli("signal", "NONSENSE", f"pool/{name}").returncode == 2
    assert shared.cli("signal", "SIGUSR1", "worker/nobody-0").returncode == 4
    assert any(event["reason"] == "SignalSent" for event in shared.events(f"worker/{name}-0"))


def test_a_reload_reaches_the_main_process_and_replaces_nothing(shared: House, name: str) -> None:
    shared.apply(name, [sys.executable, "-c", COUNTS_SIGNALS])
    before = shared.ready(name, 1)
    listening(shared, name)
    refused = shared.cli("reload", f"pool/{name}")
    assert refused.returncode == 5 and "spec.template.reload" in refused.stderr

    shared.apply(name, [sys.executable, "-c", COUNTS_SIGNALS], template={"reload": {"signal": "SIGHUP"}})
    done = shared.cli("reload", f"pool/{name}")
    assert (done.returncode, done.stdout) == (0, f"worker/{name}-0 reloaded\n"), done.stderr
    eventually(lambda: signals(shared, name) == ["main SIGHUP"])
    assert shared.ready(name, 1) == before


def test_fault_P47_a_worker_that_ends_at_its_reload_has_ended_like_any_other(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"), template={"reload": {"signal": "SIGUSR2"}})
    before = shared.living(name, 1)
    assert shared.cli("reload", f"pool/{name}").returncode == 0
    after = eventually(lambda: (found := shared.ready(name, 1)) != before and found)
    assert after != before
    status: dict[str, Any] = shared.worker(f"{name}-0")
    assert (status["lastExit"]["reason"], status["lastExit"]["signal"], status["restarts"]) == (
        "Signalled",
        "SIGUSR2",
        1,
    )


def test_a_stopped_task_pool_opens_no_slot(shared: House, name: str) -> None:
    shared.apply(name)
    assert shared.cli("stop", f"pool/{name}", "--wait").returncode == 0
    task = shared.submit(name, ["true"])
    found = shared.cli("wait", f"task/{task}", "--timeout", "300ms")
    assert found.returncode == 124, found
    assert shared.cli("start", f"pool/{name}").returncode == 0
    assert shared.task_ended(task)["state"] == "Succeeded"
    assert json.loads(shared.cli("get", f"pool/{name}", "-o", "json").stdout)["metadata"]["intent"]["wish"] == "Started"


def test_a_reload_by_command_runs_as_the_worker_does_and_says_what_failed(shared: House, name: str) -> None:
    script = "echo $RECONCILER_WORKER >> $LEDGER/$RECONCILER_POOL.reloads; test $RECONCILER_ORDINAL = 0 || ! echo no such key"
    shared.apply(name, worker("ledger"), replicas=2, template={"reload": {"exec": {"command": ["sh", "-c", script]}}})
    before = shared.living(name, 2)
    done = shared.cli("reload", f"pool/{name}")
    assert (done.returncode, done.stdout) == (1, f"worker/{name}-0 reloaded\n")
    assert (
        done.stderr
        == f"error: worker/{name}-1 could not be reloaded: sh: exit code 1; what it printed: reconciler logs worker/{name}-1\n"
    )
    assert shared.cli("logs", f"worker/{name}-1").stdout.endswith("no such key\n")
    assert sorted((shared.path / f"{name}.reloads").read_text().split()) == [f"{name}-0", f"{name}-1"]
    assert shared.ready(name, 2) == before


def test_a_restart_by_hand_replaces_one_worker_after_another(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"), replicas=2)
    before = shared.living(name, 2)
    done = shared.cli("rollout", "restart", f"pool/{name}", "--reason", "a new library", "--wait")
    assert (done.returncode, done.stdout) == (0, f"pool/{name} restarting\n"), done.stderr
    assert not {*shared.living(name, 2).values()} & {*before.values()}
    status = shared.cli("rollout", "status", f"pool/{name}")
    assert (status.returncode, status.stdout) == (0, f"pool/{name}: 2 of 2 workers are as declared, 2 ready\n")
    first, second = sorted(map(made_at_s, shared.pids(name).values()))
    assert second - first >= 0.99, "the first is to have been up for a second"

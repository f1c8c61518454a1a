"""Commands before the stop signals when the launcher is alone: run from its records, once, and then the signal."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from tests.launcher.conftest import until

SAYS = "exec 2>/dev/null; trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.02; done"


def alone(house: Any) -> Any:
    """A launcher whose controller does not serve: on SIGTERM it stops everything itself."""
    house.start()
    return house.controller(serving=False)


def worker(house: Any, controller: Any, before: str, script: str = SAYS, **fields: Any) -> tuple[int, Path]:
    """A worker that runs, with a command before its stop signal; its pid and its log."""
    controller.template("web", ["sh", "-c", script], env={"COLOUR": "red"}, **fields)
    controller.template("web+beside", [], env={"COLOUR": "red"}, stop_signal=9, grace_ms=0)
    instance = house.own("i1")
    env = {"RECONCILER_INSTANCE": instance}
    rows = ["spawn", [["worker/web-0", instance, "web", None, env, "w/1.log"]]]
    controller.say(rows, ["preStop", "worker/web-0", instance, "web+beside", ["sh", "-c", before], env])
    log = house.state / "logs" / "w" / "1.log"
    until(lambda: log.exists() and "ready" in log.read_text())
    return controller.pid_of(instance), log


def test_the_command_runs_before_the_signal_as_the_worker_does(house: Any, process_is_alive: Any) -> None:
    pid, log = worker(house, alone(house), "echo drains $COLOUR; sleep 0.3; echo drained")
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert log.read_text().split("\n")[:4] == ["ready", "drains red", "drained", "asked"]
    assert not process_is_alive(pid)


def test_no_record_holds_its_environment(house: Any) -> None:
    worker(house, alone(house), "true")
    assert "red" not in (house.state / "launcher.journal").read_text()


def test_a_command_that_does_not_end_takes_the_grace_period_and_no_more(house: Any, process_is_alive: Any) -> None:
    pid, log = worker(house, alone(house), "echo hangs; exec sleep 1000", grace_ms=400)
    began = time.monotonic()
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert time.monotonic() - began >= 0.4
    assert "prestop/web-0" in [record[1] for record in house.journal() if record[0] == "intent"]
    # a shell may take longer to begin than it is given here
    assert [line for line in log.read_text().split("\n") if line != "hangs"][:2] == ["ready", "asked"]
    assert not process_is_alive(pid)


def test_a_command_that_fails_hinders_nothing(house: Any) -> None:
    _, log = worker(house, alone(house), "exit 3")
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert "asked" in log.read_text()


def test_one_that_a_controller_began_is_waited_for_and_not_run_again(house: Any) -> None:
    controller = house.up()
    before = "echo drains; sleep 0.5; echo drained"
    _, log = worker(house, controller, before)
    house.signal(signal.SIGTERM)
    controller.wait(lambda: controller.of("terminate"))
    instance = f"{house.own('i1')}.preStop"
    own = {"RECONCILER_INSTANCE": instance}
    controller.spawn("prestop/web-0", instance, "web+beside", ["sh", "-c", before], own, "w/1.log")
    controller.started(instance)
    controller.kill()
    assert house.wait() == 0
    assert log.read_text().split("\n")[:4] == ["ready", "drains", "drained", "asked"]


def test_one_that_has_ended_is_not_run_again(house: Any) -> None:
    controller = house.up()
    _, log = worker(house, controller, "echo drains")
    instance = f"{house.own('i1')}.preStop"
    own = {"RECONCILER_INSTANCE": instance}
    controller.spawn("prestop/web-0", instance, "web+beside", ["sh", "-c", "echo drains"], own, "w/1.log")
    controller.emptied(instance)
    controller.say(["ack", 1_000_000])
    house.signal(signal.SIGTERM)
    controller.wait(lambda: controller.of("terminate"))
    controller.kill()
    assert house.wait() == 0
    assert log.read_text().count("drains") == 1


def test_a_launcher_that_has_adopted_the_worker_runs_it_too(house: Any) -> None:
    _, log = worker(house, alone(house), "echo drains $COLOUR $RECONCILER_INSTANCE")
    house.kill()
    alone(house)
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert log.read_text().split("\n")[:3] == ["ready", f"drains red {house.own('i1')}.preStop", "asked"], house.stderr


def test_the_second_signal_waits_for_no_command(house: Any, process_is_alive: Any) -> None:
    pid, log = worker(house, alone(house), "echo hangs; exec sleep 1000", grace_ms=300_000)
    house.signal(signal.SIGTERM)
    until(lambda: "hangs" in log.read_text())
    house.signal(signal.SIGTERM)
    assert house.wait() == 0
    assert not process_is_alive(pid)

"""Probes in virtual time: the real prober, asked and answered as a story or a seed says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.backends.ask import Answer
from reconciler.controllers import worker as worker_controller
from reconciler.controllers.base import Plan
from reconciler.policies import probe as policy
from reconciler.resources.notify import Word
from reconciler.resources.probe import Health, Kind, Probes
from reconciler.resources.worker import Reason, State, Worker
from reconciler.runtime.probes import Prober
from tests.sim.chaos import Chaos, probed, workers
from tests.sim.machine import Nature
from tests.sim.probing import Answers
from tests.sim.timeline import Violation
from tests.sim.world import World


def house() -> World:
    """One worker with all probes, up and ready."""
    world = World("probes")
    world.up()
    world.declare("web", probed(workers(1, 1)))
    world.run_until(lambda: ("Pool", "web") in world.disk.objects and world.pool("web").status.ready_replicas == 1)
    return world


def answers(world: World, kind: Kind, *words: str) -> None:
    world.answers["web-0", kind] = deque(words)


def test_a_worker_is_counted_when_its_probes_say_so_and_no_longer() -> None:
    world = World("counted")
    world.answers = {("web-0", Kind.STARTUP): deque(["no", "late"]), ("web-0", Kind.READINESS): deque(["no"] * 3)}
    world.up()
    world.declare("web", probed(workers(1, 1)))
    world.run_until(lambda: ("Worker", "web-0") in world.disk.objects and world.worker("web-0").status.pid)
    assert world.worker("web-0").status.state is State.STARTING and world.pool("web").status.ready_replicas == 0
    world.run_until(lambda: world.worker("web-0").status.state is State.RUNNING)
    assert world.pool("web").status.ready_replicas == 0
    world.run_until(lambda: world.pool("web").status.ready_replicas == 1)
    answers(world, Kind.READINESS, "no", "no")
    world.run_until(lambda: world.pool("web").status.ready_replicas == 0)
    world.converge()
    assert world.worker("web-0").status.starts == 1, "readiness restarts nobody"


def test_fault_P46_failures_of_liveness_restart_with_the_backoff_of_any_crash() -> None:
    world = house()
    for number in range(2, 6):
        answers(world, Kind.LIVENESS, "no", "no", "no")
        world.run_until(lambda wanted=number: world.worker("web-0").status.starts == wanted)
        end = world.worker("web-0").status.last_exit
        assert end is not None and end.reason is Reason.PROBE_FAILED and end.message.startswith("liveness probe failed")
        world.run_until(lambda: world.pool("web").status.ready_replicas == 1)
    ends, starts = (moments(world, f"{word} worker/web-0") for word in ("end  ", "start"))
    gaps = [start - end for end, start in zip(ends, starts[1:], strict=True)]
    for gap, wanted in zip(gaps, (0, 1, 2, 4), strict=True):
        assert 0.9 * wanted <= gap <= 1.1 * wanted + 0.1, gaps
    world.converge()


def moments(world: World, words: str) -> list[float]:
    return [float(line[:11]) for line in world.timeline.lines if line[12:].startswith(words)]


def test_a_flap_below_the_threshold_changes_nothing() -> None:
    world = house()
    answers(world, Kind.LIVENESS, *("no", "no", "yes") * 5)
    answers(world, Kind.READINESS, *("no", "yes") * 5)
    before = world.worker("web-0")
    world.run(60)
    assert not world.answers["web-0", Kind.LIVENESS] and not world.answers["web-0", Kind.READINESS]
    assert world.worker("web-0").status == before.status


def test_tries_that_cannot_be_made_change_nothing_however_many() -> None:
    world = house()
    before = world.worker("web-0")
    answers(world, Kind.LIVENESS, *["error"] * 100)
    answers(world, Kind.READINESS, *["error"] * 100)
    world.run(100)
    assert 30 <= len(world.answers["web-0", Kind.LIVENESS]) < 100
    assert world.worker("web-0").status == before.status


def test_what_is_ready_stays_so_when_the_controller_dies_and_is_asked_again() -> None:
    world = house()
    for _ in range(3):
        world.kill_controller()
        world.run_until(lambda: world.controller is not None and world.controller.serving)
        assert world.pool("web").status.ready_replicas == 1
    answers(world, Kind.LIVENESS, "late", "late", "late")
    world.run_until(lambda: world.worker("web-0").status.starts == 2)
    world.converge()


def test_fault_P31_ready_said_twice_says_no_more_and_after_the_stop_says_nothing() -> None:
    world = World("said")
    world.natures["worker/web-0"] = deque([Nature(obeys_after_s=2.0)])
    world.up()
    spec = workers(1, 1)
    says = Probes.model_validate({"readiness": {"notify": "Systemd"}})
    world.declare("web", spec.changed(template=spec.template.changed(probes=says)))
    world.run_until(lambda: ("Worker", "web-0") in world.disk.objects and world.worker("web-0").status.probed)

    def say() -> None:
        controller = world.controller
        assert controller is not None
        worker = controller.store.get(Worker, "web-0")
        assert worker is not None
        controller.does(lambda: controller._prober.notified(worker, frozenset({Word.READY})))
        world.run(0.5)

    assert not world.worker("web-0").status.ready
    say()
    assert world.worker("web-0").status.ready and world.pool("web").status.ready_replicas == 1
    said = world.worker("web-0").status
    say()
    assert world.worker("web-0").status == said
    world.declare("web", workers(0, 1))
    world.run_until(lambda: world.worker("web-0").status.state is State.STOPPING)
    say()
    assert not world.worker("web-0").status.ready and world.pool("web").status.ready_replicas == 0


# Known mistakes, made on purpose: each is found.


def counts_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Answers.run

    async def tells_no(self: Answers, *asked: Any) -> Answer:
        return Answer(bool((await run(self, *asked)).ok), "no")

    monkeypatch.setattr(Answers, "run", tells_no)


def ready_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = policy.begin

    def hasty(*args: Any) -> Health:
        return begin(*args).changed(started=True, ready=True)

    monkeypatch.setattr(policy, "begin", hasty)


def asks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_of_them(self: Prober, worker: Any, health: Health | None) -> tuple[Kind, ...]:
        return (Kind.READINESS, Kind.LIVENESS) if health is not None else ()

    monkeypatch.setattr(Prober, "_asked", all_of_them)


def leaves_the_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = worker_controller._stop

    def blind(worker: Any, pool: Any, template: Any, reason: str, *more: Any) -> Plan:
        return Plan() if "probe failed" in reason else stop(worker, pool, template, reason, *more)

    monkeypatch.setattr(worker_controller, "_stop", blind)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")  # a world that is left in the middle
@pytest.mark.parametrize(
    ("mistake", "invariant"),
    [(counts_errors, "P-error"), (ready_from_the_start, "P-ready"), (asks_on, "P-asked"), (leaves_the_dead, "P-dead")],
)
def test_a_known_mistake_is_found(
    mistake: Callable[[pytest.MonkeyPatch], None], invariant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch)
    with pytest.raises(Violation, match=invariant):
        for seed in range(30):
            Chaos(seed, ("probes", "unwell", "probe-errors", "edits")).run()

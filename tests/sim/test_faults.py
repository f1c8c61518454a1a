"""Single faults of the catalogue, each made to happen at one moment of a short story."""

from __future__ import annotations

from collections import deque

import pytest

from reconciler.resources.meta import Status
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Process, Reason, State
from tests.sim.chaos import slots, workers
from tests.sim.machine import Nature
from tests.sim.world import Order, World

INSTANTS_OF_THE_CONTROLLER = ("before-commit", "after-commit", "before-send", "after-send", "before-reply")


def house(*faults: str, pids: int = 120) -> World:
    """A world in which nothing goes wrong by itself, up and serving."""
    world = World("story", faults, pids=pids)
    world.up()
    world.run_until(lambda: world.controller is not None and world.controller.serving)
    return world


def acknowledged(world: World, order: Order) -> Order:
    world.run_until(lambda: order.task_id)
    return order


def ended(world: World, order: Order, within_s: float = 60) -> TaskState:
    acknowledged(world, order)
    world.run_until(lambda: world.task(order).state.ended, within_s)
    return world.task(order).state


def starts_of(world: World, prefix: str) -> int:
    return sum(f" start {prefix}" in line for line in world.timeline.lines)


def story(world: World) -> None:
    """A little of everything, while the controller may die at any instant of it."""
    world.declare("web", workers(2, 1))
    world.declare("batch", slots(1))
    world.run(2)
    world.submit("batch", ["work", "1"], idempotency_key="one")
    world.submit("batch", ["poison", "2"], idempotency_key="two", max_attempts=2)
    world.run(4)
    world.declare("web", workers(3, 1))
    world.run(2)


@pytest.mark.parametrize("instant", INSTANTS_OF_THE_CONTROLLER)
def test_fault_C1_a_controller_killed_at_any_instant_costs_no_worker_its_life(instant: str) -> None:
    name = f"controller.{instant}"
    calm = house()
    story(calm)
    assert calm.passed[name] > 1
    for nth in range(1, calm.passed[name] + 1):
        world = World("story")
        world.arm(name, nth)
        world.up()
        story(world)
        world.converge()
        assert [starts_of(world, f"worker/web-{n}") for n in range(3)] == [1, 1, 1], f"{name}:{nth}"
        assert starts_of(world, "task/1 ") == 1
        assert starts_of(world, "task/2 ") == 2


@pytest.mark.parametrize(
    "instant", ["before-intent", "after-intent", "after-spawn", "before-pid", "after-pid", "after-frame"]
)
def test_fault_C1_a_launcher_killed_at_any_instant_leaves_one_process_in_each_slot(instant: str) -> None:
    name = f"launcher.{instant}"
    for nth in range(1, 5):
        world = World("story")
        world.arm(name, nth)
        world.up()
        story(world)
        world.converge()
        assert world.passed[name] >= nth
        assert [process.key for process in world.living("worker/")] == ["worker/web-0", "worker/web-1", "worker/web-2"]


def test_fault_C2_a_start_whose_answer_got_lost_is_not_repeated() -> None:
    world = house("lost-frames")
    world.declare("web", workers(1, 1))
    world.run_until(lambda: world.living("worker/web-0"))
    world.kill_controller()  # the word of the start is under way
    world.converge()
    assert starts_of(world, "worker/web-0") == 1
    assert world.worker("web-0").status.process is Process.UP


def test_fault_C8_what_is_deleted_while_the_disk_is_full_goes_when_there_is_room() -> None:
    world = house()
    world.declare("batch", slots(1))
    order = acknowledged(world, world.submit("batch", ["poison"]))
    world.run_until(lambda: world.task(order).state is TaskState.RETRYING)
    world.disk.full = True
    world.run(3)
    world.withdraw("batch")  # the start of the next try waits for the disk: the launcher has never heard of it
    world.run(3)
    world.disk.full = False
    assert ended(world, order) is TaskState.CANCELLED
    world.converge(10)
    assert starts_of(world, "task/") == 1


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0, -315_360_000.0, 315_360_000.0])
def test_fault_C14_a_step_of_the_wall_clock_shortens_no_wait_and_ends_no_task(seconds: float) -> None:
    world = house()
    world.declare("web", workers(1, 1, "crash"))
    world.declare("batch", slots(2))
    before = acknowledged(world, world.submit("batch", ["long"], timeout_s="10s", max_attempts=1))
    world.run_until(lambda: starts_of(world, "worker/web-0") >= 4)
    world.step_clock(seconds)
    after = acknowledged(world, world.submit("batch", ["long"], timeout_s="10s", max_attempts=1))
    starts = starts_of(world, "worker/web-0")
    world.run(20)
    assert 1 <= starts_of(world, "worker/web-0") - starts <= 5  # 4 to 8 s each; the checks look at every one
    assert (ended(world, before), ended(world, after)) == (TaskState.FAILED, TaskState.FAILED)
    assert world.task(after).reason == Reason.TIMED_OUT
    ran_s = (world.task(after).finished_ms - world.task(after).started_ms) / 1000
    assert 10 <= ran_s < 13


@pytest.mark.parametrize("seconds", [-3600.0, -315_360_000.0])
def test_fault_C14_a_clock_set_back_and_a_new_controller_make_no_wait_longer_than_the_longest(seconds: float) -> None:
    world = house()
    world.declare("batch", slots(1))
    order = acknowledged(world, world.submit("batch", ["poison"]))
    world.run_until(lambda: world.task(order).state is TaskState.RETRYING)
    world.step_clock(seconds)
    world.kill_controller()
    assert ended(world, order, 30) is TaskState.DEAD_LETTERED


@pytest.mark.parametrize("keeps_journal", [True, False])
def test_fault_C16_after_a_reboot_every_process_is_void_and_everything_comes_back(keeps_journal: bool) -> None:
    world = house()
    world.declare("web", workers(2, 1))
    world.declare("batch", slots(1))
    again = acknowledged(world, world.submit("batch", ["long"], timeout_s="60s"))
    once = acknowledged(world, world.submit("batch", ["long"], max_attempts=1, on_unknown="Fail"))
    world.run_until(lambda: world.living("task/1"))
    world.reboot(keeps_journal)
    world.run_until(lambda: len(world.living("worker/")) == 2 and world.living("task/1"))
    world.run(1)
    for name in ("web-0", "web-1"):
        status = world.worker(name).status
        assert (status.state, status.starts, status.failures) == (State.READY, 2, 0)
        assert status.last_exit is not None and status.last_exit.reason is Reason.HOST_REBOOTED
    assert world.disk.tasks[again.task_id].claim == 2
    assert world.task(once).state is TaskState.UNKNOWN  # it was handed on, and whether it began cannot be known
    world.cancel(again.task_id)
    world.converge()


def test_fault_C16_a_try_that_may_have_run_before_a_power_cut_is_not_made_again() -> None:
    world = house()
    world.declare("batch", slots(1))
    order = acknowledged(world, world.submit("batch", ["long"], max_attempts=1, on_unknown="Fail"))
    world.run_until(lambda: world.living("task/"))
    world.disk.journal.clear()
    world.reboot()
    assert ended(world, order) is TaskState.UNKNOWN
    assert world.task(order).reason == Reason.HOST_REBOOTED
    assert starts_of(world, "task/") == 1


def test_fault_C31_a_pool_that_fails_for_ever_delays_no_other() -> None:
    world = house()
    world.declare("bad", workers(3, 1, "missing"))
    world.declare("worse", workers(3, 1, "crash"))
    world.run(30)
    began_s = world.timeline.now_s
    world.declare("web", workers(3, 1))
    world.declare("batch", slots(1))
    order = world.submit("batch", ["work"])
    world.run_until(lambda: len(world.living("worker/web-")) == 3 and order.task_id and world.task(order).state.ended)
    assert world.timeline.now_s - began_s < 6
    assert world.pool("bad").status.ready_replicas == 0


def test_fault_C32_when_everything_falls_at_once_everything_comes_back_once() -> None:
    world = house(pids=2_000)
    world.declare("web", workers(300, 1))
    world.run_until(lambda: len(world.living()) == 300)
    world.run(5)
    for process in world.living():
        world.crash(process)
    world.run_until(lambda: len(world.living()) == 300, within_s=5)
    assert world.checks.starts == 600
    world.converge()


def test_fault_C33_doubled_words_and_forgotten_keys_change_nothing() -> None:
    world = house("doubled-frames")
    world.declare("web", workers(3, 1))
    world.declare("batch", slots(2))
    orders = [world.submit("batch", ["work"]) for _ in range(10)]
    for _ in range(20):
        world.run(1)
        assert world.controller is not None
        while (key := world.controller.loop.work.take(world.controller.clock.now())) is not None:
            world.controller.loop.work.done(key)  # an event that reaches nobody
        for process in world.living("worker/web-1"):
            world.crash(process)
    world.host.calm = True
    assert [ended(world, order) for order in orders] == [TaskState.SUCCEEDED] * 10
    world.converge()


def test_fault_P10_an_exit_faster_than_all_bookkeeping_is_an_exit() -> None:
    world = house()
    world.natures["worker/web-0"] = deque(Nature(runs_s=0.0, code=7, latency_s=0.5) for _ in range(3))
    world.declare("web", workers(1, 1))
    world.run_until(lambda: world.living("worker/web-0") and world.living("worker/web-0")[0].nature.runs_s is None)
    world.converge()
    status = world.worker("web-0").status
    assert (status.starts, status.restarts, status.failures) == (4, 3, 0)  # it has been up for long: cleared
    assert status.last_exit is not None and status.last_exit.code == 7


def test_fault_P11_a_crash_loop_waits_longer_each_time_over_every_restart_of_the_daemon() -> None:
    world = house()
    world.declare("web", workers(1, 1, "crash"))
    for _ in range(12):
        world.run(4)
        world.kill_controller()
        world.run(2)
        world.kill_launcher()
    world.run(5)
    status = world.worker("web-0").status
    assert status.failures >= 8
    degraded = next(c for c in world.pool("web").status.conditions if c.type == "Degraded")
    assert (degraded.status, degraded.reason) == (Status.TRUE, "CrashLoop")
    assert status.starts <= 3 + 77 / (8 * 0.8)  # the longest wait is 8 s, and soon reached


def test_fault_T3_a_client_that_missed_the_answer_gets_the_same_task() -> None:
    world = house()
    world.declare("batch", slots(1))
    world.run(1)
    world.arm("controller.before-reply")
    order = world.submit("batch", ["work"], idempotency_key="once")
    world.run_until(lambda: world.disk.tasks)
    assert not order.task_id
    assert ended(world, order) is TaskState.SUCCEEDED
    assert list(world.disk.tasks) == [order.task_id]
    assert starts_of(world, "task/") == 1


def test_fault_T4_what_was_not_durable_was_never_said_and_never_runs() -> None:
    world = house()
    world.declare("batch", slots(1))
    world.run(1)
    world.arm("controller.before-commit")
    order = world.submit("batch", ["work"])
    world.run(20)
    assert (order.task_id, order.given_up, world.disk.tasks) == (0, True, {})
    assert starts_of(world, "task/") == 0


@pytest.mark.parametrize("instant", ["before-commit", "after-commit", "before-send", "after-send"])
def test_fault_T5_a_task_whose_end_was_not_yet_acknowledged_does_not_run_again(instant: str) -> None:
    world = house()
    world.declare("batch", slots(1))
    world.natures["task/1"] = deque([Nature(runs_s=1.0)])
    order = acknowledged(world, world.submit("batch", ["work"]))
    world.run_until(lambda: any(" end   task/1" in line for line in world.timeline.lines))
    world.arm(f"controller.{instant}")
    assert ended(world, order) is TaskState.SUCCEEDED
    world.converge()
    assert world.launcher is not None and world.passed[f"controller.{instant}"]
    assert starts_of(world, "task/1 ") == 1


def test_fault_T7_a_task_that_always_fails_is_put_aside_and_the_others_flow() -> None:
    world = house()
    world.declare("batch", slots(1))
    poison = world.submit("batch", ["poison"])
    others = [world.submit("batch", ["work"]) for _ in range(5)]
    assert [ended(world, order) for order in others] == [TaskState.SUCCEEDED] * 5
    assert ended(world, poison) is TaskState.DEAD_LETTERED
    assert (world.task(poison).attempts, starts_of(world, f"task/{poison.task_id} ")) == (3, 3)


@pytest.mark.parametrize("dies", ["", "controller", "launcher"])
def test_fault_T13_a_cancel_at_any_moment_leads_to_one_end(dies: str) -> None:
    ends = set()
    for moment_ms in range(0, 40):
        world = house()
        world.declare("batch", slots(1))
        world.run(1)
        world.natures["task/1"] = deque([Nature(runs_s=0.02)])
        order = acknowledged(world, world.submit("batch", ["work"]))
        world.run(moment_ms / 1000)
        world.cancel(order.task_id)
        if dies:
            world.run(0.0005)
            (world.kill_controller if dies == "controller" else world.kill_launcher)()
        ends.add(ended(world, order))
        world.converge(60)
        assert starts_of(world, "task/1 ") <= (2 if dies else 1)
    assert {TaskState.CANCELLED, TaskState.SUCCEEDED} <= ends


def test_fault_P48_hundreds_of_ends_at_one_moment_make_no_storm_of_starts() -> None:
    world = house(pids=2_000)
    world.declare("web", workers(300, 1))
    world.run(30)  # the host's budget of restarts is full again
    at_s = world.timeline.now_s
    for process in world.living("worker/"):
        world.crash(process)
    world.run(15)
    starts = sorted(process.started_us / 1e6 - at_s for process in world.living("worker/"))
    assert len(starts) == 300
    for second in range(round(starts[-1]) + 1):
        within = sum(second <= moment < second + 1 for moment in starts)
        assert within <= (250 if second == 0 else 60), f"{within} starts in second {second}"
    assert 1.5 < starts[-1] < 10


def test_fault_P34_what_nothing_can_end_is_said_to_be_stuck_and_its_slot_stays_empty() -> None:
    world = house()
    world.natures["worker/web-0"] = deque([Nature(obeys_after_s=None, stuck_s=60.0)])
    world.declare("web", workers(1, 1, grace="1s"))
    world.run_until(lambda: world.living("worker/web-0"))
    world.run(2)
    world.declare("web", workers(1, 2, grace="1s"))
    world.run_until(lambda: world.worker("web-0").status.state is State.STOP_STUCK)
    world.run(30)
    assert [process.instance for process in world.living("worker/web-0")] == [world.worker("web-0").status.instance]
    assert world.worker("web-0").status.starts == 1
    world.converge()
    assert world.worker("web-0").status.starts == 2


def test_fault_M38_a_change_that_is_taken_back_costs_one_way_there_and_back_at_most_and_never_sticks() -> None:
    for after_s in (0.05, 0.3, 0.35, 0.5, 1.0, 1.5, 3.0, 4.5):
        world = house()
        world.declare("web", workers(2, 1))
        world.converge()
        world.declare("web", workers(2, 2))
        world.run(after_s)
        world.declare("web", workers(2, 1))
        world.converge()
        for name in ("web-0", "web-1"):
            assert starts_of(world, f"worker/{name} ") in (1, 3), f"{name}, taken back after {after_s} s"

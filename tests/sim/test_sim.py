"""Seeds in virtual time: whatever goes wrong, the invariants hold at each step, and in peace all that is wanted comes to be.

A failure names its seed; `python -m tests.sim --seed N --shrink --trace` shows what happened.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from reconciler.policies import backoff
from reconciler.resources.task import TaskState
from tests.sim.chaos import Chaos, faults_of
from tests.sim.controller import Controller
from tests.sim.disk import Disk, DurableStore
from tests.sim.launcher import Launcher
from tests.sim.timeline import Violation

SEEDS, SEEDS_A_TEST = 200, 20
LONG_SEEDS, LONG_SEEDS_A_TEST = 20_000, 500


def run_seed(seed: int, faults: Sequence[str] | None = None) -> str:
    """Runs it; returns the digest of its trace."""
    chaos = Chaos(seed, faults)
    try:
        return chaos.run().timeline.digest
    except BaseException:
        named = f" --faults {','.join(faults)}" if faults is not None else ""
        print(f"\npython -m tests.sim --seed {seed}{named} --trace\n" + "\n".join(chaos.world.timeline.lines[-40:]))
        raise


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_the_invariants_hold_whatever_goes_wrong(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run_seed(seed)


def test_the_invariants_hold_with_a_seed_nobody_has_seen() -> None:
    seed = random.SystemRandom().randrange(1_000_000, 1_000_000_000)
    print(f"seed {seed}")
    run_seed(seed)


def remembered() -> list[Any]:
    found = []
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            seed, faults, _ = line.split(maxsplit=2)
            found.append(pytest.param(int(seed), tuple(faults.split(",")), id=seed))
    return found


@pytest.mark.parametrize(("seed", "faults"), remembered())
def test_what_failed_once_does_not_fail_again(seed: int, faults: tuple[str, ...]) -> None:
    run_seed(seed)
    run_seed(seed, faults)


@pytest.mark.long
@pytest.mark.parametrize("first", range(SEEDS, SEEDS + LONG_SEEDS, LONG_SEEDS_A_TEST))
def test_the_invariants_hold_for_very_many_seeds(first: int) -> None:
    for seed in range(first, first + LONG_SEEDS_A_TEST):
        run_seed(seed)


# The simulator itself.


def test_the_same_seed_gives_the_same_trace() -> None:
    for seed in range(5):
        assert run_seed(seed) == run_seed(seed), f"seed {seed} is not the same twice"


def test_the_trace_does_not_depend_on_the_order_of_hashes() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", "7"],
            env={**os.environ, "PYTHONHASHSEED": number}, capture_output=True, text=True, check=True, timeout=600,
            cwd=Path(__file__).parents[2],
        ).stdout
        for number in ("0", "1")
    ]  # fmt: skip
    assert said[0] == said[1]


def test_trouble_reaches_every_part() -> None:
    """The faults do happen: controllers and launchers die at their instants, tasks of every kind end."""
    passed: set[str] = set()
    ends: set[TaskState] = set()
    deaths = {"controller": 0, "launcher": 0}
    for seed in range(30):
        world = Chaos(seed).run()
        passed |= set(world.passed)
        ends |= {record.state for record in world.disk.tasks.values()}
        for line in world.timeline.lines:
            if " struck at " in line:
                deaths[line.split(" struck at ")[1].partition(".")[0]] += 1
    assert passed == {
        "controller.before-commit", "controller.after-commit", "controller.before-send", "controller.after-send",
        "controller.before-reply", "launcher.before-exit-record", "launcher.after-exit-record", "launcher.after-reap",
        "launcher.before-intent", "launcher.after-intent", "launcher.after-spawn", "launcher.before-pid",
        "launcher.after-pid", "launcher.after-frame",
    }  # fmt: skip
    assert min(deaths.values()) >= 5
    assert {TaskState.SUCCEEDED, TaskState.FAILED, TaskState.DEAD_LETTERED, TaskState.CANCELLED} <= ends


# Known mistakes, made on purpose: each is found.


class ForgetfulLauncher(Launcher):
    """Begins without what an earlier one has written."""

    def _adopt(self) -> None:
        self._disk.journal.clear()
        super()._adopt()


class HastyLauncher(Launcher):
    """Starts before the intent is written."""

    def _write(self) -> bool:
        if any(record[0] == "intent" for record in self.machine.records) and not any(
            record[0] == "pid" for record in self.machine.records
        ):
            return not self.journal_behind
        return super()._write()


class HastyController(Controller):
    """Sends before it commits."""

    def begin(self) -> None:
        super().begin()
        if self.up:
            commit, loop = self.store.commit, self.loop

            def send_and_commit() -> None:
                loop._let_out()
                commit()

            self.store.commit = send_and_commit  # type: ignore[method-assign]


class PromisingController(Controller):
    """Answers a client before it commits."""

    def client_calls(self, call: Any, answer: Any) -> None:
        answer(call())


class LosingStore(DurableStore):
    """Loses a row now and then."""

    def _write(self) -> None:
        super()._write()
        for number in [number for number in self._disk.tasks if number % 7 == 0]:
            del self._disk.tasks[number]


class UnsuspectingStore(DurableStore):
    """Does not notice that the machine was booted."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.rebooted = False


class RepeatingStore(DurableStore):
    """Publishes some changes twice."""

    def commit(self) -> None:
        changes = [*self._staged.values()]
        super().commit()
        if len(changes) > 3:
            for callback in self._commit_callbacks:
                callback(changes)


@pytest.mark.parametrize(
    ("invariant", "faults", "parts"),
    [
        ("I1", ("kill-launcher", "crashes"), {"new_launcher": ForgetfulLauncher}),
        ("I1|I3", ("kill-launcher", "crashes", "slow-starts"), {"new_launcher": HastyLauncher}),
        ("I0|I3", ("kill-controller", "edits"), {"new_controller": HastyController}),
        ("I2", ("kill-controller",), {"new_controller": PromisingController}),
        ("I2", (), {"new_store": LosingStore}),
        ("I3", ("power-cut",), {"new_store": UnsuspectingStore}),
        ("I9", ("edits", "crashes"), {"new_store": RepeatingStore}),
    ],
    ids=["forgetful-launcher", "hasty-launcher", "hasty-controller", "promising-controller", "losing-store",
         "unsuspecting-store", "repeating-store"],
)  # fmt: skip
def test_a_known_mistake_is_found(invariant: str, faults: tuple[str, ...], parts: dict[str, Any]) -> None:
    assert found_within(30, faults, **parts) in invariant.split("|")


def test_a_missing_backoff_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "delay_s", lambda attempt, rules, seed: 0.0)
    assert found_within(30, ("crashes", "edits")) == "I6"


def found_within(seeds: int, faults: tuple[str, ...], **parts: Any) -> str:
    """The invariant that is broken first."""
    for seed in range(seeds):
        try:
            Chaos(seed, faults, **parts).run()
        except Violation as violation:
            return str(violation).partition(":")[0]
        except (KeyError, AssertionError) as error:
            print(f"seed {seed}: {error!r}")
    return "none"


def test_faults_are_those_of_the_seed() -> None:
    assert faults_of(3) == faults_of(3)
    assert len({faults_of(seed) for seed in range(50)}) == 50
    assert Disk().new_uid() == "u0001"

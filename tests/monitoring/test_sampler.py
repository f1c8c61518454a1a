"""The sampler beside real processes: when it looks, what it keeps, and what it says when it cannot see."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.monitoring import sampler as sampler_module
from reconciler.monitoring.sampler import Sampler
from reconciler.monitoring.usage import Root


@pytest.fixture
def roots() -> Iterator[list[Root]]:
    """Two sleeping workers of one pool."""
    processes = [subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2)]
    yield [Root(f"worker/web-{n}", f"u{n}.1", process.pid, "web") for n, process in enumerate(processes)]
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a look takes on a busy machine: what it says is tested, not how soon it is given up."""
    monkeypatch.setattr(sampler_module, "PATIENCE_S", 60.0)


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(60):
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found


async def beside(sampler: Sampler, what: Callable[[], Any]) -> None:
    """Runs the sampler until the condition holds."""
    running = asyncio.create_task(sampler.run())
    try:
        await until(what)
    finally:
        running.cancel()


def test_workers_and_their_pool_are_sampled_again_and_again(roots: list[Root]) -> None:
    sampler = Sampler(lambda: roots, SystemClock(), every_s=0.05)

    asyncio.run(beside(sampler, lambda: len(sampler.history("worker/web-1", "u1.1")) >= 3))

    one, pool = sampler.of("worker/web-1", roots[1].pid), sampler.of("pool/web")
    assert one is not None and pool is not None
    assert pool.processes == 2 * one.processes == 2
    assert len(sampler.history("pool/web")) >= 3
    assert sampler.history("worker/web-1", "another start") == []
    assert sampler.problems == []


def test_fault_P16_a_worker_that_a_signal_has_stopped_is_a_problem_until_it_goes_on(roots: list[Root]) -> None:
    sampler = Sampler(lambda: roots, SystemClock(), every_s=0.05)
    said = "worker/web-1 is stopped (SIGSTOP, SIGTTIN or a debugger) and does nothing: reconciler signal SIGCONT worker/web-1"
    os.kill(roots[1].pid, signal.SIGSTOP)
    asyncio.run(beside(sampler, lambda: sampler.problems == [said]))
    assert [one.stopped for root in roots if (one := sampler.of(root.key, root.pid))] == [False, True]
    os.kill(roots[1].pid, signal.SIGCONT)
    asyncio.run(beside(sampler, lambda: sampler.problems == []))


def test_nothing_is_sampled_unasked_when_that_is_switched_off(roots: list[Root]) -> None:
    sampler = Sampler(lambda: roots, SystemClock(), every_s=0)

    asyncio.run(sampler.run())
    assert sampler.of("pool/web") is None
    asyncio.run(sampler.fresh())

    assert sampler.of("pool/web") is not None
    assert sampler.history("pool/web") == [], "what somebody asked for in between is no part of the history"


def test_those_who_ask_at_once_share_one_look(roots: list[Root], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "FRESH_S", 3600.0)
    asked = 0

    def running() -> list[Root]:
        nonlocal asked
        asked += 1
        return roots

    sampler = Sampler(running, SystemClock(), every_s=0)

    async def ask() -> None:
        await asyncio.gather(*(sampler.fresh() for _ in range(5)))
        await sampler.fresh()

    asyncio.run(ask())
    assert asked == 1


def test_what_has_ended_is_forgotten(roots: list[Root]) -> None:
    running = list(roots)
    sampler = Sampler(lambda: running, SystemClock(), every_s=0.05)

    async def end_one() -> None:
        task = asyncio.create_task(sampler.run())
        await until(lambda: sampler.history("worker/web-0", "u0.1"))
        del running[0]
        await until(lambda: not sampler.history("worker/web-0", "u0.1"))
        task.cancel()

    asyncio.run(end_one())
    assert sampler.of("worker/web-0", roots[0].pid) is None
    assert sampler.of("pool/web") == sampler.of("worker/web-1", roots[1].pid)


def test_fault_C12_without_descriptors_it_says_so_and_goes_on_when_there_are_some(roots: list[Root]) -> None:
    sampler = Sampler(lambda: roots, SystemClock(), every_s=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def starve() -> None:
        await asyncio.to_thread(os.getpid)  # the thread is there
        gc.collect()  # and no file of an earlier test is closed in between
        lowest = os.open("/dev/null", os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await sampler.fresh()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert [problem.partition(":")[0] for problem in sampler.problems] == ["SamplingFailed"]
        assert sampler.of("pool/web") is None
        await sampler.fresh()

    asyncio.run(starve())
    assert sampler.problems == []
    assert sampler.of("pool/web") is not None


def test_a_look_that_hangs_holds_nobody_up_and_is_told(roots: list[Root], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(sampler_module, "STUCK_S", 0.05)
    sampler = Sampler(lambda: roots, SystemClock(), every_s=0)
    hanging = threading.Event()

    async def ask() -> None:
        only_one = ThreadPoolExecutor(1)
        asyncio.get_running_loop().set_default_executor(only_one)
        only_one.submit(hanging.wait)
        await sampler.fresh()
        assert sampler.of("pool/web") is None
        assert sampler.problems[0].startswith("SamplingStuck")
        hanging.set()
        await until(lambda: not sampler.problems)
        assert sampler.of("pool/web") is not None

    asyncio.run(ask())

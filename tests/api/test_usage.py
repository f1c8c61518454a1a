"""What processes use, joined into objects when they are read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.errors import Invalid
from reconciler.monitoring.usage import Root
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Process, State, Worker

FIELDS = {"cpuPercent", "memoryBytes", "virtualMemoryBytes", "threads", "openFiles", "processes", "sampledAt"}


@pytest.fixture
def web(house: Any) -> Iterator[Any]:
    """A pool of which one worker runs: a process of this test."""
    process = subprocess.Popen(["sleep", "1000"], start_new_session=True)

    def build() -> None:
        house.daemon.add_pool("web")
        up = {"state": State.READY, "process": Process.UP, "pid": process.pid, "instance": "u.1"}
        house.daemon.add_worker("web", 0, **up)
        house.daemon.add_worker("web", 1, state=State.BACKOFF)
        house.daemon.roots = [Root("worker/web-0", "u.1", process.pid, "web")]

    house.within(build)
    yield house
    process.kill()
    process.wait()


def test_workers_and_their_pool_show_what_they_use(web: Any) -> None:
    with web.client() as client:
        running, waiting = (one["status"] for one in client.find("workers", usage="fresh")["items"])
        pool = client.get("pools", "web")["status"]

    assert FIELDS - {"cpuPercent"} <= running.keys()
    assert (running["threads"], running["processes"]) == (1, 1)
    assert 0 < running["memoryBytes"] < running["virtualMemoryBytes"]
    assert not FIELDS & waiting.keys()
    assert pool["memoryBytes"] == running["memoryBytes"]


def test_a_list_shows_what_is_known_and_looks_at_nothing(web: Any) -> None:
    with web.client() as client:
        assert not FIELDS & client.find("workers")["items"][0]["status"].keys()


def test_what_is_used_is_never_in_the_store(web: Any) -> None:
    with web.client() as client:
        revision = client.find("workers", usage="fresh")["metadata"]["resourceVersion"]
        assert client.find("workers")["metadata"]["resourceVersion"] == revision
        assert "memoryBytes" in client.get("workers", "web-0")["status"]


def test_the_use_of_an_earlier_process_is_not_that_of_the_next(web: Any) -> None:
    with web.client() as client:
        client.find("workers", usage="fresh")

        def restart() -> None:
            old = web.daemon.store.get(Worker, "web-0")
            web.daemon.store.set_status(old.key, old.status.changed(pid=os.getpid(), instance="u.2"))
            web.daemon.store.commit()

        web.within(restart)
        assert not FIELDS & client.get("workers", "web-0")["status"].keys()


def test_a_running_task_shows_what_it_uses(house: Any) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)

    def begin() -> None:
        record = house.daemon.live_task(1)
        record.state, record.pid, record.attempts = TaskState.RUNNING, process.pid, 1
        house.daemon.store.tasks.stage(record)
        house.daemon.store.commit()
        house.daemon.roots = [Root("task/1", "s.1.1", process.pid, "batch")]

    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit_many("batch", [{"command": ["true"]}] * 2)
        house.within(begin)
        running, waiting = (one["status"] for one in client.find("tasks", usage="fresh")["items"])
        assert running["threads"] == 1 and running["memoryBytes"] > 0
        assert client.get("tasks", "1")["status"]["memoryBytes"] == running["memoryBytes"]
        assert not FIELDS & waiting.keys()
    process.kill()
    process.wait()


def test_a_history_is_there_for_those_who_ask(web: Any) -> None:
    with web.client() as client:
        assert client.usage("workers", "web-0") == []
        assert client.usage("pools", "web") == []


def test_of_a_task_no_history_is_kept(web: Any) -> None:
    with web.client() as client, pytest.raises(Invalid):
        client.usage("tasks", "1")

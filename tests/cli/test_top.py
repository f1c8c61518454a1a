"""`reconciler top`: the table, its order, and the live view."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from reconciler.cli.describe import page
from reconciler.cli.top import ranked, size
from reconciler.monitoring.usage import Root
from reconciler.resources.worker import Process, State


@pytest.fixture
def web(house: Any) -> Iterator[Any]:
    """Two running workers, the second of which has more memory."""
    programs = (["sleep", "1000"], [sys.executable, "-c", "kept = bytearray(64 << 20); import time; time.sleep(1000)"])
    processes = [subprocess.Popen(program, start_new_session=True) for program in programs]

    def build() -> None:
        house.daemon.add_pool("web")
        for ordinal, process in enumerate(processes):
            up = {"state": State.READY, "process": Process.UP, "pid": process.pid, "instance": f"u{ordinal}.1"}
            house.daemon.add_worker("web", ordinal, **up)
            house.daemon.roots.append(Root(f"worker/web-{ordinal}", f"u{ordinal}.1", process.pid, "web"))

    house.within(build)
    yield house
    for process in processes:
        process.kill()
        process.wait()


def item(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": status}


def names(items: list[dict[str, Any]]) -> list[str]:
    return [one["metadata"]["name"] for one in items]


def test_the_most_comes_first_and_what_is_not_known_last() -> None:
    items = [item("a"), item("b", cpuPercent=5.0), item("c", cpuPercent=70.0), item("d", cpuPercent=5.0)]

    assert names(ranked(items, "cpu")) == ["c", "b", "d", "a"]


def test_names_are_in_the_order_of_their_numbers() -> None:
    assert names(ranked([item("web-10"), item("web-2"), item("7"), item("a-b")], "name")) == [
        "7", "a-b", "web-2", "web-10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (1023, "1023"), (1536, "1.5Ki"), (65 << 20, "65Mi"), (3 << 40, "3.0Ti")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


def test_top_shows_workers_by_what_they_use(web: Any, cli: Any) -> None:
    lines = [line.split() for line in cli("top", "--sort", "name").stdout.decode().splitlines()]
    assert lines[0] == ["NAME", "STATUS", "PID", "UP", "CPU%", "MEMORY", "VIRTUAL", "THREADS", "FILES", "PROCESSES"]
    assert [line[0] for line in lines[1:]] == ["web-0", "web-1"]
    (pool,) = json.loads(cli("top", "pools", "-o", "json").stdout)["items"]
    assert pool["status"]["processes"] == 2
    assert cli("top", "workers", "--pool", "other").stderr == b"nothing runs\n"
    assert cli("top", "tasks").stderr == b"nothing runs\n"


def test_top_refuses_what_it_does_not_know(web: Any, cli: Any) -> None:
    assert cli("top", "cores").returncode == 2
    assert cli("top", "--sort", "beauty").returncode == 2


def test_describe_says_what_was_used_on_average_and_at_most() -> None:
    samples = [
        {"memoryBytes": 10 << 20, "sampledAt": "2026-11-23T18:10:00.000Z"},
        {"cpuPercent": 10.0, "memoryBytes": 20 << 20, "sampledAt": "2026-11-23T18:10:10.000Z"},
        {"cpuPercent": 30.0, "memoryBytes": 30 << 20, "sampledAt": "2026-11-23T18:10:20.000Z"},
    ]
    obj = {"kind": "Worker", "metadata": {"name": "web-0", "generation": 1}}

    assert "Used:        CPU 20.0% on average, 30.0% at most; memory 20Mi, 30Mi at most (3 samples in " in page(
        obj, [], [], samples
    )


@pytest.mark.parametrize("way", ["q", "Ctrl-C"])
def test_on_a_terminal_top_goes_on_until_it_is_left(web: Any, way: str) -> None:
    main, terminal = pty.openpty()
    words = [sys.executable, "-m", "reconciler", "--state", str(web.state), "top", "--every", "100ms"]
    with subprocess.Popen(words, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as showing:
        os.close(terminal)
        seen = read_until(main, b"workers by cpu")
        assert seen.startswith(b"\x1b[?1049h")
        os.write(main, b"m")
        read_until(main, b"workers by memory")
        os.write(main, b"p")
        read_until(main, b"1 pools by memory")
        if way == "q":
            os.write(main, b"q")
        else:
            showing.send_signal(signal.SIGINT)
        read_until(main, b"\x1b[?1049l")
        assert showing.wait(60) == 0
    os.close(main)


def read_until(fd: int, wanted: bytes) -> bytes:
    """What is shown, up to the wanted words and what came with them; ends with an error when the program has ended."""
    seen = b""
    while wanted not in seen:
        readable, _, _ = select.select([fd], [], [], 60)
        assert readable, f"{wanted!r} was not shown: {seen!r}"
        seen += os.read(fd, 4096)
    return seen

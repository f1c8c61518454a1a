"""Task queues of the field: huey on SQLite, celery, dramatiq and rq on Redis; each with every change on the disk.

saturated(name, workers, count)        all submitted first, then the consumers: tasks a second, and how long that took
open_loop(name, workers, count, rate)  so many a second offered: from the intended moment to the moment it was done

CACHE/queues/       their packages in an environment of their own; the product knows none of them
CACHE/redis-server/ Redis unpacked from its Debian package, on a Unix socket in the directory of the measurement,
                    appendonly with a sync of every write
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import machine
from fetched import environment, libraries, unpacked
from figure import Values, percentile

HERE = Path(__file__).resolve().parent
REQUIREMENTS = (
    "celery==5.7.0",
    "dramatiq==2.2.1",
    "huey==3.5.4",
    "packaging==26.3",
    "redis==8.1.0",
    "rq==3.0.0",
)
REDIS = [  # what redis-server needs beyond the base system comes with it
    "redis-server",
    "redis-tools",
    "libatomic1",
    "libhiredis0.14",
    "libjemalloc2",
    "liblua5.1-0",
    "liblzf1",
    "lua-bitop",
    "lua-cjson",
]
DEADLINE_S = 120.0
FIRST = 20
"""Tasks before an open loop begins: its consumers are there."""


def _celery(workers: int, at: Path) -> list[str]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
    return ["celery", "-A", "queue_tasks:queue", "worker", "-P", "prefork", "-c", str(workers), *quiet]


def _rq(workers: int, at: Path) -> list[str]:
    quiet = ["-w", "rq.worker.SimpleWorker", "--logging-level", "ERROR", "--url", f"unix://{at}/redis.sock"]
    return ["rq", "worker-pool", "-n", str(workers), *quiet]


COMMANDS: dict[str, Callable[[int, Path], list[str]]] = {
    "huey": lambda workers, at: ["huey_consumer", "queue_tasks.queue", "-k", "process", "-w", str(workers), "-q"],
    "celery": _celery,
    "dramatiq": lambda workers, at: ["dramatiq", "queue_tasks", "-p", str(workers), "-t", "1"],
    "rq": _rq,
}


def saturated(name: str, workers: int, count: int) -> Values:
    with _at(name) as (directory, env):
        began = time.monotonic()
        _offer(env, count, 0)
        submitted_s = time.monotonic() - began
        with _consumers(name, workers, directory, env):
            moments = _done(directory, count)
    worked_s = max(moments.values()) - min(moments.values())
    return {
        "rate": ("/s", (count - 1) / worked_s),
        "submit": ("/s", count / submitted_s),
        "rate with submit": ("/s", count / (submitted_s + worked_s)),
    }


def open_loop(name: str, workers: int, count: int, rate_per_s: float) -> list[float]:
    """The seconds each task took from its intended moment."""
    with _at(name) as (directory, env), _consumers(name, workers, directory, env):
        _offer(env, FIRST, 0)
        _done(directory, FIRST)
        os.truncate(directory / "done", 0)  # they append: it goes on from here
        began = _offer(env, count, rate_per_s)
        moments = _done(directory, count)
    return [moments[number] - began - number / rate_per_s for number in range(count)]


def spread(what: str, values_s: Sequence[float]) -> Values:
    """A median and the slowest of a hundred, in milliseconds."""
    return {
        f"{what} {word}": ("ms", percentile(values_s, share) * 1000) for word, share in (("p50", 0.5), ("p99", 0.99))
    }


def need() -> Path:
    """Where the programs of the queues are. Raises Missing."""
    return environment("queues", REQUIREMENTS)


def need_redis() -> Path:
    """Where redis-server is. Raises Missing."""
    return unpacked("redis-server", REDIS)


NEEDS = {"huey, celery, dramatiq, rq": need, "redis-server": need_redis}


@contextmanager
def _at(name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory with a queue that runs, and the environment that leads there."""
    programs = need()
    with machine.work_directory(name) as directory:
        env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "BENCH_QUEUE": name,
            "BENCH_AT": str(directory),
        }
        if name == "huey":
            yield directory, env
        else:
            with _redis(directory):
                yield directory, env


@contextmanager
def _redis(directory: Path) -> Iterator[None]:
    programs = need_redis()
    settings = ["--port", "0", "--unixsocket", str(directory / "redis.sock"), "--dir", str(directory), "--save", ""]
    argv = [str(programs / "redis-server"), *settings, "--appendonly", "yes", "--appendfsync", "always"]
    with _running(argv, directory, {**os.environ, **libraries(programs)}):
        machine.wait_for((directory / "redis.sock").exists, "redis-server", 30.0)
        yield


@contextmanager
def _consumers(name: str, workers: int, directory: Path, env: dict[str, str]) -> Iterator[None]:
    argv = COMMANDS[name](workers, directory)
    with _running([str(need() / argv[0]), *argv[1:]], directory, env):
        yield


@contextmanager
def _running(argv: Sequence[str], directory: Path, env: dict[str, str]) -> Iterator[None]:
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            argv, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield
    except BaseException:
        machine.show_tail(directory / "output")
        raise
    finally:
        below = [process.pid, *machine.descendants(process.pid)]
        process.terminate()
        try:
            machine.wait_exits(below, 5.0)
        except TimeoutError:
            machine.end_what_is_left()
        process.wait()


def _offer(env: dict[str, str], count: int, rate_per_s: float) -> float:
    argv = [str(need() / "python"), "-c", f"import queue_tasks; queue_tasks.offer({count}, {rate_per_s})"]
    out = subprocess.run(argv, env=env, check=True, stdout=subprocess.PIPE, timeout=DEADLINE_S, text=True)
    return float(out.stdout)


def _done(directory: Path, count: int) -> dict[int, float]:
    """When each of so many tasks was done, once all are."""
    path = directory / "done"
    machine.wait_for(
        lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} tasks", DEADLINE_S, every_s=0.05
    )
    return {int(number): float(at) for number, at in map(str.split, path.read_text().splitlines())}

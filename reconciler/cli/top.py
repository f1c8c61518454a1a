"""top: what uses the machine now; on a terminal again every two seconds, until q."""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.show import age, escape, structured, table
from reconciler.client import Client

_KINDS = {"w": "workers", "p": "pools", "t": "tasks"}
_SORTS = {"c": "cpu", "m": "memory", "h": "threads", "n": "name"}
"""By the key that chooses it on a terminal."""
_FIELDS = {"cpu": "cpuPercent", "memory": "memoryBytes", "threads": "threads"}
_WHOLE_SCREEN, _FORMER_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_FROM_THE_TOP, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command("top")
@click.argument("kind", type=click.Choice(list(_KINDS.values())), default="workers")
@click.option("--pool", help="Only of this pool.")
@click.option("--sort", type=click.Choice(list(_SORTS.values())), default="cpu", help="The most first.  [cpu]")
@click.option("--every", default="2s", metavar="DURATION", help="On a terminal: how often it is shown anew.  [2s]")
@click.option("--once", is_flag=True, help="On a terminal too: show it once.")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...; once.")
@state_option
def top_command(kind: str, pool: str | None, sort: str, every: str, once: bool, form: str, state: str | None) -> None:
    """Shows what uses the machine: CPU, memory, threads, open files.

    Of each worker, pool or running task, with all the processes below it. CPU is in percent of one core. Memory is
    resident; what several processes of a tree share is counted for each of them.

    \b
    reconciler top                       on a terminal: q ends it; w p t choose what, c m h n the order
    reconciler top pools --sort memory
    reconciler top tasks -o json
    """
    every_s = max(0.1, seconds(every, "--every") or 0.0)
    with connect(state) as client:
        if not once and not form and sys.stdout.isatty() and sys.stdin.isatty():
            _live(client, kind, pool, sort, every_s)
            return
        items = ranked(_running(client, kind, pool), sort)
    if form:
        sys.stdout.write(structured({"kind": "List", "items": items}, form))
    elif items:
        sys.stdout.write(page(kind, items))
    else:
        click.echo("nothing runs", err=True)


def ranked(items: Sequence[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """The most first; by name where that is asked for, or where two use the same."""
    named = sorted(items, key=lambda item: _natural(item["metadata"]["name"]))
    if sort == "name":
        return named
    return sorted(named, key=lambda item: -item["status"].get(_FIELDS[sort], -1))


def page(kind: str, items: Sequence[dict[str, Any]]) -> str:
    """The table."""
    headers, row = _TABLES[kind]
    return table([*headers, "CPU%", "MEMORY", "VIRTUAL", "THREADS", "FILES", "PROCESSES"], map(row, items))


def size(count_bytes: int) -> str:
    """In the unit that leaves one to four digits, as manifests have them: 512Ki, 1.5Gi."""
    value = float(count_bytes)
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if value < 1024 or unit == "Ti":
            break
        value /= 1024
    return f"{value:.1f}{unit}" if unit and value < 10 else f"{value:.0f}{unit}"


def _running(client: Client, kind: str, pool: str | None) -> list[dict[str, Any]]:
    if kind == "pools":
        found = client.find(kind, usage="fresh")["items"]
        return [item for item in found if pool in (None, item["metadata"]["name"])]
    if kind == "tasks":
        return list(client.find(kind, usage="fresh", pool=pool, state="Running")["items"])
    found = client.find(kind, usage="fresh")["items"]
    return [item for item in found if "pid" in item["status"] and pool in (None, item["spec"]["pool"])]


def _live(client: Client, kind: str, pool: str | None, sort: str, every_s: float) -> None:
    """Again and again, until q or Ctrl-C."""
    with _screen():
        while True:
            items = ranked(_running(client, kind, pool), sort)
            columns, lines = shutil.get_terminal_size()
            shown = f"{_summary(kind, items, sort)}\n\n{page(kind, items)}".splitlines()[: lines - 1]
            text = "".join(f"{line[:columns]}{_REST_OF_LINE}\n" for line in shown)
            sys.stdout.write(_FROM_THE_TOP + text + _REST_OF_SCREEN)
            sys.stdout.flush()
            key = _key(every_s)
            if key == "q":
                return
            kind, sort = _KINDS.get(key, kind), _SORTS.get(key, sort)


def _summary(kind: str, items: Sequence[dict[str, Any]], sort: str) -> str:
    cpu = sum(item["status"].get("cpuPercent", 0.0) for item in items)
    memory = sum(item["status"].get("memoryBytes", 0) for item in items)
    now = time.strftime("%H:%M:%S")
    return f"{now}   {len(items)} {kind} by {sort}   CPU {cpu:.1f}%   memory {size(memory)}   (w p t, c m h n, q)"


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, where keys come at once; as it was, afterwards."""
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    sys.stdout.write(_WHOLE_SCREEN)
    try:
        yield
    except KeyboardInterrupt:
        pass  # the usual way to leave
    finally:
        sys.stdout.write(_FORMER_SCREEN)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _key(wait_s: float) -> str:
    """The key that is pressed within that time; none: empty."""
    readable, _, _ = select.select([sys.stdin], [], [], wait_s)
    if not readable:
        return ""
    pressed = os.read(sys.stdin.fileno(), 1)
    return pressed.decode("ascii", "replace") if pressed else "q"  # nobody is there any more


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """web-10 comes after web-2."""
    return [(False, int(word), "") if word.isdigit() else (True, 0, word) for word in name.split("-")]


def _used(status: dict[str, Any]) -> list[str]:
    memory, virtual = status.get("memoryBytes"), status.get("virtualMemoryBytes")
    return [
        f"{status['cpuPercent']:.1f}" if "cpuPercent" in status else "-",
        "-" if memory is None else size(memory),
        "-" if virtual is None else size(virtual),
        *(str(status.get(name, "-")) for name in ("threads", "openFiles", "processes")),
    ]


def _pool(pool: dict[str, Any]) -> list[str]:
    status = pool["status"]
    tasks = status.get("tasks") or {}
    return [
        pool["metadata"]["name"],
        f"{status.get('readyReplicas', 0)}/{status.get('desiredReplicas', pool['spec'].get('replicas', 0))}",
        str(tasks["running"]) if "running" in tasks else "-",
        *_used(status),
    ]


def _worker(worker: dict[str, Any]) -> list[str]:
    status = worker["status"]
    return [
        worker["metadata"]["name"],
        status["state"],
        str(status["pid"]),
        age(status.get("startedAt")),
        *_used(status),
    ]


def _task(task: dict[str, Any]) -> list[str]:
    status = task["status"]
    program = escape(os.path.basename(task["spec"]["command"][0]))[:20]
    return [task["metadata"]["name"], program, status.get("worker", "-"), age(status.get("startedAt")), *_used(status)]


_TABLES: dict[str, tuple[list[str], Any]] = {
    "pools": (["NAME", "READY", "TASKS"], _pool),
    "workers": (["NAME", "STATUS", "PID", "UP"], _worker),
    "tasks": (["NAME", "COMMAND", "WORKER", "UP"], _task),
}

"""exec: a command beside a worker, on the caller's terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.objects import plural
from reconciler.errors import Refused


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@state_option
@click.argument("worker", metavar="worker/NAME")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def exec_command(worker: str, command: Sequence[str], state: str | None) -> int:
    """Runs a command beside a worker: same user, environment, directory and limits.

    Its input and output are this terminal's, its exit code is ours: 128+n when signal n ended it; 126 cannot be executed;
    127 not found. It ends with the worker at the latest where workers have control groups.

    \b
    reconciler exec worker/web-0 -- sh
    reconciler exec worker/web-0 -- env
    """
    from reconciler.backends import enter

    word, _, name = worker.rpartition("/")
    if word and plural(word) != "workers":
        raise click.UsageError(f"{worker!r} is no worker: write worker/NAME")
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("what shall be run? reconciler exec worker/NAME -- CMD")
    with connect(state) as client:
        status = client.get("workers", name)["status"]
    pid = status.get("pid")
    if pid is None:
        raise Refused(f"worker/{name} does not run now", f"reconciler describe worker/{name} says why")
    environment = enter.environment(pid, status["instance"])
    if environment is None:
        raise Refused(f"worker/{name} has written over its environment", "run the command in another worker")
    if sys.stdin.isatty() and "TERM" in os.environ:
        environment.setdefault("TERM", os.environ["TERM"])
    place = enter.place(pid)
    sys.stdout.flush()
    sys.stderr.flush()
    return enter.run(place, environment, command)

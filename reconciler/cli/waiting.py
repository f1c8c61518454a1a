"""wait: until a condition holds, or never will."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import plural, pool_name
from reconciler.cli.wishes import say_what_waits
from reconciler.client import Client

_SHOW_S = 2.0

EXIT_TIMEOUT = 124
EXIT_OWN_FAILURE = 125
EXIT_CANNOT_EXECUTE = 126
EXIT_NOT_FOUND = 127


@click.command("wait")
@click.argument("objects", nargs=-1, metavar="[KIND/NAME]...")
@click.option("--all", "all_", is_flag=True, help="Until no submitted task is left.")
@click.option("--pool", help="With --all: of this pool only.")
@click.option("--for", "wanted", metavar="CONDITION", help="ready, deleted, finished or condition=NAME.")
@click.option("--timeout", metavar="DURATION", help="At most so long; then 124.")
@click.option("-q", "--quiet", is_flag=True, help="No notes, and no progress on the terminal.")
@state_option
def wait_command(
    objects: Sequence[str],
    all_: bool,
    pool: str | None,
    wanted: str | None,
    timeout: str | None,
    quiet: bool,
    state: str | None,
) -> int:
    """Waits for a condition of objects.

    Without --for: until tasks have ended, and others are ready.

    `wait task/ID` ends with the code of the command, 128+n when signal n ended it, 125 when it has none.
    """
    if all_ == bool(objects):
        raise click.UsageError("wait takes KIND/NAME..., or --all")
    timeout_s = seconds(timeout, "--timeout")
    kinds = {plural(text.partition("/")[0]) for text in objects}
    chosen = wanted or ("finished" if all_ or kinds == {"tasks"} else "ready")
    with connect(state) as client:
        all_of = (pool_name(pool) if pool else "") if all_ else None
        if not quiet:
            say_what_waits(client, objects, chosen, all_of)
        found = _wait(client, objects, chosen, timeout_s, all_of, show=sys.stderr.isatty() and not quiet)
    if not found["done"]:
        click.echo(f"error: not {chosen} within {timeout}", err=True)
        return EXIT_TIMEOUT
    results = found["results"]
    if len(results) == 1 and kinds == {"tasks"} and chosen == "finished":
        return task_code(results[0]["status"])
    never = [result["object"] for result in results if result["answer"] == "never"]
    if never:
        click.echo(f"error: {', '.join(never)} has ended and will not be {chosen}", err=True)
        return 1
    if chosen == "finished" and kinds == {"tasks"}:
        return 0 if all(task_code(result["status"]) == 0 for result in results) else 1
    return 0


def _wait(
    client: Client, objects: Sequence[str], wanted: str, timeout_s: float | None, all_of: str | None, show: bool
) -> dict[str, Any]:
    """As Client.wait; tells a person at a terminal every few seconds how many are left."""
    if not show:
        return client.wait(objects, wanted, timeout_s, all_of)
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    shown = False
    while True:
        left_s = _SHOW_S if deadline_s is None else min(_SHOW_S, max(0.0, deadline_s - time.monotonic()))
        found = client.wait(objects, wanted, left_s, all_of)
        if found["done"] or (deadline_s is not None and time.monotonic() >= deadline_s):
            if shown:
                sys.stderr.write("\n")
            return found
        sys.stderr.write(f"\rwaiting for {found['left']} to be {wanted} ")
        sys.stderr.flush()
        shown = True


def task_code(status: dict[str, Any]) -> int:
    """The exit code that stands for how a task ended."""
    if status["state"] in ("Cancelled", "Expired", "Unknown"):
        return EXIT_OWN_FAILURE
    if status.get("reason") == "StartFailed":
        missing = "No such file" in status.get("message", "")
        return EXIT_NOT_FOUND if missing else EXIT_CANNOT_EXECUTE
    if "signal" in status:
        return 128 + int(signal.Signals[status["signal"]])
    return int(status.get("exitCode", EXIT_OWN_FAILURE))

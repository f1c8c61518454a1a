"""lock: one at a time, for any command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.errors import ReconcilerError


@click.group("lock")
def lock_command() -> None:
    """Locks: who holds them, who waits, and a command that runs under one.

    Each holder has a token, larger than all before, in RECONCILER_LOCK_TOKEN. A lock whose token nobody checks is only
    advice: let what it protects refuse a token below the largest it has seen.
    """


@lock_command.command("run", context_settings={"ignore_unknown_options": True})
@click.option("--timeout", metavar="DURATION", help="How long to wait for the lock; then 124.")
@click.option("--keep-running", is_flag=True, help="Do not end the command when the lock is lost; say so only.")
@state_option
@click.argument("name", metavar="NAME|FILE")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD [ARG]...")
def _run(name: str, command: Sequence[str], timeout: str | None, keep_running: bool, state: str | None) -> int:
    """Holds a lock while a command runs.

    Waits in line for it, runs the command with RECONCILER_LOCK_TOKEN in its environment, and gives the lock back however
    that ends. The exit code is the command's own: 128+n when signal n ended it; 126 cannot be executed; 127 not found; 125
    when the lock was lost or could not be had; 124 when it was not had in time. A wait that could never end, because its
    holders wait for us, is refused.

    When `lock run` itself is killed with SIGKILL, the kernel ends the command with it, but nothing that the command has
    started: that may run on while the lock is another's. Let what it writes to check the token.

    NAME is a Lock of the daemon, made at its first use if no manifest declares it. A FILE, a path with a slash in it, is
    locked without a daemon: `reconciler lock run ./deploy.lock -- ./deploy.sh`. It stays there afterwards, and with it
    FILE.token, the largest token: delete neither, or tokens begin anew.

    \b
    reconciler lock run warehouse --timeout 30m -- ./nightly.sh
    """
    from reconciler.cli import held
    from reconciler.coordination.filelock import FileLock

    timeout_s = seconds(timeout, "--timeout")
    sys.stdout.flush()
    try:
        if "/" in name:
            return held.run_with_file(FileLock(name, timeout_s), command)
        return held.run(connect(state).lock(name, timeout_s, " ".join(command)), command, not keep_running)
    except ReconcilerError as error:
        if error.exit_code in (2, 3, 124, 125):
            raise
        click.echo(f"error: {error}", err=True)
        return 125
    except OSError as error:
        click.echo(f"error: {name}: {error.strerror}", err=True)
        return 125


@lock_command.command("status")
@click.argument("name", required=False, metavar="[NAME]")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@state_option
def _status(name: str | None, form: str, state: str | None) -> int:
    """Who holds each lock with which token since when, who waits for it in which order, and who waits for whom in a circle."""
    from reconciler.cli.show import structured

    with connect(state) as client:
        found: Any = client.get("locks", name) if name else client.find("locks")
    locks = [found] if name else found["items"]
    sys.stdout.write(structured(found, form) if form else page(locks))
    return 0


def page(locks: Sequence[dict[str, Any]]) -> str:
    """The locks for people: a line for each holder and each waiter, then the deadlocks."""
    from reconciler.cli.show import age, escape, table

    rows = []
    for lock in locks:
        name, status = lock["metadata"]["name"], lock["status"]
        holders, waiting = status.get("holders", []), status.get("waiting", [])
        rows += [[name, "holds", escape(one["name"]), str(one["token"]), age(one["since"])] for one in holders]
        rows += [
            [name, f"waits ({place})", escape(one["name"]), "-", age(one["since"])]
            for place, one in enumerate(waiting, 1)
        ]
        if not holders and not waiting:
            rows.append([name, "free", "-", str(status["token"]), "-"])
    text = table(["LOCK", "STATE", "WHO", "TOKEN", "SINCE"], rows) if rows else "there are no locks\n"
    for circle in dict.fromkeys(lock["status"].get("deadlock", "") for lock in locks):
        text += f"\ndeadlock: {escape(circle)}\n" if circle else ""
    return text

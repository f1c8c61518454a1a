"""exec: a command beside a worker, on the caller's terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

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
        found = client.get("workers", name)
        status = found["status"]
        template = client.get("pools", found["spec"]["pool"])["spec"]["template"]
    pid = status.get("pid")
    if pid is None:
        raise Refused(f"worker/{name} does not run now", f"reconciler describe worker/{name} says why")
    environment = enter.environment(pid, status["instance"])
    if environment is None:
        from reconciler.resources.revision import revision_name

        # the program shows a title there: what it was started with is made again
        with connect(state) as client:
            revision = client.get("revisions", revision_name(found["spec"]["pool"], status["templateHash"]))
            daemon = client.status()
        environment = _declared(found, revision, daemon["launcher"]["pid"], daemon["state"])
    if sys.stdin.isatty() and "TERM" in os.environ:
        environment.setdefault("TERM", os.environ["TERM"])
    place = enter.place(pid)
    if "readWritePaths" in (template.get("sandbox") or {}):  # the kernel lets nobody join such rules from outside
        click.echo("note: the worker's readWritePaths do not bind this command", err=True)
    sys.stdout.flush()
    sys.stderr.flush()
    return enter.run(place, environment, command)


def _declared(worker: dict[str, Any], revision: dict[str, Any], launcher: int, daemon_state: str) -> dict[str, str]:
    """What a worker's template declares, with secrets read by us."""
    from reconciler.backends import enter
    from reconciler.backends.launch import StartError, Starts
    from reconciler.backends.local import LocalHost
    from reconciler.resources.meta import Metadata
    from reconciler.resources.pool import Template
    from reconciler.resources.worker import Worker, WorkerSpec, WorkerStatus

    made = Worker(
        metadata=Metadata(name=worker["metadata"]["name"]),
        spec=WorkerSpec.model_validate(worker["spec"]),
        status=WorkerStatus(instance=worker["status"]["instance"], tokens=worker["status"].get("tokens", {})),
    )
    template = Template.model_validate_json(json.dumps(revision["spec"]["template"]))
    starts = Starts(LocalHost("", enter.environment_of(launcher) or {}, f"{daemon_state}/tmp"))
    try:
        return starts.environment(made.spec.pool, made, template)
    except StartError as error:
        raise Refused(f"the environment of {made.key} cannot be made: {error}") from None

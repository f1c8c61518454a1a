"""submit, run, cancel: work for the slots of a pool."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import Tasks, pool_name, tasks_options
from reconciler.cli.show import Output
from reconciler.cli.waiting import EXIT_OWN_FAILURE, task_code
from reconciler.cli.wishes import say_if_it_waits
from reconciler.client import Client
from reconciler.errors import Invalid, ReconcilerError
from reconciler.resources.words import many

_MOST_SAID = 100
"""So many errors of a file are listed at once."""


@click.command("submit", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, metavar="[-- COMMAND [ARG]...]")
@click.option("--pool", metavar="NAME", help="Where it runs; without it the only pool that takes tasks.")
@click.option("--from", "from_", metavar="FILE", help="One task a line as JSON; - is standard input.")
@click.option("--priority", type=click.IntRange(0, 255), help="From 200 on urgent, below 100 for idle hours. [100]")
@click.option("--tenant", metavar="NAME", help="Whom it is for: a FairShare policy divides between tenants.")
@click.option("--key", metavar="KEY", help="What it is about: tasks of one key meet one worker.")
@click.option("--delay", metavar="DURATION", help="It does not begin before that.")
@click.option(
    "--deadline", metavar="DURATION|TIME", help="From then on it is of no use: it ends Expired, begun or not."
)
@click.option("--idempotency-key", metavar="KEY", help="The same key and content again: the same task.")
@click.option("--timeout", metavar="DURATION", help="Longest running time of one try.")
@click.option("--max-attempts", type=click.IntRange(1), help="Tries in all.")
@click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("--payload", metavar="JSON", help="Handed on in RECONCILER_PAYLOAD; to a Warm pool it is the task.")
@click.option("--wait", is_flag=True, help="Until it has ended; the exit code is the command's.")
@click.option(
    "-o", "form", type=click.Choice(["name", "json"]), help="What is printed; of a file without it the count."
)
@click.option("-q", "--quiet", is_flag=True, help="Print nothing.")
@state_option
def submit_command(
    command: Sequence[str],
    pool: str | None,
    from_: str | None,
    priority: int | None,
    tenant: str | None,
    key: str | None,
    delay: str | None,
    deadline: str | None,
    idempotency_key: str | None,
    timeout: str | None,
    max_attempts: int | None,
    env: Sequence[str],
    payload: str | None,
    wait: bool,
    form: str | None,
    quiet: bool,
    state: str | None,
) -> int:
    """Submits a task, or a file of them. What is printed is durable.

    \b
    reconciler submit --pool batch -- python3 train.py
    reconciler submit --pool batch --priority 200 --deadline 10m -- ./urgent.sh
    reconciler submit --pool batch --from tasks.jsonl
    reconciler submit --pool scorer --payload '{"text": "..."}'
    """
    seconds(delay, "--delay")
    chosen_fields = {
        "priority": priority, "tenant": tenant, "key": key, "delay": delay, "deadline": deadline,
        "maxAttempts": max_attempts,
    }  # fmt: skip
    fields = {name: value for name, value in chosen_fields.items() if value is not None}
    if (from_ is None) == (not command and payload is None):
        raise click.UsageError("submit takes one of -- COMMAND, --from FILE, and for a Warm pool --payload JSON")
    with connect(state) as client:
        chosen = pool_name(pool) if pool else only_pool(client)
        if from_ is not None:
            if fields or any((idempotency_key, timeout, env, payload, wait)):
                raise click.UsageError("--from: each line says this for itself")
            count = _submit_file(client, chosen, from_, None if quiet else form)
            if not quiet and form is None:
                click.echo(count)
            return 0
        wanted = _submission(command, env, payload, idempotency_key, timeout)
        task = client.submit(chosen, wanted | fields)
        if not quiet and not (wait and form == "json"):
            click.echo(json.dumps(task, ensure_ascii=False) if form == "json" else f"task/{task['metadata']['name']}")
        if not wait:
            return 0
        sys.stdout.flush()
        say_if_it_waits(client, chosen)
        found = client.wait([f"task/{task['metadata']['name']}"], "finished")
        if form == "json" and not quiet:
            click.echo(json.dumps(client.get("tasks", task["metadata"]["name"]), ensure_ascii=False))
        status = found["results"][0]["status"]
        if status["state"] != "Succeeded":
            click.echo(f"error: task/{task['metadata']['name']}: {_how_it_ended(status)}", err=True)
        return task_code(status)


@click.command("run", context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND [ARG]...")
@click.option("--pool", metavar="NAME", help="Where it runs; without it the only pool that takes tasks.")
@click.option("--timeout", metavar="DURATION", help="Longest running time.")
@click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="A variable; may be repeated.")
@click.option("--raw", is_flag=True, help="On a terminal, too: bytes as they are.")
@state_option
def run_command(
    command: Sequence[str], pool: str | None, timeout: str | None, env: Sequence[str], raw: bool, state: str | None
) -> int:
    """Runs a command as a task, once.

    Its output is shown, and the exit code is its own: 128+n when signal n ended it; 125 for failures of ours; 126
    cannot be executed; 127 not found. An interrupt (^C) cancels the task.
    """
    try:
        with connect(state) as client:
            chosen = pool_name(pool) if pool else only_pool(client)
            wanted = _submission(command, env, None, None, timeout) | {"maxAttempts": 1, "onUnknown": "Fail"}
            task = client.submit(chosen, wanted)["metadata"]["name"]
            try:
                say_if_it_waits(client, chosen)
                output = Output(raw)
                for block in client.follow("tasks", task):
                    output.write(block)
                status = client.wait([f"task/{task}"], "finished")["results"][0]["status"]
            except (KeyboardInterrupt, BrokenPipeError):
                client.close()
                client.cancel(task)
                raise
    except ReconcilerError as error:
        if error.exit_code in (2, 3, 4, 5):
            raise
        click.echo(f"error: {error}", err=True)
        return EXIT_OWN_FAILURE
    code = task_code(status)
    if status.get("reason") == "TimedOut" or ("exitCode" not in status and "signal" not in status):
        click.echo(f"error: task/{task}: {status.get('message') or status['state']}", err=True)
    return code


@click.command("cancel")
@tasks_options
def cancel_command(chosen: Tasks) -> None:
    """Cancels tasks.

    What waits never runs; what runs is ended gracefully.

    \b
    reconciler cancel task/17
    reconciler cancel --pool batch --state Pending
    """
    with connect(chosen.directory) as client:
        if not chosen.ids:
            click.echo(f"{many(client.cancel_many(chosen.pool, chosen.in_state), 'task')} cancelled")
        for id_ in chosen.ids:
            state = client.cancel(id_)["status"]["state"]
            live = state in ("Pending", "Delayed", "Running", "Retrying")
            click.echo(f"task/{id_} {'cancelled' if live or state == 'Cancelled' else f'had ended: {state}'}")


def only_pool(client: Client) -> str:
    """The one pool that takes tasks; where there are none or several a person has to say."""
    names = [pool["metadata"]["name"] for pool in client.find("pools")["items"] if pool["spec"].get("tasks")]
    if len(names) != 1:
        known = ", ".join(names) or "there is none that takes tasks"
        raise click.UsageError(f"--pool is needed: {known}")
    return str(names[0])


def _how_it_ended(status: dict[str, Any]) -> str:
    """`DeadLettered: Exited, exit code 3`."""
    code = f"exit code {status['exitCode']}" if "exitCode" in status else ""
    how = ", ".join(filter(None, (status.get("reason"), status.get("message") or status.get("signal") or code)))
    return f"{status['state']}: {how}" if how else str(status["state"])


def _submission(
    command: Sequence[str], env: Sequence[str], payload: str | None, key: str | None, timeout: str | None
) -> dict[str, Any]:
    """What the API takes, of what the command line says."""
    wanted: dict[str, Any] = {"command": list(command)} if command else {}
    for item in env:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"NAME=VALUE was expected, got {item!r}", param_hint="--env")
        wanted.setdefault("env", {})[name] = value
    if payload is not None:
        try:
            wanted["payload"] = json.loads(payload)
        except ValueError as error:
            raise click.BadParameter(f"not JSON: {error}", param_hint="--payload") from None
    if key is not None:
        wanted["idempotencyKey"] = key
    if timeout is not None:
        seconds(timeout, "--timeout")
        wanted["timeout"] = timeout
    return wanted


def _submit_file(client: Client, pool: str, path: str, form: str | None) -> int:
    """All lines of a file, the tasks shown in that form; a refusal says which lines were taken before it."""
    from reconciler.loading.tasklines import wrong

    count = 0
    try:
        with _whole(path) as file:
            said = list(islice(wrong(file, path), _MOST_SAID + 1))
            if said:
                click.echo("\n".join(said[:_MOST_SAID]), err=True)
                more = "; these are the first errors" if len(said) > _MOST_SAID else ""
                raise Invalid(f"nothing has been submitted{more}", "mend the lines and submit the file again")
            file.seek(0)
            lines = (line.strip() for line in file if not line.isspace())
            for added, answer in client.submit_lines(pool, lines, names=form != "json"):
                count += added
                for task in json.loads(answer) if form else ():
                    click.echo(f"task/{task}" if form == "name" else json.dumps(task, ensure_ascii=False))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise click.UsageError(f"{path}: {error.strerror}") from None
    except ReconcilerError as error:
        if count:
            error.message = f"{error.message}; {many(count, 'task')} before it submitted"
        raise
    return count


@contextmanager
def _whole(path: str) -> Iterator[BinaryIO]:
    """A file that can be read twice; of a pipe what comes out of it."""
    with sys.stdin.buffer if path == "-" else open(path, "rb") as file:
        if path != "-" and file.seekable():
            yield file
            return
        with TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy

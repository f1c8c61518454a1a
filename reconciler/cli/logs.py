"""logs: what workers and tasks wrote."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import plural
from reconciler.cli.show import Output
from reconciler.client import Client
from reconciler.errors import ReconcilerError


@click.command("logs")
@click.argument("what", metavar="worker/NAME | pool/NAME | task/ID")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, across restarts.")
@click.option("--previous", is_flag=True, help="Of the start, or the try, before.")
@click.option("--since", metavar="DURATION", help="Only what was written within this time, such as 10m.")
@click.option("--tail", type=click.IntRange(0), help="Only the last lines.")
@click.option("--raw", is_flag=True, help="On a terminal, too: bytes as they are.")
@state_option
def logs_command(
    what: str, follow: bool, previous: bool, since: str | None, tail: int | None, raw: bool, state: str | None
) -> None:
    """Shows what workers and tasks wrote.

    As it was written; on a terminal with control characters made visible.
    """
    word, slash, name = what.partition("/")
    kind = plural(word) if slash else None
    if kind not in ("workers", "pools", "tasks"):
        raise click.UsageError("logs takes worker/NAME, pool/NAME or task/ID")
    seconds(since, "--since")
    with connect(state) as client:
        if kind != "pools":
            output, empty = Output(raw), True
            look = client.follow if follow else client.logs
            for block in look(kind, name, previous=previous, tail=tail, since=since):
                output.write(block)
                empty = empty and not block
            if empty and kind == "tasks":
                _hint(client, name)
            return
        client.get("pools", name)
        workers = [one for one in client.find("workers")["items"] if one["spec"]["pool"] == name]
        names = [one["metadata"]["name"] for one in workers]
        if follow:
            _together(client, names, previous, tail, since, raw)
            return
        for worker in names:
            output = Output(raw, f"{worker}: ")
            for block in client.logs("workers", worker, False, previous, tail, since):
                output.write(block)


def _hint(client: Client, task: str) -> None:
    """Says on stderr where the output of a task is that has none of its own: a warm worker's."""
    found = client.get("tasks", task)
    worker = found["status"].get("worker")
    if worker is not None and "command" not in found["spec"]:
        click.echo(f"task/{task} was worked on by a warm worker, who writes: reconciler logs worker/{worker}", err=True)


def _together(
    client: Client, names: Sequence[str], previous: bool, tail: int | None, since: str | None, raw: bool
) -> None:
    """Follows several workers, each line with its worker's name before it."""
    turn = threading.Lock()
    failures: list[BaseException] = []

    def follow(name: str) -> None:
        output = Output(raw, f"{name}: ")
        rest = b""
        try:
            for block in client.follow("workers", name, previous, tail, since):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                with turn:
                    output.write(whole + newline)
            with turn:
                output.write(rest)
        except (ReconcilerError, OSError) as error:
            failures.append(error)

    threads = [threading.Thread(target=follow, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not failures:
            thread.join(0.2)
    if failures:
        raise failures[0]

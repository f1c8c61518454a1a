"""stop, start, signal, reload: what operators do to what runs."""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.objects import plural, pool_name
from reconciler.cli.override import override_option
from reconciler.cli.show import escape

_reason = click.option("--reason", default="", help="Why; the event says it.")


@click.command("stop")
@click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
@override_option("it is started")
@_reason
@click.option("--wait", is_flag=True, help="Until nothing of it runs.")
@state_option
def stop_command(pools: Sequence[str], override: str | None, reason: str, wait: bool, state: str | None) -> None:
    """Stops all workers of a pool, gracefully, and keeps them stopped.

    It stays so over restarts of the daemon, until `reconciler start pool/NAME`. A task pool opens no slots; what runs there
    goes on to its end.
    """
    with connect(state) as client:
        names = [pool_name(pool) for pool in pools]
        for name in names:
            client.stop(name, override, reason)
            click.echo(f"pool/{name} stopped")
        if wait:
            client.wait([f"pool/{name}" for name in names], "condition=Stopped")


@click.command("start")
@click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
@_reason
@state_option
def start_command(pools: Sequence[str], reason: str, state: str | None) -> None:
    """Starts what `stop` has stopped, and at once what had failed or waits for its next try."""
    with connect(state) as client:
        for pool in pools:
            name = pool_name(pool)
            client.start(name, reason)
            click.echo(f"pool/{name} started")


@click.command("signal")
@click.argument("name", metavar="SIGNAL")
@click.argument("what", nargs=-1, required=True, metavar="worker/NAME | pool/NAME ...")
@click.option("--group", is_flag=True, help="To its whole process group, not to the main process alone.")
@_reason
@state_option
def signal_command(name: str, what: Sequence[str], group: bool, reason: str, state: str | None) -> None:
    """Sends a signal to workers: SIGUSR1, USR1 or 10.

    Nothing else changes: a worker that ends by it is treated as one that has ended.
    """
    word = _signal_name(name)
    chosen = [_chosen(text) for text in what]
    with connect(state) as client:
        for kind, object_ in chosen:
            for worker in client.signal(kind, object_, word, group, reason):
                click.echo(f"worker/{worker} signalled")


@click.command("reload")
@click.argument("what", nargs=-1, required=True, metavar="pool/NAME | worker/NAME ...")
@_reason
@state_option
def reload_command(what: Sequence[str], reason: str, state: str | None) -> int:
    """Has workers read their configuration anew, in the way their template's `reload` says."""
    chosen = [_chosen(text) for text in what]
    code = 0
    with connect(state) as client:
        for kind, object_ in chosen:
            found = client.reload(kind, object_, reason)
            for worker in found["reloaded"]:
                click.echo(f"worker/{worker} reloaded")
            for worker, problem in found["failed"].items():
                click.echo(f"error: worker/{worker} could not be reloaded: {escape(problem)}", err=True)
                code = 1
    return code


def _chosen(text: str) -> tuple[str, str]:
    word, slash, name = text.partition("/")
    kind = plural(word) if slash else None
    if kind not in ("workers", "pools"):
        raise click.UsageError(f"{text!r}: write pool/NAME or worker/NAME")
    return kind, name


def _signal_name(text: str) -> str:
    word = text.upper()
    try:
        return (
            signals.Signals(int(word)).name
            if word.isdigit()
            else signals.Signals[f"SIG{word.removeprefix('SIG')}"].name
        )
    except (ValueError, KeyError):
        raise click.BadParameter(f"{text!r} is no signal; write SIGUSR1, USR1 or 10", param_hint="SIGNAL") from None

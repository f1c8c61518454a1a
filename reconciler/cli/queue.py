"""retry, pause, drain, resume: what becomes of tasks that failed, and whether a pool takes and starts tasks."""

from __future__ import annotations

from collections.abc import Sequence

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import Tasks, pool_name, tasks_options
from reconciler.cli.wishes import standing, words
from reconciler.resources.words import many

_pools = click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
_reason = click.option("--reason", default="", help="Why; the event says it.")
_override = click.option(
    "--override",
    is_flag=False,
    flag_value="",
    metavar="[=DURATION]",
    help="It ends by itself after so long; else it stands until it is resumed.",
)

_WISHES = {"pause": "Paused", "drain": "Draining"}


@click.command("retry")
@tasks_options
def retry_command(chosen: Tasks) -> None:
    """Tries tasks once more that have ended without success.

    Each becomes a new task, which names the old one; its name is printed. Asked again, no second one is made.

    \b
    reconciler retry task/17
    reconciler retry --pool batch --state DeadLettered
    """
    with connect(chosen.directory) as client:
        if not chosen.ids:
            click.echo(f"{many(client.retry_many(chosen.pool, chosen.in_state), 'task')} retried")
        for id_ in chosen.ids:
            click.echo(f"task/{client.retry(id_)['metadata']['name']}")


@click.command("pause")
@_pools
@_override
@_reason
@state_option
def pause_command(pools: Sequence[str], override: str | None, reason: str, state: str | None) -> None:
    """Starts no further task of a pool; what runs goes on, and new tasks are taken.

    It stays so over restarts of the daemon, until `reconciler resume pool/NAME`.
    """
    _hold(pools, "pause", "paused", override, reason, state)


@click.command("drain")
@_pools
@_override
@_reason
@click.option("--wait", is_flag=True, help="Until its last task has ended.")
@click.option("--timeout", metavar="DURATION", help="With --wait: at most so long; then 124.")
@state_option
def drain_command(
    pools: Sequence[str], override: str | None, reason: str, wait: bool, timeout: str | None, state: str | None
) -> int:
    """Takes no new tasks in a pool; what waits and what runs goes on to its end.

    It stays so over restarts of the daemon, until `reconciler resume pool/NAME`.
    """
    timeout_s = seconds(timeout, "--timeout")
    _hold(pools, "drain", "drained", override, reason, state)
    if wait:
        with connect(state) as client:
            for pool in pools:
                if not client.wait([], "finished", timeout_s, pool_name(pool))["done"]:
                    click.echo(f"error: pool/{pool_name(pool)} has tasks left after {timeout}", err=True)
                    return 124
    return 0


@click.command("resume")
@_pools
@_reason
@state_option
def resume_command(pools: Sequence[str], reason: str, state: str | None) -> None:
    """Ends a pause or a drain: the pool takes tasks and starts them."""
    _hold(pools, "resume", "resumed", None, reason, state)


def _hold(pools: Sequence[str], verb: str, done: str, override: str | None, reason: str, state: str | None) -> None:
    with connect(state) as client:
        for name in map(pool_name, pools):
            before = standing(client.get("pools", name)) if verb != "resume" else None
            client.hold(name, verb, override, reason)
            other = before is not None and before["wish"] != _WISHES[verb]
            ended = f"; it is no longer {words(before)}" if before is not None and other else ""
            click.echo(f"pool/{name} {done}{ended}")

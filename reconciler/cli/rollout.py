"""rollout: how workers are replaced, one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import pool_name
from reconciler.client import Client
from reconciler.errors import Refused

_LOOK_S = 0.2


@click.group("rollout")
def rollout_command() -> None:
    """Replaces workers one after another, and says how far that is."""


@rollout_command.command("restart")
@click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
@click.option("--reason", default="", help="Why; the event says it.")
@click.option("--wait", is_flag=True, help="Until all workers are new.")
@click.option("--timeout", metavar="DURATION", help="How long to wait; then 124.")
@state_option
def _restart(pools: Sequence[str], reason: str, wait: bool, timeout: str | None, state: str | None) -> int:
    """Starts all workers of a pool anew, one after another, as when their template changes."""
    timeout_s = seconds(timeout, "--timeout")
    deadline_s = time.monotonic() + timeout_s if timeout_s is not None else None
    names = [pool_name(pool) for pool in pools]
    with connect(state) as client:
        found = {name: client.get("pools", name) for name in names}
        before = {name: found[name]["status"].get("restartsAsked", 0) for name in names}
        for name in names if wait else ():
            _refuse_stopped(name, found[name], "nothing has been restarted")
        for name in names:
            client.restart(name, reason)
            click.echo(f"pool/{name} restarting")
        for name in names if wait else ():
            code = _until_done(client, name, before[name] + 1, deadline_s)
            if code:
                return code
    return 0


@rollout_command.command("status")
@click.argument("pool", metavar="pool/NAME")
@state_option
def _status(pool: str, state: str | None) -> int:
    """How far the pool's workers are as declared: 0 all are, 1 not (yet)."""
    name = pool_name(pool)
    with connect(state) as client:
        found = client.get("pools", name)
    status, wanted = found["status"], found["spec"]["replicas"]
    updated, ready = status["updatedReplicas"], status["readyReplicas"]
    click.echo(f"pool/{name}: {updated} of {wanted} workers are as declared, {ready} ready")
    failed = _failed(status)
    if failed:
        click.echo(f"  {failed}")
    return 0 if updated >= wanted and ready >= wanted and not failed else 1


def _until_done(client: Client, name: str, restart: int, deadline_s: float | None) -> int:
    while True:
        found = client.get("pools", name)
        status = found["status"]
        _refuse_stopped(name, found, "its workers are new when it is started")
        failed = _failed(status)
        if failed:
            click.echo(f"error: pool/{name}: {failed}", err=True)
            return 1
        # a rollout that is over is in no status: it has begun when the count is known to all workers
        over = status.get("rollout") is None and status["updatedReplicas"] >= found["spec"]["replicas"]
        if status.get("restartsAsked", 0) >= restart and over and _current(client, name, status):
            return 0
        if deadline_s is not None and time.monotonic() >= deadline_s:
            click.echo(f"error: pool/{name} is not through", err=True)
            return 124
        time.sleep(_LOOK_S)


def _refuse_stopped(name: str, found: dict[str, Any], then: str) -> None:
    intent = found["metadata"].get("intent") or {}
    # an intent whose time is over stays written down; while it stands the pool says so
    conditions = {one["type"]: one for one in found["status"].get("conditions", ())}
    said = conditions.get("Ready", {}).get("reason", "Stopped")
    if intent.get("wish") == "Stopped" and ("until" not in intent or said == "Stopped"):
        raise Refused(f"pool/{name} is stopped: {then}", f"reconciler start pool/{name}")


def _current(client: Client, name: str, status: dict[str, Any]) -> bool:
    """Whether all workers run what the pool's status calls good."""
    workers = [one for one in client.find("workers")["items"] if one["spec"]["pool"] == name]
    return all(
        one["status"].get("templateHash") == status["templateHash"] and one["status"]["ready"] for one in workers
    )


def _failed(status: dict[str, Any]) -> str:
    rollout = status.get("rollout") or {}
    return str(rollout.get("failed", ""))

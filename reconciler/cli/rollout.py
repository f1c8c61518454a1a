"""rollout: how workers are replaced, one after another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, seconds, state_option
from reconciler.cli.objects import pool_name
from reconciler.cli.override import ends, field_override
from reconciler.cli.show import age, escape, structured, table
from reconciler.client import Client
from reconciler.errors import Refused
from reconciler.resources.words import override_notes

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
    status, wanted = found["status"], found["spec"].get("replicas", found["status"]["desiredReplicas"])
    updated, ready = status["updatedReplicas"], status["readyReplicas"]
    click.echo(f"pool/{name}: {updated} of {wanted} workers are as declared, {ready} ready")
    failed = _failed(status)
    if failed:
        click.echo(f"  {failed}")
    held = _held(found)
    if held:
        click.echo(f"  {held}")
    for note in override_notes(found["metadata"].get("overrides", {})):
        click.echo(f"  note: {escape(note)}")
    well = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return 0 if updated >= wanted and (ready >= wanted or well) and not failed else 1


@rollout_command.command("history")
@click.argument("pool", metavar="pool/NAME")
@click.option("-o", "form", type=click.Choice(["table", "json"]), default="table", help="json: with the values.")
@state_option
def _history(pool: str, form: str, state: str | None) -> None:
    """The templates that a pool has had, the newest last.

    Each with what changed, when, who declared it and where, and how many workers run it.
    """
    with connect(state) as client:
        items = client.history(pool_name(pool))
    if form == "json":
        click.echo(structured({"items": items}, "json"))
        return
    lines = [
        [
            f"{one['revision']}{' (now)' if one['current'] else ''}",
            one["templateHash"],
            age(one["at"]),
            str(len(one["workers"])),
            escape(_cause(one["cause"])),
            escape(_what(one)),
        ]
        for one in items
    ]
    click.echo(table(["REVISION", "TEMPLATE", "AGE", "WORKERS", "BY", "CHANGED"], lines), nl=False)


def _cause(cause: dict[str, Any]) -> str:
    where = f"{cause['path']}:{cause['line']}" if cause.get("path") else ""
    commit = f"@{cause['revision'][:12]}" if where and cause.get("revision") else ""
    return " ".join(word for word in (cause.get("actor", ""), where + commit) if word) or "-"


def _what(one: dict[str, Any]) -> str:
    paths = [change["path"].removeprefix("spec.") for change in one["changes"]]
    if not paths:
        return "the first" if one["first"] else "nothing: a restart"
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


@rollout_command.command("undo")
@click.argument("pool", metavar="pool/NAME")
@click.option("--to-revision", "revision", type=click.IntRange(min=1), help="Which one; else the one before.")
@field_override
@click.option("--reason", default="", help="Why; the event says it.")
@state_option
def _undo(pool: str, revision: int | None, override: str | None, reason: str, state: str | None) -> None:
    """Brings an earlier template back, one worker after another.

    It is a change of the spec: what a watched source declares is changed there, or over it with --override.
    """
    name = pool_name(pool)
    with connect(state) as client:
        client.undo(name, revision, override, reason)
    click.echo(f"pool/{name}: spec.template is as declared" if ends(override) else f"pool/{name} undone")


@rollout_command.command("pause")
@click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
@click.option("--reason", default="", help="Why; conditions and events say it.")
@state_option
def _pause(pools: Sequence[str], reason: str, state: str | None) -> None:
    """Has a rollout, or the next one, stand where it is until it is resumed.

    What runs stays as it is and is restarted when it crashes, each with its own template.
    """
    _hold(pools, True, reason, state)


@rollout_command.command("resume")
@click.argument("pools", nargs=-1, required=True, metavar="pool/NAME...")
@click.option("--reason", default="", help="Why; the event says it.")
@state_option
def _resume(pools: Sequence[str], reason: str, state: str | None) -> None:
    """Has a paused rollout go on."""
    _hold(pools, False, reason, state)


def _hold(pools: Sequence[str], held: bool, reason: str, state: str | None) -> None:
    names = [pool_name(pool) for pool in pools]
    with connect(state) as client:
        for name in names:
            client.hold_rollout(name, held, reason)
            click.echo(f"pool/{name} {'paused' if held else 'resumed'}")


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
        over = status.get("rollout") is None and status["updatedReplicas"] >= found["spec"].get(
            "replicas", found["status"]["desiredReplicas"]
        )
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
    return all(_serves(one["spec"], one["status"], status["templateHash"]) for one in workers)


def _serves(spec: dict[str, Any], status: dict[str, Any], template_hash: str) -> bool:
    """Whether a worker runs that template, or would if it had the lock that it stands by for."""
    if status["ready"]:
        return bool(status.get("templateHash") == template_hash)
    stands_by = status.get("claims") and status.get("process") == "None"
    return bool(stands_by and spec["templateHash"] == template_hash)


def _held(found: dict[str, Any]) -> str:
    """An operator's pause in words."""
    asked = found["metadata"].get("rollout") or {}
    if asked.get("wish") != "Paused":
        return ""
    why = f": {asked['reason']}" if asked.get("reason") else ""
    return escape(
        f"paused by {asked['actor']}{why}; it goes on with: reconciler rollout resume pool/{found['metadata']['name']}"
    )


def _failed(status: dict[str, Any]) -> str:
    rollout = status.get("rollout") or {}
    return str(rollout.get("failed", ""))

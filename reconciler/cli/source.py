"""source status, sync, suspend, resume: the directories that the daemon keeps applied."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.show import age, escape, structured, table
from reconciler.client import Client
from reconciler.errors import NotFound, Refused


@click.group("source", context_settings={"help_option_names": ["-h", "--help"]})
def source_command() -> None:
    """Looks at and steers the sources: the directories of manifests that `up` was given.

    SOURCE is a source's name or its path; without it all are meant.
    """


@source_command.command("status")
@click.argument("which", nargs=-1, metavar="[SOURCE]...")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@state_option
def status_command(which: Sequence[str], form: str, state: str | None) -> int:
    """How far each source is. Ends with 1 when one of them is not applied as it stands."""
    with connect(state) as client:
        found = _chosen(client, which)
    if form:
        sys.stdout.write(structured(found, form))
        return 0
    rows = [
        [
            source["name"],
            source["path"],
            "suspended" if source["suspended"] else "failed" if source["error"] else "applied",
            source["lastApplied"][:12] or "-",
            age(source.get("lastAppliedAt")),
            "yes" if source["prune"] else "no",
        ]
        for source in found
    ]
    sys.stdout.write(table(["NAME", "PATH", "STATE", "APPLIED", "SINCE", "PRUNE"], rows))
    return _told(found)


@source_command.command("sync")
@click.argument("which", nargs=-1, metavar="[SOURCE]...")
@click.option("--confirm", is_flag=True, help="Also what was refused at the last look: see `source status`.")
@state_option
def sync_command(which: Sequence[str], confirm: bool, state: str | None) -> int:
    """Reads and applies now, and waits for that. Ends with 1 when it is not applied as it stands."""
    with connect(state) as client:
        chosen = _chosen(client, which)
        suspended: list[dict[str, Any]] = []
        if not which and not confirm:  # all: those that are suspended are left alone
            suspended = [source for source in chosen if source["suspended"]]
            chosen = [source for source in chosen if not source["suspended"]]
        if confirm and not any(source.get("refused") for source in chosen):
            raise Refused("nothing waits to be confirmed", "reconciler source status")
        found = [client.sync_source(source["name"], confirm) for source in chosen]
    for source in found:
        if not source["error"]:
            click.echo(f"source {escape(source['path'])} applied {source['lastApplied'][:12]}")
    for source in suspended:
        click.echo(f"source {escape(source['path'])} is suspended: reconciler source resume {source['name']}", err=True)
    return 1 if suspended else _told(found)


@source_command.command("suspend")
@click.argument("which", nargs=-1, metavar="[SOURCE]...")
@click.option("--reason", default="", metavar="TEXT", help="Kept and shown.")
@state_option
def suspend_command(which: Sequence[str], reason: str, state: str | None) -> int:
    """Stops applying and pruning, until `resume`; what runs is kept running and restarted."""
    with connect(state) as client:
        for source in _chosen(client, which):
            client.suspend_source(source["name"], reason)
            click.echo(f"source {escape(source['path'])} suspended")
    return 0


@source_command.command("resume")
@click.argument("which", nargs=-1, metavar="[SOURCE]...")
@state_option
def resume_command(which: Sequence[str], state: str | None) -> int:
    """Keeps it applied again, beginning now."""
    with connect(state) as client:
        for source in _chosen(client, which):
            client.resume_source(source["name"])
            click.echo(f"source {escape(source['path'])} resumed")
    return 0


def _chosen(client: Client, which: Sequence[str]) -> list[dict[str, Any]]:
    """The sources of these names or paths, as they are."""
    known: list[dict[str, Any]] = client.status()["sources"]
    chosen = []
    for given in which:
        word = given.removeprefix("source/")  # as `get sources -o name` has it
        found = next((one for one in known if word == one["name"] or os.path.abspath(word) == one["path"]), None)
        if found is None:
            listed = ", ".join(one["name"] for one in known)
            raise NotFound(f"there is no source {given!r}", f"there are: {listed}" if listed else "the daemon has none")
        chosen.append(found)
    return chosen or (known if not which else [])


def _told(found: Sequence[dict[str, Any]]) -> int:
    failed = [source for source in found if source["error"]]
    for source in failed:
        click.echo(f"error: {escape(source['path'])}: {escape(source['error'])}", err=True)
    return 1 if failed else 0

"""get, delete, scale, events: what there is, and the two changes people make by hand."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import click

from reconciler.cli.columns import rows
from reconciler.cli.connection import connect, state_option
from reconciler.cli.override import ends, field_override
from reconciler.cli.show import structured, table
from reconciler.client import Client
from reconciler.errors import Gone, NotFound

TASK_STATES = (
    "Pending", "Delayed", "Running", "Retrying", "Succeeded", "Failed", "DeadLettered", "Cancelled", "Expired",
    "Unknown",
)  # fmt: skip


@click.command("get")
@click.argument("what", nargs=-1, required=True, metavar="KIND[/NAME]...")
@click.option("-o", "form", default="", help="json, yaml, wide, name or jsonpath={.items[*].metadata.name}.")
@click.option("-l", "--selector", help="Only objects with these labels: tier=front,team!=shop.")
@click.option("-w", "--watch", is_flag=True, help="Go on with every change.")
@click.option("--pool", help="Tasks: of this pool.")
@click.option("--since", metavar="DURATION", help="Tasks: submitted within this time, such as 1h.")
@click.option("--limit", type=click.IntRange(1), help="Tasks: at most so many.")
@click.option("--no-headers", is_flag=True, help="No first line.")
@click.option(
    "--state", "states", multiple=True, metavar="STATE|DIR", help="Tasks: in this state. Else the state directory."
)
def get_command(
    what: Sequence[str],
    form: str,
    selector: str | None,
    watch: bool,
    pool: str | None,
    since: str | None,
    limit: int | None,
    no_headers: bool,
    states: Sequence[str],
) -> None:
    """Shows objects: pools, workers, tasks, locks, restartpolicies, schedulingpolicies, revisions.

    \b
    reconciler get pools
    reconciler get workers/web-0 -o yaml
    reconciler get tasks --pool batch --state Failed
    """
    task_state, directory = split_state(states)
    chosen = _chosen(what)
    query = {"pool": pool, "state": task_state, "since": since}
    with connect(directory) as client:
        if watch:
            _watch(client, chosen, form, selector, no_headers)
            return
        items: list[Any] = []
        revision, whole = "0", False
        for kind, name in chosen:
            if name is not None:
                items.append(client.get(kind, name))
                continue
            found = client.find(kind, limit, **query) if kind == "tasks" else client.find(kind)
            items += [item for item in found["items"] if _selected(item, selector)]
            revision, whole = found["metadata"]["resourceVersion"], True
    if form in ("", "wide", "name"):
        _print(items, form, not no_headers)
        return
    single = len(items) == 1 and not whole
    listed = {"kind": "List", "metadata": {"resourceVersion": revision}, "items": items}
    sys.stdout.write(structured(items[0] if single else listed, form))


@click.command("delete")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME...")
@click.option("--wait", is_flag=True, help="Until nothing of it is left.")
@state_option
def delete_command(what: Sequence[str], wait: bool, state: str | None) -> None:
    """Deletes objects and whatever runs for them: all that are named, or none."""
    chosen = [(kind, name) for kind, name in _chosen(what) if name is not None]
    if len(chosen) < len(_chosen(what)):
        raise click.UsageError("delete takes KIND/NAME, such as pool/web")
    with connect(state) as client:
        for gone in client.delete_all([f"{kind}/{name}" for kind, name in chosen]):
            click.echo(f"{gone['kind'].lower()}/{gone['metadata']['name']} deleted")
            source = gone["metadata"].get("source")
            if source is not None and source["source"] != "apply":
                click.echo(
                    f"note: {source['path']}:{source['line']} may still declare it, then it comes back", err=True
                )
        if wait:
            client.wait([f"{kind}/{name}" for kind, name in chosen], "deleted")


@click.command("scale")
@click.argument("pool", metavar="pool/NAME")
@click.option("--replicas", type=click.IntRange(0), help="How many workers, or slots for tasks.")
@field_override
@click.option("--reason", default="", help="Why; the event says it.")
@state_option
def scale_command(pool: str, replicas: int | None, override: str | None, reason: str, state: str | None) -> None:
    """Gives a pool another number of replicas."""
    ending = ends(override)
    if (replicas is None) != ending:
        raise click.UsageError("scale takes --replicas NUMBER, or --override=0s alone to end an override")
    with connect(state) as client:
        name = pool_name(pool)
        client.scale(name, replicas, override, reason)
    click.echo(f"pool/{name}: spec.replicas is as declared" if ending else f"pool/{name} scaled to {replicas}")


@click.command("events")
@click.option("--for", "object_", metavar="KIND/NAME", help="Only of this object.")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@state_option
def events_command(object_: str | None, form: str, state: str | None) -> None:
    """What happened, oldest first."""
    with connect(state) as client:
        found = client.events(object_)
    if form:
        sys.stdout.write(structured(found, form))
    elif found["items"]:
        sys.stdout.write(table(*rows("Event", found["items"])))
    else:
        click.echo("nothing has happened", err=True)


def split_state(given: Sequence[str]) -> tuple[str | None, str | None]:
    """(state of tasks, state directory) of the one option that has both meanings."""
    words = [word for word in given if word.lower() in map(str.lower, TASK_STATES)]
    others = [word for word in given if word not in words]
    if len(words) > 1 or len(others) > 1:
        raise click.UsageError("--state: one state of tasks and one directory at most")
    for word in others:
        if "/" not in word and not os.path.exists(word):
            close = get_close_matches(word.capitalize(), TASK_STATES, 1)
            mend = f"did you mean {close[0]}?" if close else f"tasks are {', '.join(TASK_STATES)}"
            raise click.UsageError(f"no such state: {word}; {mend}; a directory is written ./{word}")
    return next(iter(words), None), next(iter(others), None)


def tasks_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `task/ID...` and --pool and --state, one or the other; the command gets them as `chosen`."""

    @click.argument("what", nargs=-1, metavar="[task/ID]...")
    @click.option("--pool", metavar="NAME", help="All tasks of this pool ...")
    @click.option(
        "--state", "states", multiple=True, metavar="STATE|DIR", help="... in this state. Else the state directory."
    )
    @functools.wraps(command)
    def wrapped(*args: Any, what: Sequence[str], pool: str | None, states: Sequence[str], **kwargs: Any) -> Any:
        task_state, directory = split_state(states)
        if bool(what) == bool(pool or task_state):
            raise click.UsageError(f"{click.get_current_context().info_name} takes task/ID..., or --pool and --state")
        ids = [task_id(text) for text in what]
        return command(*args, chosen=Tasks(ids, pool_name(pool) if pool else None, task_state, directory), **kwargs)

    return wrapped


class Tasks(NamedTuple):
    """Which tasks are meant: these, or all of a pool, of a state, or of both."""

    ids: list[str]
    pool: str | None
    in_state: str | None
    directory: str | None
    """The state directory."""


def pool_name(text: str) -> str:
    """`web` of pool/web, or of web."""
    kind, slash, name = text.rpartition("/")
    if slash and kind.lower() not in ("pool", "pools", "po"):
        raise click.UsageError(f"{text!r} is no pool: write pool/NAME")
    return name


def task_id(text: str) -> str:
    """`17` of task/17, or of 17."""
    kind, _, id_ = text.rpartition("/")
    if kind and plural(kind) != "tasks":
        raise click.UsageError(f"{text!r} is no task: write task/ID")
    return id_


def _chosen(what: Sequence[str]) -> list[tuple[str, str | None]]:
    """KIND and KIND/NAME as they stand; KIND NAME... is the same as KIND/NAME..."""
    if len(what) > 1 and not any("/" in word for word in what) and plural(what[1]) is None:
        return _no_events([(plural(what[0]) or what[0], name) for name in what[1:]])
    chosen: list[tuple[str, str | None]] = []
    for word in what:
        kind, slash, name = word.partition("/")
        chosen += [(plural(one) or one, name if slash else None) for one in kind.split(",")]
    return _no_events(chosen)


def _no_events(chosen: list[tuple[str, str | None]]) -> list[tuple[str, str | None]]:
    if any(kind in ("event", "events") for kind, _ in chosen):
        raise click.UsageError("events are shown by `reconciler events [--for OBJECT]`")
    return chosen


def plural(word: str) -> str | None:
    """The word in paths; None for what is no kind known here (the daemon may know it)."""
    lower = word.lower()
    lower = {"po": "pool", "wo": "worker"}.get(lower, lower)
    return next((plural for one, plural in _PLURALS.items() if lower in (one, plural)), None)


_PLURALS = {
    "pool": "pools", "restartpolicy": "restartpolicies", "schedulingpolicy": "schedulingpolicies", "lock": "locks", "worker": "workers", "task": "tasks", "revision": "revisions",
}  # fmt: skip


def _selected(item: dict[str, Any], selector: str | None) -> bool:
    labels = item["metadata"].get("labels", {})
    for term in filter(None, (selector or "").split(",")):
        name, differs, value = term.partition("!=")
        if differs:
            if labels.get(name) == value:
                return False
            continue
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value.removeprefix("=")):
            return False
    return True


def _print(items: Sequence[Any], form: str, headers: bool) -> None:
    if not items and form != "name":
        click.echo("nothing found", err=True)
    kinds = list(dict.fromkeys(item["kind"] for item in items))
    for place, kind in enumerate(kinds):
        of_kind = [item for item in items if item["kind"] == kind]
        if form == "name":
            sys.stdout.write("".join(f"{kind.lower()}/{item['metadata']['name']}\n" for item in of_kind))
            continue
        text = table(*rows(kind, of_kind, wide=form == "wide", named=len(kinds) > 1))
        if place:
            sys.stdout.write("\n")
        sys.stdout.write(text if headers else text.partition("\n")[2])


def _watch(
    client: Client, chosen: Sequence[tuple[str, str | None]], form: str, selector: str | None, bare: bool
) -> None:
    """What there is, then a line for each change."""
    if len(chosen) != 1:
        raise click.UsageError("-w takes one KIND or KIND/NAME")
    kind, name = chosen[0]
    headers = not bare
    for item in _changes(client, kind, name):
        if not _selected(item, selector):
            continue
        if form in ("", "wide", "name"):
            _print([item], form, headers)
            headers = False
        else:
            sys.stdout.write(structured(item, form))
        sys.stdout.flush()


def _changes(client: Client, kind: str, name: str | None) -> Iterator[dict[str, Any]]:
    while True:
        found = client.find(kind)
        items = [item for item in found["items"] if name in (None, item["metadata"]["name"])]
        if name is not None and not items:
            raise NotFound(f"there is no {kind.removesuffix('s')} {name!r}")
        yield from items
        try:
            for change in client.watch(kind, found["metadata"]["resourceVersion"], name):
                yield change["object"]
        except Gone:
            continue  # we were too slow: begin again with what there is

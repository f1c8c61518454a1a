"""plan and diff: what applying manifests would do to what runs, without doing it."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.manifests import Checked, checked
from reconciler.cli.show import escape, structured
from reconciler.cli.variant import variant_options
from reconciler.loading.variant import Wanted
from reconciler.resources.words import many

_SIGNS = {"create": "+", "update": "~", "replace": "!", "delete": "-", "none": " "}
_LONGEST = 60


@click.command("plan")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@click.option("--exit-code", is_flag=True, help="End with 1 if anything would change, with 2 if PATH is not valid.")
@click.option("--prune", is_flag=True, help="As `apply --prune`; of a source that the daemon reads: as it does.")
@click.option("--offline", is_flag=True, help="Against nothing at all, without a daemon.")
@variant_options
@state_option
def plan_command(
    paths: Sequence[str], form: str, exit_code: bool, prune: bool, offline: bool, wanted: Wanted, state: str | None
) -> int:
    """Shows what applying PATH would do: to which objects and workers, in which order, and why.

    \b
    + create    - delete    ~ update: in place    ! replace: workers are restarted
    """
    manifests = checked(paths, wanted, _left(wanted, offline))
    if manifests is None:
        return 2 if exit_code else 1
    found = _offline(manifests) if offline else _asked(manifests, paths, prune, state)
    sys.stdout.write(structured(found, form) if form else page(found))
    if found["refused"]:
        click.echo(f"this would be refused: {escape(found['refused'])}", err=True)
    return 1 if exit_code and _changes(found) else 0


@click.command("diff")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--prune", is_flag=True, help="With what `apply --prune` would delete.")
@variant_options
@state_option
def diff_command(paths: Sequence[str], prune: bool, wanted: Wanted, state: str | None) -> int:
    """Shows how PATH differs from what the daemon holds, as a unified diff.

    Ends with 0 if nothing differs, with 1 if something does, above 1 if that cannot be said.
    """
    manifests = checked(paths, wanted, _left(wanted, False))
    if manifests is None:
        return 2
    found = _asked(manifests, paths, prune, state, whole=True)
    for change in _changes(found):
        sys.stdout.writelines(_diff(change))
    for note in _notes(found):
        click.echo(note, err=True)
    return 1 if _changes(found) else 0


def _left(wanted: Wanted, offline: bool) -> Sequence[str]:
    """What only the daemon knows: other objects and, of a source that it reads, with which values it does."""
    return ("reference",) if offline or any(wanted) else ("reference", "undefined-value")


def page(found: dict[str, Any]) -> str:
    """The plan for people: what changes, then a count."""
    text = "".join(_entry(change) for change in _changes(found))
    notes = "".join(f"{note}\n" for note in _notes(found))
    counts = Counter(change["action"] for change in found["changes"])
    if not text:
        return f"{notes}nothing would change ({many(counts['none'], 'object')})\n"
    parts = [f"{counts[word]} to {word}" for word in ("create", "update", "replace", "delete") if counts[word]]
    return f"{text}{notes}\n{', '.join(parts)}; {many(counts['none'], 'object')} unchanged\n"


def _changes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [change for change in found["changes"] if change["action"] != "none"]


def _notes(found: dict[str, Any]) -> Iterator[str]:
    """What is as it is because somebody has set it over what is declared."""
    for change in found["changes"]:
        for note in change["notes"]:
            yield f"note: {escape(change['object'])}: {escape(note)}"


def _entry(change: dict[str, Any]) -> str:
    action, effect = change["action"], change["effect"]
    word = action if action in ("create", "delete") else f"{action} ({effect})"
    text = f"{_SIGNS[action]} {escape(change['object'])}  {word}: {escape(change['reason'])}\n"
    for field in change["fields"]:
        text += f"    {escape(field['path'])}: {_value(field['old'])} -> {_value(field['new'])}  [{field['change']}]\n"
    if change["workers"]:
        text += f"    workers: {' '.join(_some(change['workers']))}\n"
    return text


def _value(value: Any) -> str:
    shown = "(none)" if value is None else json.dumps(value, ensure_ascii=False)
    return escape(shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}...")


def _some(names: Sequence[str]) -> Iterator[str]:
    yield from names[:10]
    if len(names) > 10:
        yield f"... ({len(names)} in all)"


def _diff(change: dict[str, Any]) -> Iterator[str]:
    before, after = (_lines(change[side]) for side in ("before", "after"))
    name = escape(change["object"])
    yield from difflib.unified_diff(before, after, f"{name} (now)", f"{name} (declared)")


def _lines(manifest: dict[str, Any] | None) -> list[str]:
    return structured(manifest, "yaml").splitlines(keepends=True) if manifest is not None else []


def _asked(
    manifests: Checked, paths: Sequence[str], prune: bool, state: str | None, whole: bool = False
) -> dict[str, Any]:
    """The daemon's answer; one directory that it reads itself is planned as its own."""
    source = os.path.abspath(paths[0]) if len(paths) == 1 and paths[0] != "-" else ""
    with connect(state) as client:
        return client.plan(manifests.files, source, prune, whole, manifests.rendering)


def _offline(manifests: Checked) -> dict[str, Any]:
    from datetime import UTC, datetime

    from reconciler.loading.apply import BY_HAND
    from reconciler.loading.effects import preview
    from reconciler.loading.render import load
    from reconciler.store.memory import MemoryStore

    now = datetime.now(UTC)
    objects = load(manifests.trees, manifests.variant).objects
    return preview(MemoryStore(lambda: now), objects, BY_HAND, False, now)

"""apply: manifests checked here, and handed to the daemon; and how commands read manifests at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import click

from reconciler.cli.ahead import ReadAhead
from reconciler.cli.connection import connect, state_option
from reconciler.cli.variant import variant_of, variant_options
from reconciler.errors import ReconcilerError
from reconciler.loading.files import scan
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import Problem, has_errors, in_order, render_count
from reconciler.loading.report import full
from reconciler.loading.variant import Tree, Variant, Wanted


@click.command("apply")
@click.option("-f", "named", multiple=True, metavar="PATH", help="As the argument; kubectl's way of saying it.")
@click.argument("given", nargs=-1, metavar="[PATH]...")
@click.option("--prune", is_flag=True, help="Delete what was applied before and is not in PATH.")
@click.option("--wait", is_flag=True, help="Until what was applied is ready.")
@variant_options
@state_option
def apply_command(
    given: Sequence[str], named: Sequence[str], prune: bool, wait: bool, wanted: Wanted, state: str | None
) -> int:
    """Applies manifests, all of them or none; PATH is a file or directory, - is standard input.

    Says of each object whether it was created, configured, unchanged or pruned.
    """
    paths = [*given, *named]
    if not paths:
        raise click.UsageError("apply what? Write apply PATH, or apply -f PATH")
    found = checked(paths, wanted)
    if found is None:
        click.echo("nothing was applied", err=True)
        return 1
    with connect(state) as client:
        try:
            applied = client.apply(found.files, prune, found.rendering)
        except ReconcilerError as error:
            refused = [Problem.from_json(item) for item in getattr(error, "problems", ())]
            if not refused:
                raise
            sys.stderr.write(full(refused))
            return 1
        for result in applied["results"]:
            click.echo(f"{result['object']} {result['word']}")
        sys.stdout.flush()
        if wait:
            for result in applied["results"]:
                client.wait([result["object"]], "deleted" if result["word"] == "pruned" else "ready")
    return 0


class Checked(NamedTuple):
    """Manifests without an error, as they are handed to the daemon: as they were read, and what they are to become."""

    files: list[tuple[str, str]]
    rendering: dict[str, Any]
    trees: list[Tree]
    variant: Variant


def checked(paths: Sequence[str], wanted: Wanted, left: Collection[str] = ("reference",)) -> Checked | None:
    """Every manifest of these paths; None, with all that is wrong on stderr, when one has an error.

    `left`: rules that are left to the daemon, which may know what these files do not say.
    """
    trees, unread = read_trees(paths)
    variant, bad = variant_of(wanted, trees)
    _, found = load_trees(trees, variant)
    problems = in_order([*unread, *bad, *(problem for problem in found if problem.rule not in left)])
    sys.stderr.write(full(problems))
    if has_errors(problems):
        click.echo(render_count(problems), err=True)
        return None
    rendering = {
        "roots": [tree.root for tree in trees],
        "overlay": variant.overlay,
        "values": [{"path": file.path, "text": file.data.decode()} for file in variant.values],
        "set": list(variant.sets),
    }
    files = [(file.path, file.data.decode()) for tree in trees for file in tree.files]
    return Checked(files, rendering, trees, variant)


def load_trees(trees: Sequence[Tree], variant: Variant) -> tuple[int, Sequence[Problem]]:
    """How many objects they hold, and all that is wrong with them."""
    with ReadAhead([file for tree in trees for file in tree.files]) as ahead:
        from reconciler.loading.render import load

        result = load(trees, variant, read=ahead.read)
    return len(result.objects), result.problems


def read_trees(paths: Sequence[str]) -> tuple[list[Tree], list[Problem]]:
    """Every manifest of these paths."""
    trees: list[Tree] = []
    problems: list[Problem] = []
    for path in paths:
        if path == "-":
            trees.append(Tree("", [SourceFile("stdin", sys.stdin.buffer.read())]))
            continue
        if not os.path.exists(path):
            raise click.UsageError(f"there is no {path!r}")
        found = scan(path)
        trees.append(Tree(path, found.files))
        problems += found.problems
    return trees, problems

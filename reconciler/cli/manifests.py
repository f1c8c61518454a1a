"""apply: manifests checked here, and handed to the daemon; and how commands read manifests at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from reconciler.cli.connection import connect, state_option
from reconciler.errors import ReconcilerError
from reconciler.loading.files import scan
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import Problem, has_errors, in_order, render_count
from reconciler.loading.report import full


@click.command("apply")
@click.option(
    "-f", "paths", multiple=True, required=True, metavar="PATH", help="A file or directory; - is standard input."
)
@click.option("--prune", is_flag=True, help="Delete what was applied before and is not in PATH.")
@click.option("--wait", is_flag=True, help="Until what was applied is ready.")
@state_option
def apply_command(paths: Sequence[str], prune: bool, wait: bool, state: str | None) -> int:
    """Applies manifests, all of them or none.

    Says of each object whether it was created, configured, unchanged or pruned.
    """
    files = checked(paths)
    if files is None:
        click.echo("nothing was applied", err=True)
        return 1
    with connect(state) as client:
        try:
            applied = client.apply(files, prune)
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


def checked(paths: Sequence[str]) -> list[tuple[str, str]] | None:
    """Every manifest of these paths as (path, text); None, with all that is wrong on stderr, when one has an error."""
    files, unread = read_files(paths)
    _, found = load_files(files)
    # what is referred to may be in the daemon already: it has the last word
    problems = in_order([*unread, *(problem for problem in found if problem.rule != "reference")])
    sys.stderr.write(full(problems))
    if has_errors(problems):
        click.echo(render_count(problems), err=True)
        return None
    return [(file.path, file.data.decode()) for file in files]


def load_files(files: Sequence[SourceFile]) -> tuple[int, Sequence[Problem]]:
    """How many objects they hold, and all that is wrong with them."""
    from reconciler.loading.validate import load

    result = load(files)
    return len(result.objects), result.problems


def read_files(paths: Sequence[str]) -> tuple[list[SourceFile], list[Problem]]:
    """Every manifest of these paths."""
    files: list[SourceFile] = []
    problems: list[Problem] = []
    for path in paths:
        if path == "-":
            files.append(SourceFile("stdin", sys.stdin.buffer.read()))
            continue
        if not os.path.exists(path):
            raise click.UsageError(f"there is no {path!r}")
        found = scan(path)
        files += found.files
        problems += found.problems
    return files, problems

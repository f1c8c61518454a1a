"""validate: manifests checked without a daemon, for people and for CI."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

import click

from reconciler import __version__
from reconciler.cli.manifests import load_trees, read_trees
from reconciler.cli.variant import variant_of, variant_options
from reconciler.loading.report import FORMATS, Report, render
from reconciler.loading.variant import Wanted


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="full", help="Who reads it; full by default."
)
@click.option("--strict", is_flag=True, help="A warning makes it invalid, too.")
@click.option("-q", "--quiet", is_flag=True, help="Only the exit code.")
@variant_options
def validate_command(paths: Sequence[str], form: str, strict: bool, quiet: bool, wanted: Wanted) -> int:
    """Checks manifests, without a daemon.

    PATH is a file, a directory with all below it, or - for standard input. All problems come at once, each with its
    place, its rule and the mend; `reconciler explain RULE` says more of it. A comment `# reconciler: ignore[RULE]` in
    or above a line silences a warning there.

    Ends with 0 if all is valid, with 1 if not, with 2 if a path is not there.
    """
    gc.disable()  # nothing of a short life is worth looking for again and again
    trees, unread = read_trees(paths)
    variant, bad = variant_of(wanted, trees)
    count, found = load_trees(trees, variant)
    report = Report(
        [file.path for tree in trees for file in tree.files], count, (*unread, *bad, *found), __version__, os.getcwd()
    )
    if not quiet:
        sys.stdout.write(render(report, form))
    return 1 if report.errors or (strict and report.problems) else 0

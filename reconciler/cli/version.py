"""reconciler version."""

from __future__ import annotations

import sys

import click

from reconciler import __version__


@click.command("version")
@click.option("-o", "form", type=click.Choice(["text", "json"]), default="text", help="How it is printed.")
def version_command(form: str) -> None:
    """The version of this program and of its Python."""
    python = ".".join(map(str, sys.version_info[:3]))
    if form == "json":
        import json

        click.echo(json.dumps({"version": __version__, "python": python, "executable": sys.executable}))
    else:
        click.echo(f"reconciler {__version__} (Python {python})")

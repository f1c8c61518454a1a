"""schema: what may stand in a manifest, for editors and other tools."""

from __future__ import annotations

import click

from reconciler.errors import NotFound


@click.command("schema")
@click.argument("kind", required=False, metavar="[KIND]")
def schema_command(kind: str | None) -> None:
    """Prints the JSON Schema of a kind; without KIND one schema for all kinds.

    \b
    reconciler schema > all.json      # and in a manifest's first line: # yaml-language-server: $schema=all.json
    reconciler schema pool
    """
    from reconciler.resources.kinds import DECLARED
    from reconciler.resources.schema import schemas

    if kind is None:
        click.echo(schemas()["all.json"], nl=False)
        return
    word = kind.lower()
    found = next((name for name, model in DECLARED.items() if word in (name.lower(), model.plural)), None)
    if found is None:
        raise NotFound(f"there is no kind {kind!r} that people write", ", ".join(DECLARED))
    click.echo(schemas()[f"{found.lower()}.json"], nl=False)

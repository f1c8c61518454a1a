"""why: the chain of decisions that brought an object here, and what happens next and when."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.objects import plural
from reconciler.cli.show import age, escape, structured, until


@click.command("why")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@state_option
def why_command(what: tuple[str, ...], form: str, state: str | None) -> None:
    """Says why an object is as it is, and what happens next.

    Every decision with its moment, what it follows from, and the rule that made it.

    \b
    reconciler why worker/web-0
    reconciler why pool/web -o json
    reconciler why task/17
    """
    kind, slash, name = "/".join(what).partition("/")
    if not slash or "/" in name:
        raise click.UsageError("why takes one KIND/NAME, such as worker/web-0")
    with connect(state) as client:
        found = client.why(plural(kind) or kind, name)
    sys.stdout.write(structured(found, form) if form else page(found))


def page(found: dict[str, Any], now: datetime | None = None) -> str:
    """The answer as text: the verdict first, then the chain, oldest first, then what is to come."""
    state = f" is {found['state']}" if found["state"] else ""
    text = f"{found['object']}{state}{': ' + found['message'] if found['message'] else ''}\n"
    declared = found["declared"]
    if declared:
        text += f"declared at {declared['path']}:{declared['line']}, generation {declared['generation']}\n"
    text += "\n" if found["chain"] else ""
    for step in found["chain"]:
        text += f"{step['at']}  ({age(step['at'], now)} ago)  {step['action']}: {step['message']}\n"
        for word in ("because", "rule", "declared"):
            if step.get(word):
                text += f"    {_WORDS[word]} {step[word]}\n"
    for worker in found.get("workers", ()):
        text += f"{worker['object']} is {worker['state']}; next: {_next(worker['next'], now)}\n"
    if "fault" in found:
        wrong = found["fault"]
        text += f"\nfault: {wrong['type']}: {wrong['what']}\nmend: {wrong['mend']}\n"
    text += f"\nnext: {_next(found['next'], now)}\n"
    return "".join(f"{escape(line)}\n" for line in text.split("\n")[:-1])


_WORDS = {"because": "because:", "rule": "by", "declared": "as declared at"}


def _next(step: dict[str, Any], now: datetime | None) -> str:
    if "at" not in step:
        return str(step["what"])
    return f"{step['what']} {until(step['at'], now)}, at {step['at']}"

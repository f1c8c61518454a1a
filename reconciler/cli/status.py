"""status: is all well, and if not, what is not."""

from __future__ import annotations

import sys
from typing import Any

import click

from reconciler.cli.connection import connect, state_option
from reconciler.cli.show import age, escape, structured, table
from reconciler.resources.words import many


@click.command("status")
@click.option("-o", "form", default="", help="json, yaml or jsonpath=...")
@state_option
def status_command(form: str, state: str | None) -> int:
    """Is all well? Ends with 1 if it is not."""
    with connect(state) as client:
        report = client.status()
    sys.stdout.write(structured(report, form) if form else page(report))
    return 1 if report["problems"] and not form else 0


def page(report: dict[str, Any]) -> str:
    """The report for people: the verdict first."""
    problems = report["problems"]
    count = f"{many(len(problems), 'problem')}:" if problems else "all is well"
    text = f"{count}\n" + "".join(f"  - {escape(str(problem))}\n" for problem in problems)
    launcher, controller = report["launcher"], report["controller"]
    text += (
        f"\nstate       {escape(report['state'])}\n"
        f"launcher    pid {launcher['pid']}\n"
        f"controller  pid {controller['pid']}, up {age(controller.get('startedAt'))}, "
        f"{many(controller.get('restarts', 0), 'restart')}\n"
    )
    for source in report["sources"]:
        error = f" error: {source['error']}" if source.get("error") else ""
        applied = f"applied {age(at)} ago" if (at := source.get("lastAppliedAt")) else "never applied"
        applied += ", suspended" if source.get("suspended") else ""
        text += f"source      {escape(source['path'])}, {applied}{escape(error)}\n"
    pools = report["pools"]
    if pools:
        lines = [
            [name, f"{pool.get('readyReplicas', 0)}/{pool['replicas']}", "yes" if pool.get("ready") else "no"]
            for name, pool in pools.items()
        ]
        header = ["POOL", "READY", "WELL"]
        if any(pool.get("askedFor") for pool in pools.values()):
            header.append("ASKED FOR")
            for line, pool in zip(lines, pools.values(), strict=True):
                line.append(pool.get("askedFor") or "-")
        text += "\n" + table(header, lines)
    for name, pool in pools.items():
        text += "".join(f"note: pool/{name}: {escape(note)}\n" for note in pool.get("overrides", ()))
    return text

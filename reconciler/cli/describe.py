"""describe: all about one object on one page: what is wanted, what is so, its workers, what happened to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.columns import rows
from reconciler.cli.connection import connect, state_option
from reconciler.cli.objects import plural
from reconciler.cli.show import age, escape, structured, table, until
from reconciler.cli.top import size
from reconciler.resources.words import override_notes

_SAMPLED = {"Pool": "pools", "Worker": "workers"}


@click.command("describe")
@click.argument("what", nargs=-1, required=True, metavar="KIND/NAME...")
@state_option
def describe_command(what: Sequence[str], state: str | None) -> None:
    """Shows all about an object.

    Spec, status, conditions, workers and events on one page.
    """
    if len(what) == 2 and "/" not in what[0] + what[1]:
        what = [f"{what[0]}/{what[1]}"]
    with connect(state) as client:
        for place, text in enumerate(what):
            kind, slash, name = text.partition("/")
            if not slash:
                raise click.UsageError("describe takes KIND/NAME, such as pool/web")
            obj = client.get(plural(kind) or kind, name)
            key = f"{obj['kind'].lower()}/{name}"
            workers = client.find("workers")["items"] if obj["kind"] == "Pool" else []
            events = client.events(key)["items"]
            samples = client.usage(kind_word, name) if (kind_word := _SAMPLED.get(obj["kind"])) else []
            if place:
                sys.stdout.write("\n")
            sys.stdout.write(page(obj, [one for one in workers if one["spec"]["pool"] == name], events, samples))


def page(
    obj: dict[str, Any],
    workers: Sequence[dict[str, Any]],
    events: Sequence[dict[str, Any]],
    samples: Sequence[dict[str, Any]] = (),
) -> str:
    """The page as text."""
    metadata, status = obj["metadata"], dict(obj.get("status", {}))
    conditions = status.pop("conditions", [])
    status.pop("decisions", None)  # `why` tells them
    source = metadata.get("source")
    facts = {
        "Name": metadata["name"],
        "Kind": obj["kind"],
        "Labels": ", ".join(f"{name}={value}" for name, value in metadata.get("labels", {}).items()) or "-",
        "Source": f"{source['path']}:{source['line']}" if source else "-",
        "Overrides": "; ".join(override_notes(metadata.get("overrides", {}))) or "-",
        "Created": f"{metadata.get('createdAt', '-')} ({age(metadata.get('createdAt'))} ago)",
        "Generation": str(metadata["generation"]),
    }
    if "nextStartAt" in status:
        facts["Next start"] = f"{until(status['nextStartAt'])}, at {status['nextStartAt']}"
    text = "".join(f"{f'{name}:':<13}{escape(value)}\n" for name, value in facts.items())
    if samples:
        text += f"{'Used:':<13}{_used(samples)}\n"
    text += _section("Spec", obj.get("spec", {})) + _section("Status", status)
    if conditions:
        lines = [
            [one["type"], one["status"], one["reason"], age(one["lastTransitionTime"]), one.get("message", "")]
            for one in conditions
        ]
        text += "Conditions:\n" + _indent(table(["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], lines))
    if workers:
        text += "Workers:\n" + _indent(table(*rows("Worker", workers)))
    return text + ("Events:\n" + _indent(table(*rows("Event", events))) if events else "Events:      none\n")


def _used(samples: Sequence[dict[str, Any]]) -> str:
    """Average and most of the last samples."""
    cpu = [one["cpuPercent"] for one in samples if "cpuPercent" in one] or [0.0]
    memory = [one["memoryBytes"] for one in samples]
    return (
        f"CPU {sum(cpu) / len(cpu):.1f}% on average, {max(cpu):.1f}% at most;"
        f" memory {size(sum(memory) // len(memory))}, {size(max(memory))} at most"
        f" ({len(samples)} samples in {age(samples[0]['sampledAt'])})"
    )


def _section(title: str, value: Any) -> str:
    lines = structured(value, "yaml").splitlines()  # YAML writes control characters as escapes
    return f"{title}:\n" + _indent("\n".join(lines) + "\n") if value else ""


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())

"""What an operator has asked of a pool's tasks, in words for those who wait on it.

pool's metadata.intent  ->  "paused by user root: the disk is changed"
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from reconciler.cli.objects import plural
from reconciler.client import Client

_NOT_BEGUN = ("Pending", "Delayed", "Retrying")
_WORDS = {"Paused": "paused", "Draining": "drained", "Stopped": "stopped"}


def standing(pool: dict[str, Any]) -> dict[str, Any] | None:
    """The pause, drain or stop of a pool that stands now."""
    intent: dict[str, Any] | None = pool["metadata"].get("intent")
    if intent is None or intent["wish"] not in _WORDS:
        return None
    until = intent.get("until")
    return None if until and datetime.fromisoformat(until) <= datetime.now(UTC) else intent


def words(intent: dict[str, Any]) -> str:
    """`paused by user root until 2026-11-24T03:00:00Z: the disk is changed`."""
    until = f" until {intent['until']}" if intent.get("until") else ""
    why = f": {intent['reason']}" if intent.get("reason") else ""
    return f"{_WORDS[intent['wish']]} by {intent['actor']}{until}{why}"


def say_if_it_waits(client: Client, pool: str) -> None:
    """One line where a task that somebody waits for is not started: silence would look like a defect."""
    found = client.get("pools", pool)
    if _holds(found):
        _say(found, "the task waits")


def say_what_waits(client: Client, objects: Sequence[str], wanted: str, all_of: str | None) -> None:
    """As `say_if_it_waits`, of each pool that keeps `wait` from its end."""
    if wanted not in ("finished", "ready"):
        return
    held = {pool["metadata"]["name"]: pool for pool in client.find("pools")["items"] if _holds(pool)}
    if all_of is not None:
        for name, pool in held.items():
            if all_of in ("", name) and client.wait([], wanted, 0.0, name)["left"]:
                _say(pool, "its tasks wait")
        return
    for text in objects:
        word, _, name = text.partition("/")
        kind = plural(word)
        if not held:
            return
        if kind == "tasks":
            task = client.get("tasks", name)
            if task["status"]["state"] in _NOT_BEGUN and (pool := held.pop(task["spec"]["pool"], None)):
                _say(pool, "the task waits")
        elif kind == "pools" and (pool := held.pop(name, None)):
            _say(pool, "it will not be ready before")


def _holds(pool: dict[str, Any]) -> bool:
    intent = standing(pool)
    return intent is not None and intent["wish"] != "Draining"


def _say(pool: dict[str, Any], what: str) -> None:
    intent, name = pool["metadata"]["intent"], pool["metadata"]["name"]
    verb = "start" if intent["wish"] == "Stopped" else "resume"
    click.echo(f"note: pool/{name} is {words(intent)}; {what}: reconciler {verb} pool/{name}", err=True)

"""What an operator has asked of a pool's tasks, in words for those who wait on it.

pool's metadata.intent  ->  "paused by user root: the disk is changed"
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from reconciler.client import Client

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
    intent = standing(client.get("pools", pool))
    if intent is not None and intent["wish"] != "Draining":
        verb = "start" if intent["wish"] == "Stopped" else "resume"
        click.echo(f"note: pool/{pool} is {words(intent)}; the task waits: reconciler {verb} pool/{pool}", err=True)

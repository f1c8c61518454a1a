"""The verbs, and where each is found."""

from __future__ import annotations

import importlib

import click

from reconciler.cli.connection import state_option

VERBS = {
    "apply": "manifests",
    "cancel": "tasks",
    "completion": "completion",
    "delete": "objects",
    "describe": "describe",
    "diff": "plan",
    "doctor": "doctor",
    "down": "daemon",
    "events": "objects",
    "drain": "queue",
    "explain": "explain",
    "exec": "exec",
    "get": "objects",
    "install": "install",
    "lock": "lock",
    "logs": "logs",
    "pause": "queue",
    "plan": "plan",
    "reload": "operate",
    "resume": "queue",
    "retry": "queue",
    "rollout": "rollout",
    "render": "render",
    "run": "tasks",
    "scale": "objects",
    "schema": "schema",
    "signal": "operate",
    "start": "operate",
    "source": "source",
    "status": "status",
    "stop": "operate",
    "submit": "tasks",
    "top": "top",
    "up": "daemon",
    "validate": "validate",
    "version": "version",
    "wait": "waiting",
    "why": "why",
}
"""Verb -> the module of this package that has it."""


class _Lazy(click.Group):
    """Imports a verb's module when the verb is used: `version` must not pay for `up`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        found = getattr(importlib.import_module(f"reconciler.cli.{VERBS[cmd_name]}"), f"{cmd_name}_command")
        assert isinstance(found, click.Command)
        return found


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@state_option
@click.pass_context
def root(ctx: click.Context, state: str | None) -> None:
    """Keeps plain processes in the state that YAML manifests describe.

    Start with `reconciler up PATH`, then look with `reconciler status` and `reconciler get pools`.
    """
    ctx.obj = state

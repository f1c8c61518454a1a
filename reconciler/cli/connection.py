"""Which daemon a command talks to.

--state DIR  >  $RECONCILER_STATE  >  /var/lib/reconciler for root, $XDG_STATE_HOME/reconciler for others
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reconciler.client import Client

state_option: Callable[[Any], Any] = click.option(
    "--state", metavar="DIR", help="The daemon's state directory [env: RECONCILER_STATE]."
)


def state_dir(given: str | None) -> str:
    """The state directory, absolute. `given` is the command's own option; the group's stands behind it."""
    context = click.get_current_context(silent=True)
    chosen = given or (context.find_root().obj if context is not None else None) or os.environ.get("RECONCILER_STATE")
    if not chosen:
        chosen = "/var/lib/reconciler" if os.geteuid() == 0 else os.path.join(_state_home(), "reconciler")
    return os.path.abspath(chosen)


def connect(given: str | None) -> Client:
    """The daemon of that state directory; nothing is sent yet."""
    from reconciler.client import Client  # not for those who need no daemon

    return Client(os.path.join(state_dir(given), "run", "api.sock"))


def seconds(text: str | None, option: str) -> float | None:
    """Seconds of an option such as `--timeout 1m30s`."""
    if text is None:
        return None
    from reconciler.resources.units import duration_s

    try:
        return duration_s(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=option) from None


def _state_home() -> str:
    return os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")

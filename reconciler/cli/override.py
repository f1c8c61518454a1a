"""--override[=DURATION]: over what a watched source declares; the same words wherever it is an option."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def override_option(until: str, by_hand: str = "") -> Callable[[Any], Any]:
    """The option; `until`: what ends it without a duration; `by_hand`: how else it is ended."""
    return click.option(
        "--override",
        is_flag=False,
        flag_value="",
        metavar="[=DURATION]",
        help=f"Over what a watched source declares: until {until}, with =1h no longer than that.{by_hand}",
    )


field_override = override_option("that is changed there", " =0s ends it: what is declared holds again.")
"""Of a verb that sets a field."""


def ends(override: str | None) -> bool:
    """Whether it asks for the end of an override."""
    from reconciler.cli.connection import seconds

    return bool(override) and seconds(override, "--override") == 0

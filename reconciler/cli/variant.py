"""--overlay, --values and --set: which of the things that manifests can become is wanted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from reconciler.loading.variant import OVERLAYS, Tree, Variant, Wanted, has_overlay

if TYPE_CHECKING:
    from reconciler.loading.problem import Problem


def variant_of(wanted: Wanted, trees: Sequence[Tree]) -> tuple[Variant, list[Problem]]:
    """What the options say for these manifests, and what could not be read. Raises as `looked_at` does."""
    if wanted.overlay and not any(has_overlay(tree, wanted.overlay) for tree in trees):
        raise click.UsageError(f"there is no {OVERLAYS}/{wanted.overlay} in what was given")
    looked_at(wanted)
    return wanted.read()


def looked_at(wanted: Wanted) -> None:
    """Raises Invalid for a bad --set and UsageError for a file that is not there."""
    for path in wanted.values:
        if not os.path.isfile(path):
            raise click.UsageError(f"there is no file {path!r}")
    if wanted.sets:
        from reconciler.loading.values import parse_set

        for text in wanted.sets:
            parse_set(text)


def overlaid(wanted: Wanted, paths: Sequence[str]) -> None:
    """Raises UsageError for an overlay that none of these directories has."""
    if wanted.overlay and not any(os.path.isdir(os.path.join(path, OVERLAYS, wanted.overlay)) for path in paths):
        raise click.UsageError(f"there is no {OVERLAYS}/{wanted.overlay} in what was given")


def variant_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the three options; the command gets them as `wanted`."""

    @click.option("--overlay", metavar="NAME", default="", help="With what PATH/overlays/NAME changes.")
    @click.option("--values", multiple=True, metavar="FILE", help="Values on top of those of values.yaml; repeatable.")
    @click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="One value on top of all; repeatable.")
    @functools.wraps(command)
    def wrapped(*args: Any, overlay: str, values: tuple[str, ...], sets: tuple[str, ...], **kwargs: Any) -> Any:
        return command(*args, wanted=Wanted(overlay, values, sets), **kwargs)

    return wrapped

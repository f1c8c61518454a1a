"""Paths into JSON, the part of kubectl's jsonpath that scripts use. Pure.

{.metadata.name}   {.items[*].status.pid}   {.items[0]['spec']}   {.items[-1]}   text and {"\\n"} between
"""

from __future__ import annotations

import json
import re
from typing import Any

import click

_PIECE = re.compile(r"\{([^{}]*)\}")
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\.(\*)|\[(-?\d+)\]|\[(\*)\]|\['([^']*)'\]|\[\"([^\"]*)\"\]")


def render(template: str, value: Any) -> str:
    """The template with each path in braces replaced by what it finds, separated by blanks. Raises UsageError."""
    if "{" not in template:
        template = f"{{{template}}}"
    text = _PIECE.sub(lambda found: _piece(found.group(1).strip(), value), template)
    return text if text.endswith("\n") else text + "\n"


def find(path: str, value: Any) -> list[Any]:
    """Every value a path leads to; a name that is not there leads nowhere. Raises UsageError."""
    rest = path.removeprefix("$")
    if rest in ("", "."):
        return [value]
    if not rest.startswith((".", "[")):
        rest = f".{rest}"
    found, at = [value], 0
    while at < len(rest):
        step = _STEP.match(rest, at)
        if step is None:
            raise click.UsageError(f"jsonpath: {path!r} cannot be read from {rest[at:]!r} on")
        found = [inner for outer in found for inner in _take(outer, step)]
        at = step.end()
    return found


def _piece(piece: str, value: Any) -> str:
    if piece.startswith('"'):
        try:
            return str(json.loads(piece))
        except ValueError:
            raise click.UsageError(f"jsonpath: {piece} is no text in quotes") from None
    return " ".join(item if isinstance(item, str) else json.dumps(item) for item in find(piece, value))


def _take(value: Any, step: re.Match[str]) -> list[Any]:
    name, star, index, all_, quoted, double = step.groups()
    if star or all_:
        return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
    if index is not None:
        return value[int(index) :][:1] if isinstance(value, list) and -len(value) <= int(index) else []
    key = next(word for word in (name, quoted, double) if word is not None)
    return [value[key]] if isinstance(value, dict) and key in value else []

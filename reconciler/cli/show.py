"""How things are printed: tables as kubectl has them, ages, JSON, YAML, paths into JSON; nothing steers a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

GAP = "   "


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns three spaces apart, the last one as long as it is."""
    lines = [list(headers), *([escape(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headers))]
    return "".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago, in one or two units: 45s, 5m, 3h20m, 2d4h."""
    if not moment:
        return "-"
    then = datetime.fromisoformat(moment)
    return span(max(0.0, ((now or datetime.now(UTC)) - then).total_seconds()))


def until(moment: str, now: datetime | None = None) -> str:
    """How long it is until then: `in 12s`, or `now`."""
    left_s = (datetime.fromisoformat(moment) - (now or datetime.now(UTC))).total_seconds()
    return f"in {span(left_s)}" if left_s >= 1 else "now"


def span(seconds: float) -> str:
    """A length of time as kubectl writes it."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d{hours % 24}h" if days < 8 and hours % 24 else f"{days}d"


def escape(text: str) -> str:
    """The text with everything made visible that could steer a terminal or break a line."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


_STEERING = re.compile(r"[^\t\n\x20-\x7e\u00a0-\U0010ffff]|[\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)")


class Output:
    """Writes bytes of processes: as they are into a file or pipe, made harmless on a terminal."""

    def __init__(self, raw: bool = False, prefix: str = "") -> None:
        import codecs

        self._raw = raw or not sys.stdout.isatty()
        self._decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode
        self._prefix = prefix.encode()
        self._fresh = True

    def write(self, block: bytes) -> None:
        """One block, at once."""
        shown = block if self._raw else harmless(self._decode(block)).encode()
        sys.stdout.buffer.write(self._marked(shown) if self._prefix else shown)
        sys.stdout.buffer.flush()

    def _marked(self, block: bytes) -> bytes:
        """With the prefix before each line, wherever blocks are cut."""
        parts = []
        for line in block.splitlines(keepends=True):
            parts.append((self._prefix if self._fresh else b"") + line)
            self._fresh = line.endswith(b"\n")
        return b"".join(parts)


def harmless(text: str) -> str:
    """Text of a process for a terminal: escape sequences and the like are shown, not obeyed."""
    return _STEERING.sub(lambda found: found.group().encode("unicode_escape").decode(), text.replace("\r\n", "\n"))


def structured(value: Any, form: str) -> str:
    """JSON, YAML or what a path finds. Raises UsageError for another word."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        import yaml

        text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
        return text
    if form.startswith("jsonpath="):
        from reconciler.cli.jsonpath import render

        return render(form.removeprefix("jsonpath="), value)
    raise click.UsageError(f"-o {form}: json, yaml, wide, name or jsonpath=... were expected")

"""A YAML document: plain values, and for each the file, line and columns where it stands.

    value     {"spec": {"replicas": 3}}
    places    id of the map -> "replicas" -> (key, value), each a place packed into one number; found when asked for

A document may be put together of several files (an overlay) and of values computed while it was loaded; whatever is
said about a field is said of the file that wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reconciler.loading.problem import Problem, Severity, Span, field_path

Path = Sequence[str | int]

Places = dict[str | int, tuple[int, int]]
"""Of each item of a map or list where its key (in lists: the value) and its value stand, packed: see `packed`."""

_COLUMN_BITS = 21
_COLUMN_MASK = (1 << _COLUMN_BITS) - 1
"""Lines and columns are at most the bytes of a file."""
_FILE_SHIFT = 3 * _COLUMN_BITS

_LONGEST_SNIPPET = 1000
"""Of longer lines nothing is shown; longer messages are cut."""

_BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


class Text(NamedTuple):
    """A file as people see it: its path and its lines."""

    file: str
    lines: list[str]


@dataclass(slots=True, eq=False)
class Document:
    """One YAML document: its value, and where everything in it stands."""

    file: str
    value: Any
    line: int
    """Of its first key, from 1."""
    lines: list[str]
    """Of the whole file."""
    span: Span
    found: dict[int, Places] | None
    """See `places`; None as long as nobody has asked."""
    others: list[Text] = field(default_factory=list)
    """What was merged into it: a place with the file number n stands in the n-th of these, 0 is its own."""
    placed: Callable[[], Document] | None = None
    """The same document with its places, for one that was read without: nothing unusual is in it (see `quick`)."""

    @property
    def places(self) -> dict[int, Places]:
        """By the id of each map and list."""
        if self.found is None:
            self.found = {} if self.placed is None else _carried_over(self.placed(), self.value)
        return self.found

    def value_span(self, path: Path) -> Span:
        """Where the value at that path stands; the nearest parent's that exists if there is none."""
        places = self._find(path)
        return unpacked(places[-1][1]) if places else self.span

    def key_span(self, path: Path) -> Span:
        """Where the key at that path stands (of a list's item the item); the nearest parent's if there is none."""
        places = self._find(path)
        return unpacked(places[-1][0]) if places else self.span

    def best_span(self, path: Path) -> Span:
        """The value, if it is there and is no map or list; else the key, or the nearest parent's."""
        places = self._find(path)
        if not places:
            return self.span
        key_at, value_at = places[-1]
        scalar = len(places) == len(path) and not isinstance(self.get(path), dict | list)
        return unpacked(value_at if scalar else key_at)

    def text(self, path: Path) -> str:
        """The value at that path as it is written, when it stands in one line."""
        span, lines = self.value_span(path), self._source(path).lines
        return lines[span.line - 1][span.column - 1 : span.end_column - 1] if span.end_column > 0 else ""

    def item_text(self, parent: dict[str, Any], name: str) -> str:
        """As `text`, of a map that is at hand; empty for what other files have put into this document."""
        _, at = self.places.get(id(parent), {}).get(name, (0, 1 << _FILE_SHIFT))
        line, column, end_column = unpacked(at)
        return self.lines[line - 1][column - 1 : end_column - 1] if end_column > 0 and not at >> _FILE_SHIFT else ""

    def at(self, path: Path) -> str:
        """FILE:LINE:COLUMN of the value at that path."""
        span = self.value_span(path)
        return f"{self._source(path).file}:{span.line}:{span.column}"

    def get(self, path: Path) -> Any:
        """The value at that path, which must be there."""
        value: Any = self.value
        for step in path:
            value = value[step]
        return value

    def problem(
        self, span: Span, rule: str, path: Path, message: str, help: str = "", severity: Severity = "error"
    ) -> Problem:
        """A finding in this document, in the file that wrote the field or the nearest above it."""
        file, lines = self._source(path)
        return make_problem(file, lines, span, rule, message, field_path(path), help, severity)

    def _source(self, path: Path) -> Text:
        places = self._find(path)
        number = places[-1][1] >> _FILE_SHIFT if places else 0
        return self.others[number - 1] if number else Text(self.file, self.lines)

    def _find(self, path: Path) -> list[tuple[int, int]]:
        """The places along a path, as far as it goes."""
        value: Any = self.value
        found: list[tuple[int, int]] = []
        for step in path:
            here = self.places.get(id(value), {}).get(step)
            if here is None:
                break
            found.append(here)
            value = value[step]
        return found


def _carried_over(placed: Document, value: Any) -> dict[int, Places]:
    """The places in one document, of the equal value of another."""
    found: dict[int, Places] = {}
    pending = [(placed.value, value)]
    while pending:
        theirs, ours = pending.pop()
        if isinstance(theirs, dict | list):
            found[id(ours)] = placed.places[id(theirs)]
            pending += (
                zip(theirs.values(), ours.values(), strict=True)
                if isinstance(theirs, dict)
                else zip(theirs, ours, strict=True)
            )
    return found


def packed(line: int, column: int, end_column: int) -> int:
    """A span in one number: a hundred thousand tuples would cost a collection. An end of -1 is the end of the line."""
    end = _COLUMN_MASK if end_column < 0 else end_column - 1
    return (line - 1) << 2 * _COLUMN_BITS | (column - 1) << _COLUMN_BITS | end


def unpacked(at: int) -> Span:
    """The span of a place."""
    end_column = at & _COLUMN_MASK
    line, column = at >> 2 * _COLUMN_BITS & _COLUMN_MASK, at >> _COLUMN_BITS & _COLUMN_MASK
    return Span(line + 1, column + 1, -1 if end_column == _COLUMN_MASK else end_column + 1)


def numbered(at: int, file: int) -> int:
    """The place as one of the file with that number."""
    return at & ((1 << _FILE_SHIFT) - 1) | file << _FILE_SHIFT


def move(document: Document, where: Callable[[Span], Span], lines: list[str]) -> None:
    """Gives everything in a document the place that `where` has for it, in a file of these lines."""
    for places in document.places.values():
        for step, (key_at, value_at) in places.items():
            places[step] = (packed(*where(unpacked(key_at))), packed(*where(unpacked(value_at))))
    document.span, document.lines = where(document.span), lines
    document.line = document.span.line


def split_lines(text: str) -> list[str]:
    """The lines as YAML counts them."""
    return _BREAK.split(text)


def make_problem(
    file: str,
    lines: Sequence[str],
    span: Span,
    rule: str,
    message: str,
    path: str = "",
    help: str = "",
    severity: Severity = "error",
) -> Problem:
    """A finding in a file of these lines."""
    line, column, end_column = span
    snippet = lines[line - 1] if line <= len(lines) else ""
    if len(snippet) > _LONGEST_SNIPPET:
        snippet = ""
    if end_column < 0:
        end_column = max(column + 1, len(snippet.rstrip()) + 1)
    return Problem(
        file, line, column, max(end_column, column + 1), rule, _cut(message), _cut(path), _cut(help), snippet, severity
    )


def _cut(text: str) -> str:
    """A key or a tag may be a megabyte."""
    return text if len(text) <= _LONGEST_SNIPPET else text[:_LONGEST_SNIPPET] + "..."

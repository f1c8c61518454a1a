"""A Problem: one thing wrong with a manifest, where it stands and how to mend it.

web.yaml:12:13: error[type]: spec.replicas: expected a whole number, got 'three'
  12 |   replicas: three
     |             ^^^^^
   = help: write it as a number: replicas: 3
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from reconciler.resources.words import many

Severity = Literal["error", "warning"]

_LONGEST_SNIPPET = 160
"""Longer lines are cut around the token."""


class Span(NamedTuple):
    """A piece of one line: line and columns from 1, the end column exclusive."""

    line: int
    column: int
    end_column: int


START = Span(1, 1, 1)
"""What is said of a whole file stands at its beginning."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `path` is the field, such as spec.template.ports[0].name; empty when it is the file's."""

    file: str
    line: int
    column: int
    end_column: int
    rule: str
    message: str
    path: str = ""
    help: str = ""
    snippet: str = ""
    """The line it stands on."""
    severity: Severity = "error"

    def to_json(self) -> dict[str, Any]:
        """As the API hands it on."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "endColumn": self.end_column,
            "rule": self.rule,
            "message": self.message,
            "path": self.path,
            "help": self.help,
            "snippet": self.snippet,
            "severity": self.severity,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Problem:
        """What `to_json` gave."""
        return cls(**{"end_column" if name == "endColumn" else name: item for name, item in value.items()})


def in_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """By file, line and column."""
    return tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column, p.rule, p.message)))


def has_errors(problems: Iterable[Problem]) -> bool:
    """Whether any of them is more than a warning."""
    return any(problem.severity == "error" for problem in problems)


def render_concise(problem: Problem) -> str:
    """One line for scripts and editors."""
    return f"{_place(problem)}: {render_headless(problem)}"


def render_headless(problem: Problem) -> str:
    """What is wrong and how to mend it, for readers who know the place from elsewhere: `spec.replicas: expected ...`."""
    return _said(problem) + (f" ({escape(problem.help)})" if problem.help else "")


def render_full(problem: Problem) -> str:
    """The headline, the line with a caret under the exact token, and the help."""
    lines = [f"{_place(problem)}: {_said(problem)}"]
    if problem.snippet:
        number = f"{problem.line:>4}"
        shown, caret_at, width = _cut(problem)
        lines.append(f"{number} | {shown}")
        lines.append(f"{' ' * len(number)} | {' ' * caret_at}{'^' * width}")
    if problem.help:
        lines.append(f"   = help: {escape(problem.help)}")
    return "\n".join(lines)


def render_count(problems: Iterable[Problem]) -> str:
    """The closing line: `2 errors, 1 warning in 2 files`."""
    listed = list(problems)
    if not listed:
        return "no problems"
    errors = sum(problem.severity == "error" for problem in listed)
    parts = [many(count, word) for count, word in ((errors, "error"), (len(listed) - errors, "warning")) if count]
    return f"{', '.join(parts)} in {many(len({problem.file for problem in listed}), 'file')}"


def escape(text: str) -> str:
    """The text with everything that could steer a terminal or hide in it made visible."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def field_path(path: Iterable[str | int]) -> str:
    """('spec', 'ports', 0, 'name') -> `spec.ports[0].name`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def _place(problem: Problem) -> str:
    return f"{escape(problem.file)}:{problem.line}:{problem.column}: {problem.severity}[{problem.rule}]"


def _said(problem: Problem) -> str:
    return (f"{escape(problem.path)}: " if problem.path else "") + escape(problem.message)


def _cut(problem: Problem) -> tuple[str, int, int]:
    """The line as it is shown, the cells before the caret, and the caret's width."""
    line, start = problem.snippet, problem.column - 1
    end = max(problem.end_column - 1, start + 1)
    if len(line) > _LONGEST_SNIPPET:
        first = max(0, start - _LONGEST_SNIPPET // 2)
        line = line[first : first + _LONGEST_SNIPPET]
        start, end = start - first, min(end - first, _LONGEST_SNIPPET)
    before, token = escape(line[:start].replace("\t", " ")), escape(line[start:end].replace("\t", " "))
    return before + token + escape(line[end:].replace("\t", " ")), _cells(before), max(1, _cells(token))


def _cells(text: str) -> int:
    """How wide a terminal shows it."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )

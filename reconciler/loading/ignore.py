"""Warnings that a manifest's author has looked at and wants to hear no more of.

    ports: [{name: http, base: 40000}]     # reconciler: ignore[ephemeral-port]     of this line

    # reconciler: ignore[plain-secret, ephemeral-port]                              of the next line
    env: [{name: TOKEN, value: public}]

Only warnings can be silenced: an error is what the daemon refuses. A comment that silences nothing is a warning itself,
so that none outlives its reason.
"""

from __future__ import annotations

import bisect
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from reconciler.loading.parse import MAX_PROBLEMS, SourceFile
from reconciler.loading.problem import Problem
from reconciler.loading.rules import RULES

_MARK = re.compile(r"(?:^|(?<=\s))#\s*reconciler:\s*ignore\b\s*(\[[^\]#]*\]?)?")
_HINT = b"reconciler:"


class _Ignore(NamedTuple):
    """One rule of one comment."""

    line: int
    """Where the comment stands, from 1."""
    column: int
    end_column: int
    target: int
    """The line it is about."""
    rule: str


def without_ignored(files: Iterable[SourceFile], problems: Sequence[Problem]) -> list[Problem]:
    """The problems that are left, and what is wrong with the comments themselves."""
    marked = {file.path: file for file in files if _HINT in file.data}
    broken = {problem.file for problem in problems if problem.severity == "error"}
    left = [problem for problem in problems if problem.file not in marked]
    for path, file in marked.items():
        left += _of_file(file, [problem for problem in problems if problem.file == path], path in broken)
    return left


def _of_file(file: SourceFile, problems: Sequence[Problem], broken: bool) -> Iterator[Problem]:
    try:
        lines = file.data.decode().removeprefix("\ufeff").splitlines()
        ignores = list(_ignores(lines))
    except (UnicodeDecodeError, yaml.YAMLError):
        yield from problems  # the text itself is one of them
        return
    meant = {(one.target, one.rule) for one in ignores}
    used: set[tuple[int, str]] = set()
    for problem in problems:
        place = (problem.line, problem.rule)
        if place not in meant or problem.severity == "error":
            yield problem
        used.add(place)
    for one in ignores[:MAX_PROBLEMS]:
        if said := _wrong(one, (one.target, one.rule) in used, broken):
            message, help = said
            snippet = lines[one.line - 1]
            yield Problem(
                file.path, one.line, one.column, one.end_column, "ignore", message, "", help,
                snippet if len(snippet) <= 1000 else "", "warning",
            )  # fmt: skip


def _wrong(one: _Ignore, used: bool, broken: bool) -> tuple[str, str] | None:
    """Message and help for a comment that does not do what it says."""
    if not one.rule:
        return "no rule is named", "write ignore[RULE]"
    rule = RULES.get(one.rule)
    if rule is None:
        close = difflib.get_close_matches(one.rule, RULES, 1)
        return f"there is no rule {one.rule[:60]!r}", f"did you mean {close[0]}?" if close else "see reconciler explain"
    if not rule.can_be_ignored:
        return f"{one.rule} is an error and cannot be ignored: the daemon refuses it, too", "remove the comment"
    if not used and not broken:  # with errors about, not every warning was looked for
        return f"there is no {one.rule} to ignore in line {one.target}", "remove the comment"
    return None


def _ignores(lines: Sequence[str]) -> Iterator[_Ignore]:
    inside = _Scalars(lines)
    after = _next_lines(lines)
    for number, line in enumerate(lines, 1):
        if "reconciler:" not in line:
            continue
        for found in _MARK.finditer(line):
            if inside.covers(number - 1, found.start()):
                continue
            alone = not line[: found.start()].strip()
            target = after[number - 1] if alone else number
            for rule in (found.group(1) or "").strip("[]").split(","):
                yield _Ignore(number, found.start() + 1, found.end() + 1, target, rule.strip())


def _next_lines(lines: Sequence[str]) -> list[int]:
    """Of each line the next one that says something; 1 where none does: what is said of a whole file stands there."""
    found: list[int] = []
    following = 1
    for number in range(len(lines), 0, -1):
        found.append(following)
        text = lines[number - 1].strip()
        if text and text != "---" and not text.startswith("#"):
            following = number
    return found[::-1]


class _Scalars:
    """Where text is a value, so that a # in it is no comment: libyaml tells of values only."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._starts: list[tuple[int, int]] = []
        self._ends: list[tuple[int, int]] = []
        for event in yaml.parse("\n".join(lines), Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.ScalarEvent):
                start: Any = event.start_mark
                end: Any = event.end_mark
                # the line with the | of a block may have a comment
                first = (start.line + 1, 0) if event.style in ("|", ">") else (start.line, start.column)
                self._starts.append(first)
                self._ends.append((end.line, end.column))

    def covers(self, line: int, column: int) -> bool:
        """Whether that place, from 0, is part of a value."""
        before = bisect.bisect_right(self._starts, (line, column)) - 1
        return before >= 0 and (line, column) < self._ends[before]

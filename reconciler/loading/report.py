"""What was found, in the form that its reader takes: people, scripts, code hosts, CI systems.

    full, concise    people, editors          json      scripts
    github           annotations of a run     gitlab    the code quality report of a merge request
    sarif            code scanning            junit     any CI that shows tests

Everything that comes from a manifest is escaped: no file can steer a terminal or forge a line of a report.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.loading.problem import (
    Problem,
    escape,
    has_errors,
    in_order,
    render_concise,
    render_count,
    render_full,
    render_headless,
)
from reconciler.loading.rules import RULES, Rule
from reconciler.resources.words import many


@dataclass(frozen=True, slots=True)
class Report:
    """One run of `validate`."""

    files: Sequence[str]
    """That were looked at."""
    objects: int
    """That are valid, when nothing is an error."""
    problems: Sequence[Problem]
    version: str = ""
    """Of this program."""
    root: str = ""
    """The directory that the reader's paths are relative to; files below it are named from there."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "problems", in_order(self.problems))

    @property
    def errors(self) -> int:
        """How many of them are more than warnings."""
        return sum(problem.severity == "error" for problem in self.problems)

    def relative(self, path: str) -> str:
        """The path as the code host knows it."""
        return path.removeprefix(self.root.rstrip("/") + "/").removeprefix("./") if self.root else path


def render(report: Report, form: str) -> str:
    """The whole report, with its last line's end."""
    return FORMATS[form](report)


def full(problems: Sequence[Problem]) -> str:
    """Each problem with its line, a caret and its help."""
    return "".join(render_full(problem) + "\n\n" for problem in problems)


def _full(report: Report) -> str:
    valid = f"{many(report.objects, 'object')} valid; "
    return f"{full(report.problems)}{'' if has_errors(report.problems) else valid}{render_count(report.problems)}\n"


def _concise(report: Report) -> str:
    return "".join(render_concise(problem) + "\n" for problem in report.problems)


def _json(report: Report) -> str:
    return _dumped(
        {
            "valid": not report.errors,
            "files": len(report.files),
            "objects": report.objects,
            "errors": report.errors,
            "warnings": len(report.problems) - report.errors,
            "problems": [problem.to_json() for problem in report.problems],
        }
    )


def _github(report: Report) -> str:
    return "".join(_annotation(report, problem) + "\n" for problem in report.problems)


def _annotation(report: Report, problem: Problem) -> str:
    places = {
        "file": report.relative(problem.file),
        "line": problem.line,
        "endLine": problem.line,
        "col": problem.column,
        "endColumn": problem.end_column,
        "title": f"reconciler {problem.rule}",
    }
    where = ",".join(f"{name}={_property(str(value))}" for name, value in places.items())
    return f"::{problem.severity} {where}::{_percent(render_headless(problem))}"


def _percent(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _percent(escape(text)).replace(":", "%3A").replace(",", "%2C")


def _gitlab(report: Report) -> str:
    seen: Counter[str] = Counter()
    return _dumped([_quality(report, problem, seen) for problem in report.problems])


def _quality(report: Report, problem: Problem, seen: Counter[str]) -> dict[str, Any]:
    # without the line: what moves down by an edit above is not a new finding
    said = "\0".join((report.relative(problem.file), problem.rule, problem.path, problem.message))
    seen[said] += 1
    return {
        "description": render_headless(problem),
        "check_name": problem.rule,
        "fingerprint": hashlib.sha256(f"{said}\0{seen[said]}".encode(errors="surrogateescape")).hexdigest(),
        "severity": "major" if problem.severity == "error" else "minor",
        "location": {"path": escape(report.relative(problem.file)), "lines": {"begin": problem.line}},
    }


def _sarif(report: Report) -> str:
    ids = sorted({problem.rule for problem in report.problems})
    index = {id: at for at, id in enumerate(ids)}
    driver: dict[str, Any] = {"name": "reconciler", "rules": [_sarif_rule(id, RULES.get(id)) for id in ids]}
    if report.version:
        driver["version"] = report.version
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(report, problem, index) for problem in report.problems],
    }
    return _dumped({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]})


_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def _sarif_rule(id: str, rule: Rule | None) -> dict[str, Any]:
    if rule is None:
        return {"id": id}
    return {
        "id": id,
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.mend},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"tags": [rule.layer.value]},
    }


def _sarif_result(report: Report, problem: Problem, index: dict[str, int]) -> dict[str, Any]:
    region: dict[str, Any] = {
        "startLine": problem.line,
        "startColumn": problem.column,
        "endLine": problem.line,
        "endColumn": problem.end_column,
    }
    if problem.snippet:
        region["snippet"] = {"text": escape(problem.snippet)}
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": _uri(report.relative(problem.file))}, "region": region}
    }
    if problem.path:
        place["logicalLocations"] = [{"fullyQualifiedName": escape(problem.path)}]
    return {
        "ruleId": problem.rule,
        "ruleIndex": index[problem.rule],
        "level": problem.severity,
        "message": {"text": render_headless(problem)},
        "locations": [place],
    }


def _uri(path: str) -> str:
    letters = (chr(byte) for byte in path.encode(errors="surrogateescape"))
    quoted = "".join(letter if letter in _IN_URI else f"%{ord(letter):02X}" for letter in letters)
    return f"file://{quoted}" if path.startswith("/") else quoted


_IN_URI = frozenset(string.ascii_letters + string.digits + "/-._~")


def _junit(report: Report) -> str:
    """A test case a file, failed by its errors; warnings stand in its output."""
    by_file: dict[str, list[Problem]] = {file: [] for file in report.files}
    for problem in report.problems:
        by_file.setdefault(problem.file, []).append(problem)
    cases = [_case(report.relative(file), problems) for file, problems in by_file.items()]
    counts = f'tests="{len(cases)}" failures="{sum(map(has_errors, by_file.values()))}" errors="0"'
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites {counts}>\n"
        f'<testsuite name="reconciler validate" {counts} skipped="0" time="0">\n'
        f"{''.join(cases)}</testsuite>\n</testsuites>\n"
    )


def _case(file: str, problems: Sequence[Problem]) -> str:
    opening = f'<testcase name="{_xml(file)}" classname="reconciler.validate" time="0"'
    errors = [problem for problem in problems if problem.severity == "error"]
    warnings = [problem for problem in problems if problem.severity != "error"]
    inner = ""
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        text = "\n".join(map(render_full, errors))
        inner += (
            f'<failure message="{_xml(render_concise(errors[0]) + more)}" type="{errors[0].rule}">\n'
            f"{_xml(text)}\n</failure>\n"
        )
    if warnings:
        inner += "<system-out>\n" + _xml("\n".join(map(render_full, warnings))) + "\n</system-out>\n"
    return f"{opening}>\n{inner}</testcase>\n" if inner else f"{opening}/>\n"


def _xml(text: str) -> str:
    from html import escape as quote

    return quote("\n".join(map(escape, text.split("\n"))))


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    "full": _full,
    "concise": _concise,
    "json": _json,
    "github": _github,
    "gitlab": _gitlab,
    "junit": _junit,
    "sarif": _sarif,
}
"""By the word on the command line."""

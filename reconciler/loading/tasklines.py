"""A file of tasks, one a line as JSON: all that is wrong with it, before the first of them is submitted.

{"command": ["a"], "priorty": 200}   ->   tasks.jsonl:3: priorty: there is no such field (did you mean priority?)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reconciler.loading.problem import escape
from reconciler.loading.wording import said
from reconciler.resources.task import Submission

_LINE = TypeAdapter(Submission)
_EXAMPLE = 'a line is {"command": ["PROGRAM", "ARGUMENT"], ...}'


def wrong(lines: Iterable[bytes], file: str) -> Iterator[str]:
    """FILE:LINE: field: what is wrong (what to do), of every line that is no task; empty lines count as none."""
    check = _LINE.validate_json
    for number, line in enumerate(lines, 1):
        if line.isspace():
            continue
        try:
            check(line)
        except ValidationError as error:
            for item in error.errors(include_url=False):
                yield escape(f"{file}:{number}: {_said(item)}")


def _said(error: Any) -> str:
    example = f" ({_EXAMPLE})" if error["type"] in ("missing", "json_invalid", "model_type") else ""
    return said(error, Submission) + example

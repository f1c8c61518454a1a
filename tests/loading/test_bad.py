"""Manifests that are broken in one way each: their first comment is the exact message expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import render_concise, render_full
from reconciler.loading.validate import load

BAD = sorted(Path(__file__).with_name("bad").glob("*.yaml"))


def expected(file: Path) -> list[str]:
    """The messages in the first lines of a broken manifest."""
    lines = file.read_text().splitlines()
    return [line.removeprefix("# ") for line in lines if line.startswith(f"# {file.name}:")]


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_broken_manifest_is_refused_with_the_exact_place_and_words(file: Path) -> None:
    result = load([SourceFile(file.name, file.read_bytes())])

    assert expected(file)
    assert [render_concise(problem) for problem in result.problems] == expected(file)
    assert not result.valid


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_the_caret_stands_under_the_token_that_is_meant(file: Path) -> None:
    for problem in load([SourceFile(file.name, file.read_bytes())]).problems:
        line = [*file.read_text().splitlines(), ""][problem.line - 1]
        assert problem.snippet == (line if len(line) <= 1000 else "")
        assert problem.column < problem.end_column <= len(line) + 2
        assert not problem.snippet or "^" in render_full(problem).splitlines()[2]


def test_all_errors_of_all_files_come_at_once_and_in_order() -> None:
    files = [SourceFile(file.name, file.read_bytes()) for file in reversed(BAD)]

    problems = load(files).problems

    assert {problem.file for problem in problems} == {file.name for file in BAD}
    assert list(problems) == sorted(problems, key=lambda p: (p.file, p.line, p.column))

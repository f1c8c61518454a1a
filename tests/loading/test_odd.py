"""Manifests that are valid and odd in one way each: their first comments are the exact warnings."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.loading import render
from reconciler.loading.files import scan
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import render_concise, render_full
from reconciler.loading.rules import RULES, Layer
from reconciler.loading.validate import load
from reconciler.loading.variant import Tree

ROOT = Path(__file__).parents[2]
ODD = sorted(Path(__file__).with_name("odd").glob("*.yaml"))


@pytest.mark.parametrize("file", ODD, ids=lambda file: file.stem)
def test_an_odd_manifest_is_valid_and_warned_of_with_the_exact_place_and_words(file: Path) -> None:
    expected = [line.removeprefix("# ") for line in file.read_text().splitlines() if line.startswith(f"# {file.name}:")]
    result = load([SourceFile(file.name, file.read_bytes())])

    assert [render_concise(problem) for problem in result.problems] == expected
    assert result.valid and len(result.objects) == 1
    for problem in result.problems:
        assert (problem.rule == "plain-secret") or "^" in render_full(problem).splitlines()[2]


def test_a_warning_of_a_secret_does_not_spread_it() -> None:
    for file in ODD:
        for problem in load([SourceFile(file.name, file.read_bytes())]).problems:
            assert "hunter2" not in str(problem.to_json()) + render_full(problem)


def test_every_lint_is_tried() -> None:
    tried = {
        line.split("[")[1].split("]")[0] for file in ODD for line in file.read_text().splitlines() if "warning[" in line
    }

    assert tried == {rule.id for rule in RULES.values() if rule.layer is Layer.LINT} - {"empty"}


SHIPPED = [ROOT / "manifests", *sorted((ROOT / "examples").iterdir())]


@pytest.mark.parametrize("place", SHIPPED, ids=lambda place: place.name)
def test_what_is_shipped_has_nothing_to_warn_of(place: Path) -> None:
    root = str(place / "manifests" if (place / "manifests").is_dir() else place)
    found = scan(root)
    result = render.load([Tree(root, found.files)], found.variant)

    assert [render_concise(problem) for problem in (*found.problems, *result.problems)] == []

"""Every rule is explained by examples that are themselves true, and nothing is said under an unknown rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.loading.parse import SourceFile
from reconciler.loading.render import load
from reconciler.loading.rules import RULES, Layer, Rule, as_file
from reconciler.loading.variant import Tree, Variant

PACKAGE = Path(__file__).parents[2] / "reconciler"
SAYS = {"Finding", "Problem", "problem", "_problem", "report", "_Stop", "_Unread", "BadValue"}
"""What makes a finding; the rule is the first argument that looks like an id."""


def rules_of(text: str) -> list[str]:
    return [problem.rule for problem in load([Tree("", [SourceFile("a.yaml", text.encode())])], Variant()).problems]


@pytest.mark.parametrize("rule", [rule for rule in RULES.values() if rule.wrong], ids=lambda rule: rule.id)
def test_the_wrong_example_of_a_rule_breaks_that_rule_and_the_right_one_breaks_none(rule: Rule) -> None:
    assert set(rules_of(as_file(rule.wrong))) == {rule.id}
    assert rules_of(as_file(rule.right)) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.id)
def test_a_rule_says_what_why_and_the_mend(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.id)
    assert rule.what and rule.why.endswith(".") and rule.mend.endswith(".")
    assert rule.wrong or rule.layer in (Layer.FILE, Layer.LINT)


def said(tree: ast.AST) -> Iterator[str]:
    """The rule ids that a file's findings are made with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            if name in SAYS:
                words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                yield from [word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)*", word)][:1]


def test_nothing_is_found_under_a_rule_that_cannot_be_explained() -> None:
    found = {
        (word, str(file.relative_to(PACKAGE)))
        for part in ("loading", "resources")
        for file in (PACKAGE / part).rglob("*.py")
        for word in said(ast.parse(file.read_text()))
    }

    assert len({word for word, _ in found}) > 30
    assert sorted(item for item in found if item[0] not in RULES) == []
